//! The program: arguments, tracing, signals.

fn main() {}
