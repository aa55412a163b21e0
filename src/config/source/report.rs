//! What is found in a configuration: faults, warnings and the values in force.

use std::fmt;

use toml::Value;

use super::document::{Document, Origin};
use super::key_path::KeyPath;

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the key is set.
    pub origin: Origin,
    /// The key; empty for the whole configuration.
    pub key: KeyPath,
    /// What is wrong, and what to write instead. Never quotes a secret.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if self.key != KeyPath::default() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Every fault of a configuration, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// A value in force, as `bondgate check --print` shows it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: KeyPath,
    /// The value as TOML; redacted if it is a secret.
    pub value: String,
    /// Where it is set.
    pub origin: Origin,
}

/// Faults and warnings, collected while a document is read and validated.
pub(in crate::config) struct Report {
    pub(in crate::config) document: Document,
    pub(in crate::config) faults: Vec<Fault>,
    pub(in crate::config) warnings: Vec<String>,
}

impl Report {
    pub(in crate::config) fn fault(&mut self, key: &KeyPath, what: impl Into<String>) {
        let fault = self.located(key, what.into());
        self.faults.push(fault);
    }

    pub(in crate::config) fn warn(&mut self, key: &KeyPath, what: impl Into<String>) {
        let warning = self.located(key, what.into()).to_string();
        self.warnings.push(warning);
    }

    /// The faults, in the order of the file.
    pub(in crate::config) fn into_error(mut self) -> ConfigError {
        self.faults.sort_by_key(|fault| match &fault.origin {
            Origin::File { line, .. } => *line,
            _ => usize::MAX,
        });
        ConfigError { faults: self.faults }
    }

    /// Every value of the document, secrets redacted.
    pub(in crate::config) fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.list_settings(&KeyPath::default(), self.document.root(), &mut settings);
        settings
    }

    fn list_settings(&self, key: &KeyPath, value: &Value, settings: &mut Vec<Setting>) {
        let holds_secret = ["client_id", "client_secret", "proxy", "keys"].contains(&key.name());
        match value {
            Value::Table(table) if !holds_secret => {
                for (name, value) in table {
                    self.list_settings(&key.key(name), value, settings);
                }
            }
            Value::Array(list) if *key == KeyPath::from("listener") => {
                for (index, value) in list.iter().enumerate() {
                    self.list_settings(&key.item(index), value, settings);
                }
            }
            _ => settings.push(Setting {
                key: key.clone(),
                value: match value {
                    Value::String(_) if holds_secret && key.name() != "client_id" => "[redacted]".to_owned(),
                    shown => shown.to_string(),
                },
                origin: self.document.origin(key),
            }),
        }
    }

    fn located(&self, key: &KeyPath, what: String) -> Fault {
        Fault {
            origin: self.document.origin(key),
            key: key.clone(),
            what,
        }
    }
}
