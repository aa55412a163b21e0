//! Decodes a document into a [`Config`], and reports every fault at once.
//!
//! serde stops at the first error. That error is reported and its key is corrected, by the default or by a
//! stand-in, and the document is decoded again. With a fault, the result serves only to find further ones.

use toml::{Table, Value};

use super::document::Document;
use super::fault::{Origin, wrong_value};
use super::key_path::KeyPath;
use super::report::Report;
use crate::config::presets;
use crate::config::root::Config;
use crate::problems::configuration;

/// More faults than a person wants to read at once.
const MAX_FAULTS: usize = 500;

/// Decodes the report's document, and completes it with presets and defaults.
pub(in crate::config) fn decode(report: &mut Report) -> Option<Config> {
    for _ in 0..MAX_FAULTS {
        let document = with_defaults(&report.document);
        match serde_path_to_error::deserialize::<_, Config>(document.root().clone()) {
            Ok(config) => {
                report.document = document;
                return Some(config);
            }
            Err(error) => {
                let message: &toml::de::Error = error.inner();
                correct(report, &error.path().into(), message.message().trim());
            }
        }
    }
    None
}

/// The document with every value that it leaves out, by its presets and by default.
fn with_defaults(document: &Document) -> Document {
    let mut document = document.clone();
    let defaults = toml::from_str::<Table>(include_str!("../defaults.toml"));
    let mut defaults = defaults.expect("the defaults are TOML");
    let mut take = |name| match defaults.remove(name) {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    };
    let (upstream, listener) = (take("upstream"), take("listener"));
    for table in document.tables(&"upstream".into()) {
        let preset = document.get(&table.key("preset")).and_then(Value::as_str);
        if let Some((name, preset)) = preset.and_then(presets::find) {
            document.fill(&table, &preset.upstream, &Origin::Preset(name));
        }
        document.fill(&table, &upstream, &Origin::Default);
    }
    let listeners = document.get(&"listener".into());
    if listeners.is_none_or(|list| list.as_array().is_some_and(Vec::is_empty)) {
        document.fill(&KeyPath::listener(0), &listener, &Origin::Default);
    }
    for table in document.tables(&"listener".into()) {
        document.fill(&table, &listener, &Origin::Default);
    }
    if document.get(&"log.rotate".into()).is_none()
        && let Some(Value::Table(log)) = defaults.get_mut("log")
    {
        // The table turns rotation on, so none is added.
        log.remove("rotate");
    }
    document.fill(&KeyPath::default(), &defaults, &Origin::Default);
    document
}

/// Reports an error of serde, and corrects its key.
fn correct(report: &mut Report, key: &KeyPath, message: &str) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("missing field") {
        add_missing(report, &key.key(quoted.next().unwrap_or_default()));
    } else if message.starts_with("unknown field") {
        correct_unknown(report, key, &quoted.skip(1).collect::<Vec<_>>());
    } else if let Some(value) = spelled(&report.document, key, message) {
        let origin = report.document.origin(key);
        report.document.set(key, value, origin);
    } else {
        remove_wrong(report, key, message);
    }
}

fn add_missing(report: &mut Report, key: &KeyPath) {
    let (advice, stand_in) = required(key);
    if !report.faults.iter().any(|fault| fault.key == *key) {
        report.fault_unless_broken(key, configuration::key_missing(advice));
    }
    report.document.set(key, stand_in, Origin::Default);
    report.corrected.push(key.clone());
}

/// A misspelled key is read as the known key that it resembles.
fn correct_unknown(report: &mut Report, key: &KeyPath, known: &[&str]) {
    let likeness = |known: &&&str| {
        // One letter more, less or exchanged in a short name, which the other measure finds unlike.
        if strsim::osa_distance(known, key.name()) == 1 {
            return 1.0;
        }
        strsim::jaro_winkler(known, key.name())
    };
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let meant = nearest.filter(|known| likeness(known) > 0.8);
    let advice = match meant {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("known are {}", known.join(", ")),
    };
    report.fault_unless_broken(key, configuration::key_unknown(advice));
    let origin = report.document.origin(key);
    let value = report.document.remove(key);
    if let (Some(meant), Some(value)) = (meant, value) {
        let values = Table::from_iter([((*meant).to_owned(), value)]);
        let table = key.parent().unwrap_or_default();
        report.document.fill(&table, &values, &origin);
    }
}

