//! Reads one table of the configuration key by key, so that every fault is told at once.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use toml::Value;

use super::exposure::Exposure;
use super::secret::SecretSource;
use super::tree::{Entry, Node, Origin, Table};

/// One fault of a configuration: where, which key, what is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place; the default for a key that is nowhere.
    pub origin: Origin,
    /// The key, dotted.
    pub key: String,
    /// What is wrong, with the mend; holds no secret.
    pub what: String,
}

/// How a fault of a key begins that is not there, and of one that should not be.
const MISSING: &str = "is missing";
const UNKNOWN: &str = "is not a key here";

impl Fault {
    /// Whether it may only be what a syntax error further up left out, or in the wrong table.
    pub(super) fn may_follow_from_syntax(&self) -> bool {
        self.what.starts_with(MISSING) || self.what.starts_with(UNKNOWN)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A value in force, as `bondgate check --print` shows it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key, dotted.
    pub key: String,
    /// The value as TOML, redacted where it is a secret.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A type that a key may have.
pub(super) trait Written: DeserializeOwned {
    /// How a value of it is written, for whoever wrote something else.
    const FORM: &'static str;
}

impl Written for String {
    const FORM: &'static str = "text in quotes, like \"text\"";
}

impl Written for PathBuf {
    const FORM: &'static str = "a path in quotes, like \"/path\"";
}

impl Written for bool {
    const FORM: &'static str = "true or false";
}

impl Written for usize {
    const FORM: &'static str = "a whole number, like 100";
}

impl Written for u32 {
    const FORM: &'static str = "a whole number, like 1000";
}

impl<T: Written> Written for Vec<T> {
    const FORM: &'static str = "a list, like [\"one\", \"two\"]";
}

/// What is found while reading, kept beside the values.
#[derive(Default)]
pub(super) struct Report {
    pub(super) faults: RefCell<Vec<Fault>>,
    pub(super) settings: RefCell<Vec<Setting>>,
    pub(super) warnings: RefCell<Vec<String>>,
    /// Every key that was asked for: what the example must show.
    #[cfg(test)]
    pub(super) asked: RefCell<Vec<String>>,
}

/// A table that is being read: each key asked for once, then [`finish`](Self::finish) names those
/// that nobody asked for.
pub(super) struct Section<'a> {
    path: String,
    origin: Origin,
    table: Option<&'a Table>,
    preset: Option<&'a Table>,
    known: Vec<&'static str>,
    report: &'a Report,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: String, entry: Option<&'a Entry>, report: &'a Report) -> Self {
        let mut section = Self {
            path,
            origin: entry.map_or(Origin::Default, |entry| entry.origin.clone()),
            table: None,
            preset: None,
            known: Vec::new(),
            report,
        };
        match entry.map(|entry| &entry.node) {
            Some(Node::Table(table)) => section.table = Some(table),
            Some(_) => section.fault("", "is not a table; write it as [section] or { key = value }"),
            None => {}
        }
        section
    }

    /// Values that hold where the file and the environment say nothing.
    pub(super) fn set_preset(&mut self, preset: &'a Table) {
        self.preset = Some(preset);
    }

