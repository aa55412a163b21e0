//! Paths and the rules for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bondgate::fuzzing::path(data));
