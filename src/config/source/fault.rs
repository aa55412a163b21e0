//! Faults of a configuration, and where they are.

use std::fmt;

use super::key_path::KeyPath;
use crate::problems::{Problem, configuration};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// bondgate's own default.
    Default,
    /// The preset of this name.
    Preset(String),
    /// A line of the configuration file.
    File {
        /// The path of the file, as given.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// A problem of a configuration and its place: a fault, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the key is set.
    pub origin: Origin,
    /// The key; empty for the whole configuration.
    pub key: KeyPath,
    /// What is wrong, and what to write instead. Never quotes a secret.
    pub problem: Problem,
}

impl Fault {
    /// A fault of no single key.
    pub(in crate::config) fn at(origin: Origin, problem: Problem) -> Self {
        let key = KeyPath::default();
        Self { origin, key, problem }
    }
}

/// The problem of a value, from a text "what is wrong; what to write".
pub(in crate::config) fn wrong_value(text: &str) -> Problem {
    if let Some((wrong, form)) = text.split_once("; ") {
        return configuration::value_wrong(wrong, form);
    }
    match text.split_once(", expected ") {
        Some((wrong, form)) => configuration::value_wrong(wrong, format!("write {form}")),
        None => configuration::value_wrong(text, "correct it"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if self.key != KeyPath::default() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{} [{}]", self.problem, self.problem.code())
    }
}