    /// The value of a key, if it is there and right.
    pub(super) fn optional<T: Written>(&mut self, key: &'static str) -> Option<T> {
        let entry = self.entry(key)?;
        self.show(key, &entry.value().to_string(), &entry.origin);
        match decode(entry) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(key, what);
                None
            }
        }
    }

    /// The value of a key, or a default written as TOML.
    pub(super) fn or<T: Written>(&mut self, key: &'static str, default: &str) -> T {
        if self.has(key) {
            if let Some(value) = self.optional(key) {
                return value;
            }
        } else {
            self.known.push(key);
            self.show(key, default, &Origin::Default);
        }
        let value: Value = default.parse().expect("a default is TOML");
        T::deserialize(value).expect("a default is of its key's type")
    }

    /// The value of a key that has no default.
    pub(super) fn required<T: Written>(&mut self, key: &'static str, mend: &str) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            self.fault(key, format!("{MISSING}; {mend}"));
            return None;
        }
        self.optional(key)
    }

    /// Like [`secret`](Self::secret), for something that may be shown.
    pub(super) fn identifier(&mut self, key: &'static str) -> Option<SecretSource> {
        let source = self.secret(key)?;
        if let SecretSource::Inline(text) = &source {
            let mut settings = self.report.settings.borrow_mut();
            if let Some(shown) = settings.last_mut() {
                shown.value = format!("{:?}", text.expose_secret());
            }
        }
        Some(source)
    }

    /// A secret's source: a table with `file`, `env` or `credential`, or (`inline`) the value itself.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<SecretSource> {
        let entry = self.entry(key)?;
        match secret_source(entry) {
            Ok(source) => {
                self.show(key, &source.to_string(), &entry.origin);
                if let SecretSource::File(path) = &source {
                    self.judge_exposure(key, path);
                }
                Some(source)
            }
            Err(what) => {
                self.show(key, "[redacted]", &entry.origin);
                self.fault(key, what);
                None
            }
        }
    }

    /// The path of a file that holds a secret, such as a private key.
    pub(super) fn secret_file(&mut self, key: &'static str, mend: &str) -> Option<PathBuf> {
        let path: PathBuf = self.required(key, mend)?;
        self.judge_exposure(key, &path);
        Some(path)
    }

    /// A secret that other users may change is refused; one that they may read is warned about.
    fn judge_exposure(&self, key: &'static str, path: &Path) {
        let name = path.display();
        match Exposure::of(path) {
            None => {}
            Some(Exposure::Written) => self.fault(
                key,
                format!("names a file that every user of this machine may change; run: chmod o-rwx {name}"),
            ),
            Some(Exposure::Read) => self.warn(
                key,
                &format!("names a file that every user of this machine may read; run: chmod o-rwx {name}"),
            ),
        }
    }

    /// A table below this one, empty where it is not written.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let entry = self.entry(key);
        let mut section = Section::new(self.full(key), entry, self.report);
        if section.origin == Origin::Default {
            section.origin = self.origin.clone();
        }
        section
    }

    /// The array of tables of this name.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Section<'a>> {
        match self.entry(key).map(|entry| &entry.node) {
            None => Vec::new(),
            Some(Node::List(list)) => list
                .iter()
                .enumerate()
                .map(|(at, entry)| {
                    Section::new(format!("{}[{at}]", self.full(key)), Some(entry), self.report)
                })
                .collect(),
            Some(_) => {
                self.fault(key, format!("is not a list of tables; write it as [[{key}]]"));
                Vec::new()
            }
        }
    }

    /// The named tables of this one, at least one: `[upstream.NAME]`.
    pub(super) fn named(&mut self, key: &'static str, mend: &str) -> Vec<(String, Section<'a>)> {
        match self.entry(key).map(|entry| &entry.node) {
            None => {
                self.fault(key, format!("{MISSING}; {mend}"));
                Vec::new()
            }
            Some(Node::Table(table)) if table.is_empty() => {
                self.fault(key, format!("is empty; {mend}"));
                Vec::new()
            }
            // A name that was forgotten is one fault, not some for each key.
            Some(Node::Table(table)) if table.values().any(|entry| !matches!(entry.node, Node::Table(_))) => {
                self.fault(key, format!("has keys and no name; {mend}"));
                Vec::new()
            }
            Some(Node::Table(table)) => table
                .iter()
                .map(|(name, entry)| {
                    let path = format!("{}.{name}", self.full(key));
                    (name.clone(), Section::new(path, Some(entry), self.report))
                })
                .collect(),
            Some(_) => {
                self.fault(key, format!("is not a table; write it as [{key}.NAME]"));
                Vec::new()
            }
        }
    }

    /// Whether the key is written anywhere.
    pub(super) fn has(&self, key: &str) -> bool {
        [self.table, self.preset]
            .into_iter()
            .flatten()
            .any(|table| table.contains_key(key))
    }

    /// Tells a fault of a key of this section or below it; of the section itself where `key` is empty.
    pub(super) fn fault(&self, key: &str, what: impl Into<String>) {
        let key_in_full = if key.is_empty() {
            self.path.clone()
        } else {
            self.full(key)
        };
        self.report.faults.borrow_mut().push(Fault {
            origin: self.origin(key),
            key: key_in_full,
            what: what.into(),
        });
    }

    /// The environment variable that a key's value comes from, where one does.
    pub(super) fn variable(&self, key: &str) -> Option<String> {
        match &self.table?.get(key)?.origin {
            Origin::Environment(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// The last part of its path: `cisco` of `upstream.cisco`.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Something that works and should be known.
    pub(super) fn warn(&self, key: &str, what: &str) {
        let warning = Fault {
            origin: self.origin(key),
            key: self.full(key),
            what: what.to_owned(),
        };
        self.report.warnings.borrow_mut().push(warning.to_string());
    }

    /// Where a key is written (`listener[0].address` is one of the root's), or else the line of the nearest table
    /// around it.
    fn origin(&self, key: &str) -> Origin {
        let in_file = |origin: &Origin| match origin {
            Origin::File { .. } => origin.clone(),
            // A table that variables made has no place of its own.
            Origin::Default | Origin::Preset(_) | Origin::Environment(_) => Origin::Default,
        };
        let Some(mut table) = self.table.filter(|_| !key.is_empty()) else {
            return self.origin.clone();
        };
        if let Some(entry) = table.get(key) {
            return entry.origin.clone();
        }
        let mut origin = &self.origin;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let (name, at) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((name, at)) => (name, at.parse::<usize>().ok()),
                None => (part, None),
            };
            let Some(mut entry) = table.get(name) else {
                return in_file(origin);
            };
            if let (Node::List(list), Some(at)) = (&entry.node, at) {
                entry = list.get(at).unwrap_or(entry);
            }
            origin = &entry.origin;
            match &entry.node {
                _ if parts.peek().is_none() => return origin.clone(),
                Node::Table(below) => table = below,
                _ => break,
            }
        }
        in_file(origin)
    }

    /// Names the keys that nobody asked for.
    pub(super) fn finish(self) {
        #[cfg(test)]
        self.report
            .asked
            .borrow_mut()
            .extend(self.known.iter().map(|key| self.full(key)));
        for key in self.table.into_iter().flat_map(Table::keys) {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let near = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(known, key), known))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(likeness, _)| *likeness > 0.8);
            match near {
                Some((_, known)) => {
                    // A key that is misspelt is one fault, and not missing besides.
                    let missing = self.full(known);
                    let mut faults = self.report.faults.borrow_mut();
                    faults.retain(|fault| fault.key != missing || !fault.what.starts_with(MISSING));
                    drop(faults);
                    self.fault(key, format!("{UNKNOWN}; did you mean {known:?}?"));
                }
                None => self.fault(key, format!("{UNKNOWN}; known are {}", self.known.join(", "))),
            }
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        [self.table, self.preset]
            .into_iter()
            .flatten()
            .find_map(|table| table.get(key))
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn show(&self, key: &str, value: &str, origin: &Origin) {
        let setting = Setting {
            key: self.full(key),
            value: value.to_owned(),
            origin: origin.clone(),
        };
        self.report.settings.borrow_mut().push(setting);
    }
}

