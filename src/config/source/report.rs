//! What is found in a configuration: faults, warnings and the values in force.

use toml::Value;

use super::document::Document;
use super::fault::{Fault, Origin};
use super::key_path::KeyPath;
use crate::problems::Problem;

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
    pub(in crate::config) warnings: Vec<Fault>,
    /// Keys whose value was left out, or replaced by a stand-in.
    pub(in crate::config) corrected: Vec<KeyPath>,
    /// Whether there is a syntax error.
    pub(in crate::config) is_broken: bool,
}

impl Report {
    /// A report on TOML text, with its syntax errors.
    pub(in crate::config) fn new(text: &str, file: &str) -> Self {
        let (document, faults) = Document::parse(text, file);
        Self {
            document,
            is_broken: !faults.is_empty(),
            faults,
            warnings: Vec::new(),
            corrected: Vec::new(),
        }
    }

    /// Whether the value of a key, or of one above or below it, was at fault and is left out or has a stand-in.
    pub(in crate::config) fn is_corrected(&self, key: &KeyPath) -> bool {
        let mut corrected = self.corrected.iter();
        corrected.any(|other| key.is_within(other) || other.is_within(key))
    }

    /// Reports a fault that may follow from a syntax error: after one, it is left out.
    pub(super) fn fault_unless_broken(&mut self, key: &KeyPath, problem: Problem) {
        if !self.is_broken {
            self.fault(key, problem);
        }
    }

    pub(in crate::config) fn fault(&mut self, key: &KeyPath, problem: Problem) {
        let fault = self.located(key, problem);
        self.faults.push(fault);
    }

    pub(in crate::config) fn warn(&mut self, key: &KeyPath, problem: Problem) {
        let warning = self.located(key, problem);
        self.warnings.push(warning);
    }

    /// Every value of the document, secrets redacted.
    pub(in crate::config) fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.list_settings(&KeyPath::default(), self.document.root(), &mut settings);
        settings
    }

    fn list_settings(&self, key: &KeyPath, value: &Value, settings: &mut Vec<Setting>) {
        // At this depth, the name is that of a key and not of an upstream.
        let holds_secret = key.segments().len() == 3
            && ["client_id", "client_secret", "proxy", "keys"].contains(&key.name());
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
                    Value::String(url) if key.name().ends_with("url") => without_query(url),
                    shown => shown.to_string(),
                },
                origin: self.document.origin(key),
            }),
        }
    }

    fn located(&self, key: &KeyPath, problem: Problem) -> Fault {
        let (origin, key) = (self.document.origin(key), key.clone());
        Fault { origin, key, problem }
    }
}

/// A URL as TOML. A query may hold credentials, as one that was pasted from a manual does.
fn without_query(url: &str) -> String {
    let shown = match url.split_once('?') {
        None | Some((_, "" | "grant_type=client_credentials")) => url.to_owned(),
        Some((before, _)) => format!("{before}?[redacted]"),
    };
    Value::from(shown).to_string()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_query_of_a_url_is_shown_only_if_it_holds_no_credentials() {
        for (query, shown) in [
            ("", "https://id.example/token"),
            (
                "?grant_type=client_credentials",
                "https://id.example/token?grant_type=client_credentials",
            ),
            (
                "?client_id=a&client_secret=hunter2",
                "https://id.example/token?[redacted]",
            ),
        ] {
            let text = format!(
                "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n\
                 token_url = \"https://id.example/token{query}\"\n"
            );
            let settings = Config::parse(&text, "f", []).unwrap().settings;
            let mut settings = settings.iter();
            let setting = settings
                .find(|setting| setting.key.name() == "token_url")
                .unwrap();
            assert_eq!(setting.value, format!("\"{shown}\""));
        }
    }

    #[test]
    fn settings_show_no_secret_whatever_the_name_of_the_upstream() {
        for name in ["cisco", "proxy", "keys", "client_id"] {
            let text = format!(
                "[upstream.{name}]\npreset = \"smart-bonding-stage\"\nclient_id = \"shown\"\nclient_secret = \"hunter2\"\n\
                 proxy = \"http://user:hunter2@proxy\"\n"
            );
            let settings = format!("{:?}", Config::parse(&text, "f", []).unwrap().settings);
            assert!(
                settings.contains("shown") && !settings.contains("hunter2"),
                "{settings}"
            );
        }
    }
}
