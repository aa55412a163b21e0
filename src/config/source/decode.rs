//! Decodes a document into a [`Config`], and reports every fault at once.
//!
//! serde stops at the first error. That error is reported and its key is corrected, by the default or by a
//! stand-in, and the document is decoded again. The result is used only if there was no fault.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::document::{Document, Origin};
use super::key_path::KeyPath;
use super::report::Report;
use crate::config::presets;
use crate::config::root::Config;

/// Decodes the report's document, and completes it with presets and defaults. After a syntax error, missing and
/// unknown keys are not reported: they may follow from it.
pub(in crate::config) fn decode(report: &mut Report, is_broken: bool) -> Option<Config> {
    let mut decoder = Decoder {
        report,
        is_broken,
        misspelled: BTreeSet::new(),
        replaced: BTreeSet::new(),
    };
    loop {
        let document = with_defaults(&decoder.report.document);
        let error = match serde_path_to_error::deserialize(document.root().clone()) {
            Ok(config) => {
                decoder.report.document = document;
                return Some(config);
            }
            Err(error) => error,
        };
        let key = KeyPath::from(error.path());
        let message: &toml::de::Error = error.inner();
        if !decoder.correct(&key, message.message().trim()) {
            return None;
        }
    }
}

/// The document with every value that it leaves out, by its presets and by default.
fn with_defaults(document: &Document) -> Document {
    let mut document = document.clone();
    let mut defaults: Table =
        toml::from_str(include_str!("../defaults.toml")).expect("the defaults are TOML");
    let mut take = |name| match defaults.remove(name) {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    };
    let (upstream, listener) = (take("upstream"), take("listener"));
    for name in upstream_names(&document) {
        let key = KeyPath::upstream(&name);
        let preset = document.get(&key.key("preset")).and_then(Value::as_str);
        if let Some((name, preset)) = preset.and_then(presets::find) {
            document.fill(&key, &preset.upstream, &Origin::Preset(name));
        }
        document.fill(&key, &upstream, &Origin::Default);
    }
    let listeners = document.get(&"listener".into()).cloned();
    match listeners.unwrap_or(Value::Array(Vec::new())) {
        Value::Array(list) if list.is_empty() => {
            document.fill(&KeyPath::listener(0), &listener, &Origin::Default);
        }
        Value::Array(list) => {
            for index in (0..list.len()).filter(|index| list[*index].is_table()) {
                document.fill(&KeyPath::listener(index), &listener, &Origin::Default);
            }
        }
        _ => {}
    }
    document.fill(&KeyPath::default(), &defaults, &Origin::Default);
    document
}

fn upstream_names(document: &Document) -> Vec<String> {
    let table = document.get(&"upstream".into()).and_then(Value::as_table);
    let named = table.into_iter().flatten().filter(|(_, value)| value.is_table());
    named.map(|(name, _)| name.clone()).collect()
}

struct Decoder<'a> {
    report: &'a mut Report,
    is_broken: bool,
    /// Keys that are missing because they are misspelled, which is reported.
    misspelled: BTreeSet<KeyPath>,
    /// Keys that have a stand-in.
    replaced: BTreeSet<KeyPath>,
}

