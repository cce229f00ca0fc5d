//! An independent checker of live HLS: reads any stream as a player does and says which rules it breaks, with their
//! clauses.
//!
//! It is written against the specifications alone and uses nothing else of this crate, so that a mistake of the packager
//! is not made here again; `tests/imports.rs` holds that. Parsing, rules and the audit are pure; the driver
//! fetches.

pub mod audit;
mod client;
mod driver;
mod finding;
mod inspector;
pub mod media;
pub mod playlist;
pub mod reference;
mod report;
mod rule;
pub mod rules;
#[cfg(test)]
mod testing;

pub use driver::run;
pub use finding::{Finding, Findings};
pub use inspector::{Inspector, Violation};
pub use report::{Broken, Checked, Place, Report};
pub use rule::{Level, Rule};
