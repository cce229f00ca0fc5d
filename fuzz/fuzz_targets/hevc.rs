#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| headwater::ingest::fuzzing::hevc(bytes));
