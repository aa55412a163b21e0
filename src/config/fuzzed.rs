//! What holds for every configuration text, for the fuzzer and for the replay of its findings.

use super::root::Config;

/// A text is a configuration, or has faults that say what to do.
pub fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text, "fuzzed.toml", []) {
        Ok(config) => assert!(!config.upstreams.is_empty() && !config.listeners.is_empty()),
        Err(error) => {
            assert!(!error.faults.is_empty());
            assert!(error.faults.iter().all(|fault| !fault.problem.cause().is_empty()));
        }
    }
}
