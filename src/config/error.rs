//! Why there is no configuration: every fault, and what can be read in spite of them.

use std::fmt;

use super::root::Config;
use super::source::{Fault, KeyPath, Origin, Setting};

/// Every fault of a configuration, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
    /// The configuration with wrong values left out, so that a check finds its other faults. `None` after an error of
    /// syntax, whose effects are unknown.
    pub config: Option<Box<Config>>,
    /// The keys that were left out or have a stand-in: nothing that is found there means anything.
    corrected: Vec<KeyPath>,
}

impl ConfigError {
    /// The error for these faults, which it sorts.
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| match &fault.origin {
            Origin::File { line, .. } => *line,
            _ => usize::MAX,
        });
        Self {
            faults,
            config: None,
            corrected: Vec::new(),
        }
    }

    /// The same with a configuration that has corrected values in these keys.
    pub(super) fn corrected(faults: Vec<Fault>, mut config: Config, corrected: Vec<KeyPath>) -> Self {
        let mut error = Self::new(faults);
        error.corrected = corrected;
        let warnings = std::mem::take(&mut config.warnings);
        config.warnings = error.beside(warnings);
        error.config = Some(Box::new(config));
        error
    }

    /// The values that can be read in spite of the faults, secrets redacted.
    pub(crate) fn settings(&self) -> Vec<&Setting> {
        let settings = self.config.iter().flat_map(|config| &config.settings);
        settings
            .filter(|setting| !self.is_corrected(&setting.key))
            .collect()
    }

    /// Those of further faults or warnings that do not follow from a corrected key.
    pub(crate) fn beside(&self, mut found: Vec<Fault>) -> Vec<Fault> {
        found.retain(|fault| fault.key == KeyPath::default() || !self.is_corrected(&fault.key));
        found
    }

    /// Whether the value of a key, or of one above or below it, was at fault and is left out or has a stand-in.
    fn is_corrected(&self, key: &KeyPath) -> bool {
        let mut corrected = self.corrected.iter();
        corrected.any(|other| key.is_within(other) || other.is_within(key))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