/// The value that the text of an environment variable spells: TOML, or a list separated by commas.
fn spelled(document: &Document, key: &KeyPath, message: &str) -> Option<Value> {
    let text = document.get(key)?.as_str()?;
    if !matches!(document.origin(key), Origin::Environment(_)) {
        return None;
    }
    match text.parse() {
        Ok(Value::String(_)) => None,
        Ok(value) => Some(value),
        Err(_) if message.ends_with("expected a sequence") => {
            let items = text.split(',').map(str::trim);
            Some(Value::Array(items.map(Value::from).collect()))
        }
        Err(_) => None,
    }
}

fn remove_wrong(report: &mut Report, wrong: &KeyPath, message: &str) {
    let mut key = wrong.clone();
    // A wrong item of a list is removed with the list.
    while let Some(list) = key.parent().filter(|parent| parent.key(key.name()) != key) {
        key = list;
    }
    let mut what = described(&report.document, wrong, &key, message);
    if key.parent() == Some("upstream".into()) && message.starts_with("invalid type") {
        key = "upstream".into();
        what = format!("has keys and no name; {NAME_UPSTREAM}");
    }
    report.fault(&key, wrong_value(&what));
    report.document.remove(&key);
    report.corrected.push(key);
}

/// serde names Rust types if a value has the wrong type; a person needs the form to write. `wrong` is `key`, or an item of
/// it.
fn described(document: &Document, wrong: &KeyPath, key: &KeyPath, message: &str) -> String {
    let (kind, expected) = message.split_once(", expected ").unwrap_or_default();
    if let Some(unknown) = kind.strip_prefix("unknown variant ") {
        return format!("is {unknown}, which has no meaning; write {expected}").replace('`', "\"");
    }
    if !kind.starts_with("invalid ") {
        return message.replace('\n', ", ");
    }
    let found = document.get(wrong).map_or("something else", kind_of);
    let mut without = document.clone();
    without.remove(key);
    let without = with_defaults(&without);
    let default = without.get(key).filter(|_| wrong == key);
    let form = match expected {
        "a sequence" if *key == "listener".into() => "it as [[listener]]",
        "a sequence" => "a list, like [\"one\", \"two\"]",
        "a boolean" => "true or false",
        "usize" | "u32" | "u64" => "a whole number",
        "a string" | "path string" | "string or table" => "text in quotes",
        rules if rules.starts_with("rules") => rules,
        _ if default.is_some_and(Value::is_str) => "text in quotes",
        _ => "a table, as [section] or { key = value }",
    };
    let place = if wrong == key { "" } else { "has an item that " };
    match default {
        Some(default) if is_example(default) => format!("{place}is {found}; write {form}, like {default}"),
        _ => format!("{place}is {found}; write {form}"),
    }
}

fn is_example(value: &Value) -> bool {
    !value.is_array() && !value.is_table() && value.as_str() != Some("")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(..0) => "a number below 0",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(true) => "true",
        Value::Boolean(false) => "false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

const NAME_UPSTREAM: &str = "write [upstream.cisco] with preset, client_id and client_secret";
const CREDENTIAL: &str =
    "write it as { file = \"/path\" }, or set BONDGATE_CLIENT_ID and BONDGATE_CLIENT_SECRET_FILE";
const NOT_IN_PRESET: &str = "the preset \"none\" sets none";

/// What to write for a required key, and a stand-in with which the rest can be decoded.
fn required(key: &KeyPath) -> (String, Value) {
    let preset = format!("it is one of {}", presets::names());
    let stand_in = "{ cisco = { preset = 'smart-bonding-stage', client_id = '-', client_secret = '-' } }";
    let (advice, stand_in) = match key.name() {
        "upstream" => (NAME_UPSTREAM, stand_in),
        "preset" => (&*preset, "'smart-bonding-stage'"),
        "client_id" | "client_secret" => (CREDENTIAL, "'-'"),
        "url" | "token_url" => (NOT_IN_PRESET, "'https://stand-in.invalid'"),
        "rules" => (NOT_IN_PRESET, "'any'"),
        "methods" => ("write methods = [\"GET\"]", "['GET']"),
        "path" => ("write path = \"/path\"", "'/'"),
        _ => ("write the path of a PEM file", "'/'"),
    };
    (advice.to_owned(), stand_in.parse().expect("a stand-in is TOML"))
}