impl Decoder<'_> {
    /// Reports an error of serde, and corrects its key. Returns whether the document has changed.
    fn correct(&mut self, key: &KeyPath, message: &str) -> bool {
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("missing field") {
            self.add_missing(&key.key(quoted.next().unwrap_or_default()))
        } else if message.starts_with("unknown field") {
            self.remove_unknown(key, &quoted.skip(1).collect::<Vec<_>>())
        } else if let Some(value) = self.spelled(key, message) {
            let origin = self.report.document.origin(key);
            self.report.document.set(key, value, origin);
            true
        } else {
            self.remove_wrong(key, message)
        }
    }

    fn add_missing(&mut self, key: &KeyPath) -> bool {
        let (advice, stand_in) = required(key);
        let is_reported = self.report.faults.iter().any(|fault| fault.key == *key);
        if !is_reported && !self.is_broken && !self.misspelled.contains(key) {
            self.report.fault(key, format!("is missing; {advice}"));
        }
        self.report.document.set(key, stand_in, Origin::Default);
        self.replaced.insert(key.clone())
    }

    fn remove_unknown(&mut self, key: &KeyPath, known: &[&str]) -> bool {
        let likeness = |known: &&&str| strsim::jaro_winkler(known, key.name());
        let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let advice = match nearest.filter(|known| likeness(known) > 0.8) {
            Some(known) => {
                self.misspelled
                    .insert(key.parent().unwrap_or_default().key(known));
                format!("did you mean {known:?}?")
            }
            None => format!("known are {}", known.join(", ")),
        };
        if !self.is_broken {
            self.report.fault(key, format!("is not a key here; {advice}"));
        }
        self.report.document.remove(key)
    }

    /// The value that the text of an environment variable spells: TOML, or a list separated by commas.
    fn spelled(&self, key: &KeyPath, message: &str) -> Option<Value> {
        let Some(Value::String(text)) = self.report.document.get(key) else {
            return None;
        };
        if !matches!(self.report.document.origin(key), Origin::Environment(_)) {
            return None;
        }
        let list = || {
            text.split(',')
                .map(|item| Value::String(item.trim().to_owned()))
                .collect()
        };
        match text.parse::<Value>() {
            Ok(Value::String(_)) => None,
            Ok(value) => Some(value),
            Err(_) => message
                .contains("expected a sequence")
                .then(|| Value::Array(list())),
        }
    }

    fn remove_wrong(&mut self, key: &KeyPath, message: &str) -> bool {
        let is_unnamed = key.parent() == Some("upstream".into()) && message.starts_with("invalid type");
        if is_unnamed {
            let key = "upstream".into();
            self.report
                .fault(&key, format!("has keys and no name; {NAME_UPSTREAM}"));
            return self.report.document.remove(&key);
        }
        // A wrong item of a list is removed with the list.
        let mut key = key.clone();
        while let Some(list) = key.parent().filter(|parent| parent.key(key.name()) != key) {
            key = list;
        }
        let what = self.described(&key, message);
        self.report.fault(&key, what);
        self.report.document.remove(&key)
    }

    /// serde names Rust types if a value has the wrong type; a person needs the form to write.
    fn described(&self, key: &KeyPath, message: &str) -> String {
        let wrong_type = message
            .strip_prefix("invalid type: ")
            .or(message.strip_prefix("invalid value: "));
        let Some((found, expected)) = wrong_type.and_then(|wrong| wrong.split_once(", expected ")) else {
            return message.replace('\n', ", ");
        };
        let form = match expected {
            "a sequence" if *key == KeyPath::from("listener") => {
                return "is not a list of tables; write it as [[listener]]".to_owned();
            }
            "a sequence" => "a list, like [\"one\", \"two\"]",
            "a boolean" => "true or false",
            "usize" | "u32" | "u64" => "a whole number",
            "a string" | "path string" | "string or table" => "text in quotes",
            "a map" => return NOT_A_TABLE.to_owned(),
            table if table.starts_with("struct ") => return NOT_A_TABLE.to_owned(),
            other => other,
        };
        let mut document = self.report.document.clone();
        document.remove(key);
        match with_defaults(&document).get(key) {
            Some(default @ (Value::String(_) | Value::Integer(_))) => {
                format!("is {found}; write {form}, like {default}")
            }
            _ => format!("is {found}; write {form}"),
        }
    }
}

const NOT_A_TABLE: &str = "is not a table; write it as [section] or { key = value }";
const NAME_UPSTREAM: &str = "write [upstream.cisco] with preset, client_id and client_secret";
const CREDENTIAL: &str =
    "write it as { file = \"/path\" }, or set BONDGATE_CLIENT_ID and BONDGATE_CLIENT_SECRET_FILE";

/// What to write for a required key, and a stand-in with which the rest can be decoded.
fn required(key: &KeyPath) -> (String, Value) {
    let text = |advice: &str, stand_in: &str| (advice.to_owned(), Value::String(stand_in.to_owned()));
    match key.name() {
        "upstream" => {
            let stand_in =
                "{ cisco = { preset = 'smart-bonding-stage', client_id = '-', client_secret = '-' } }";
            (
                NAME_UPSTREAM.to_owned(),
                stand_in.parse().expect("the stand-in is TOML"),
            )
        }
        "preset" => text(
            &format!("it is one of {}", presets::names()),
            "smart-bonding-stage",
        ),
        "client_id" | "client_secret" => text(CREDENTIAL, "-"),
        "url" | "token_url" => text("the preset \"none\" sets none", "https://stand-in.invalid"),
        "rules" => text("the preset \"none\" sets none", "any"),
        "certificate_file" | "key_file" => text("write the path of a PEM file", "/"),
        "methods" => (
            "write methods = [\"GET\"]".to_owned(),
            Value::Array(vec!["GET".into()]),
        ),
        _ => text("write its value", "/"),
    }
}
