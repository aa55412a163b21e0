//! Header fields, both ways.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bondgate::fuzzing::fields(data));
