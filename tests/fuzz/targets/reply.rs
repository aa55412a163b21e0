//! Replies of the identity service.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bondgate::fuzzing::reply(data));
