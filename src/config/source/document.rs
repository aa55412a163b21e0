//! Configuration values as written, with the place of each.

use std::collections::BTreeMap;
use std::{fmt, iter};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::key_path::{KeyPath, Segment};

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

/// Values, and the origin of each.
#[derive(Clone)]
pub(in crate::config) struct Document {
    root: Value,
    origins: BTreeMap<KeyPath, Origin>,
}

/// The line of text that is not TOML, and the parser's message. It never quotes the line, which may hold a
/// secret.
pub(in crate::config) struct SyntaxError {
    pub(in crate::config) line: usize,
    pub(in crate::config) message: String,
}

impl Document {
    /// Parses TOML text. Returns all that can be read, and every syntax error.
    pub(in crate::config) fn parse(text: &str, file: &str) -> (Self, Vec<SyntaxError>) {
        let line = |at: usize| text.get(..at).map_or(0, |before| before.split('\n').count());
        let (document, errors) = DeTable::parse_recoverable(text);
        let errors = errors.iter().map(|error| SyntaxError {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        });
        let mut origins = BTreeMap::new();
        let mut record = |path: KeyPath, at| {
            let file = file.to_owned();
            origins.insert(path, Origin::File { file, line: line(at) });
        };
        let root = table(document.get_ref(), &KeyPath::default(), &mut record);
        (Self { root, origins }, errors.collect())
    }

    pub(in crate::config) fn root(&self) -> &Value {
        &self.root
    }

    pub(in crate::config) fn get(&self, path: &KeyPath) -> Option<&Value> {
        path.find(&self.root)
    }

    /// Sets a value, and makes the tables and lists that hold it.
    pub(in crate::config) fn set(&mut self, path: &KeyPath, value: Value, origin: Origin) {
        let mut place = &mut self.root;
        for segment in path.segments() {
            place = match segment {
                Segment::Name(name) => {
                    if !place.is_table() {
                        *place = Value::Table(Table::new());
                    }
                    let table = place.as_table_mut().expect("it was made a table above");
                    table
                        .entry(name.clone())
                        .or_insert_with(|| Value::Table(Table::new()))
                }
                Segment::Index(index) => {
                    if !place.is_array() {
                        *place = Value::Array(Vec::new());
                    }
                    let list = place.as_array_mut().expect("it was made a list above");
                    let length = list.len().max(index + 1);
                    list.resize(length, Value::Table(Table::new()));
                    &mut list[*index]
                }
            };
        }
        *place = value;
        self.origins.insert(path.clone(), origin);
    }

    /// Sets the values of a table that are not set yet.
    pub(in crate::config) fn fill(&mut self, path: &KeyPath, defaults: &Table, origin: &Origin) {
        for (name, default) in defaults {
            let key = path.key(name);
            match (self.get(&key), default) {
                (None, _) => self.set(&key, default.clone(), origin.clone()),
                (Some(Value::Table(_)), Value::Table(defaults)) => self.fill(&key, defaults, origin),
                (Some(_), _) => {}
            }
        }
    }

    /// Removes a key from its table. Returns whether it was there.
    pub(in crate::config) fn remove(&mut self, path: &KeyPath) -> bool {
        let parent = path.parent().unwrap_or_default();
        let mut place = Some(&mut self.root);
        for segment in parent.segments() {
            place = place.and_then(|value| match segment {
                Segment::Name(name) => value.get_mut(name),
                Segment::Index(index) => value.get_mut(index),
            });
        }
        let table = place.and_then(Value::as_table_mut);
        table.is_some_and(|table| table.remove(path.name()).is_some())
    }

    /// Where a key is set. For a key that is not: the line of the nearest table around it.
    pub(in crate::config) fn origin(&self, path: &KeyPath) -> Origin {
        let is_set = self.get(path).is_some();
        iter::successors(Some(path.clone()), KeyPath::parent)
            .filter_map(|path| self.origins.get(&path))
            .find(|origin| is_set || matches!(origin, Origin::File { .. }))
            .cloned()
            .unwrap_or(Origin::Default)
    }
}

fn table(source: &DeTable<'_>, path: &KeyPath, record: &mut dyn FnMut(KeyPath, usize)) -> Value {
    let entries = source.iter().map(|(name, source)| {
        let path = path.key(name.get_ref());
        record(path.clone(), name.span().start);
        (name.get_ref().to_string(), value(source.get_ref(), &path, record))
    });
    Value::Table(entries.collect())
}

fn value(source: &DeValue<'_>, path: &KeyPath, record: &mut dyn FnMut(KeyPath, usize)) -> Value {
    match source {
        DeValue::Table(inner) => table(inner, path, record),
        DeValue::Array(list) => {
            let items = list.iter().enumerate().map(|(index, item)| {
                let path = path.item(index);
                record(path.clone(), item.span().start);
                value(item.get_ref(), &path, record)
            });
            Value::Array(items.collect())
        }
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        // The parser leaves an empty date behind a syntax error.
        DeValue::Datetime(value) if value.date.is_none() && value.time.is_none() => {
            Value::String(String::new())
        }
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| Value::String(digits.to_string()), Value::Integer),
        DeValue::Float(digits) => digits
            .as_str()
            .parse()
            .map_or_else(|_| Value::String(digits.to_string()), Value::Float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Document, Vec<SyntaxError>) {
        Document::parse(text, "f")
    }

    #[test]
    fn each_value_has_its_line() {
        let (document, errors) = parse("a = 1\n\n[b]\nc = [\n 1,\n 2]\n[[d]]\n[[d]]\n");
        assert!(errors.is_empty());
        let lines = ["a", "b", "b.c", "b.c[1]", "d[1]"].map(|path| document.origin(&path.into()).to_string());
        assert_eq!(lines, ["f:1", "f:3", "f:4", "f:6", "f:8"]);
    }

    #[test]
    fn a_missing_key_has_the_line_of_the_table_around_it() {
        let (mut document, _) = parse("[a]\nb = 1\n");
        assert_eq!(document.origin(&"a.c".into()).to_string(), "f:1");
        assert_eq!(document.origin(&"x.y".into()), Origin::Default);
        assert!(document.remove(&"a.b".into()) && !document.remove(&"a.b".into()));
    }

    #[test]
    fn a_default_does_not_replace_a_value() {
        let (mut document, _) = parse("[a]\nb = 1\nc = { d = 1 }\n");
        let defaults = toml::toml! { b = 2
        c = { d = 2, e = 2 } };
        document.fill(&"a".into(), &defaults, &Origin::Default);
        let shown = ["a.b", "a.c.d", "a.c.e"].map(|path| document.get(&path.into()).unwrap().to_string());
        assert_eq!(shown, ["1", "1", "2"]);
        assert_eq!(document.origin(&"a.c.e".into()), Origin::Default);
    }

    #[test]
    fn every_syntax_error_is_reported_without_the_text_of_its_line() {
        let (document, errors) = parse("a = hunter2\nb = 1\nc = 'hunter2\n");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3]);
        assert!(errors.iter().all(|error| !error.message.contains("hunter2")));
        assert!(document.get(&"b".into()).is_some());
    }
}