/// Reads a value as its key's type. An environment variable is text: it is taken as a string, else
/// as the TOML that it spells, else as a comma-separated list.
fn decode<T: Written>(entry: &Entry) -> Result<T, String> {
    let value = entry.value();
    let spelled = match (&entry.origin, value.as_str()) {
        (Origin::Environment(_), Some(text)) => Some(text.to_owned()),
        _ => None,
    };
    let first = match T::deserialize(value) {
        Ok(value) => return Ok(value),
        Err(error) => told::<T>(&error),
    };
    let Some(text) = spelled else { return Err(first) };
    if let Ok(value) = text.parse::<Value>() {
        return T::deserialize(value).map_err(|error| told::<T>(&error));
    }
    let list = text
        .split(',')
        .map(|item| Value::String(item.trim().to_owned()))
        .collect();
    T::deserialize(Value::Array(list)).map_err(|error| match error.message() {
        said if said.starts_with("invalid type") => first,
        _ => told::<T>(&error),
    })
}

/// serde's own words name a Rust type where the kind of value is wrong; how it is written helps more.
fn told<T: Written>(error: &toml::de::Error) -> String {
    let said = error.message().trim().replace('\n', ", ");
    match said.split_once(", expected ") {
        Some((found, _)) if said.starts_with("invalid ") => {
            format!(
                "{}; write {}",
                found
                    .replace("invalid type: ", "is ")
                    .replace("invalid value: ", "is "),
                T::FORM
            )
        }
        _ => said,
    }
}

/// Errors here name no value: a secret may stand anywhere in what is wrong.
fn secret_source(entry: &Entry) -> Result<SecretSource, &'static str> {
    const FORM: &str = "is not a secret's source; write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"NAME\" }";
    let table = match entry.value() {
        Value::String(text) => match (&entry.origin, text.parse::<Value>()) {
            (Origin::Environment(_), Ok(Value::Table(table))) => table,
            _ if text.is_empty() => return Err("is empty"),
            _ => return Ok(SecretSource::Inline(SecretString::from(text))),
        },
        Value::Table(table) => table,
        _ => return Err(FORM),
    };
    let mut pairs = table.into_iter();
    match (pairs.next(), pairs.next()) {
        (Some((place, Value::String(name))), None) if !name.is_empty() => match place.as_str() {
            "file" => Ok(SecretSource::File(name.into())),
            "env" => Ok(SecretSource::Environment(name)),
            "credential" => Ok(SecretSource::Credential(name)),
            _ => Err(FORM),
        },
        _ => Err(FORM),
    }
}
