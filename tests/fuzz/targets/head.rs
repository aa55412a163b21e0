//! What comes first on a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bondgate::fuzzing::head(data));
