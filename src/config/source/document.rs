//! Configuration values as written, with the origin of each.

use std::collections::BTreeMap;
use std::iter;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Table, Value};

use super::fault::{Fault, Origin};
use super::key_path::{KeyPath, Segment};
use crate::problems::{Problem, configuration};

/// Values, and the origin of each.
#[derive(Clone)]
pub(in crate::config) struct Document {
    root: Value,
    origins: BTreeMap<KeyPath, Origin>,
}

impl Document {
    /// Parses TOML text. Returns all that can be read, and every syntax error. The parser's messages never quote
    /// the text, which may hold a secret.
    pub(in crate::config) fn parse(text: &str, file: &str) -> (Self, Vec<Fault>) {
        let origin = |at: usize| Origin::File {
            file: file.to_owned(),
            line: text.get(..at).map_or(0, |before| before.split('\n').count()),
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        let fault = |error: &toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            Fault::at(origin(at), syntax_problem(error.message()))
        };
        // The parser reports a wrong escape twice.
        let mut faults: Vec<_> = errors.iter().map(fault).collect();
        faults.dedup();
        let mut origins = BTreeMap::new();
        let mut record = |path: KeyPath, at| {
            origins.insert(path, origin(at));
        };
        let root = table(document.get_ref(), &KeyPath::default(), &mut record);
        (Self { root, origins }, faults)
    }

    pub(in crate::config) fn root(&self) -> &Value {
        &self.root
    }

    pub(in crate::config) fn get(&self, path: &KeyPath) -> Option<&Value> {
        path.find(&self.root)
    }

    /// The tables directly below a key: named ones, or the items of a list.
    pub(super) fn tables(&self, path: &KeyPath) -> Vec<KeyPath> {
        let paths: Vec<_> = match self.get(path) {
            Some(Value::Table(table)) => table.keys().map(|name| path.key(name)).collect(),
            Some(Value::Array(list)) => (0..list.len()).map(|index| path.item(index)).collect(),
            _ => Vec::new(),
        };
        let is_table = |path: &KeyPath| self.get(path).is_some_and(Value::is_table);
        paths.into_iter().filter(is_table).collect()
    }

    /// Sets a value, and makes the tables and lists that hold it.
    pub(super) fn set(&mut self, path: &KeyPath, value: Value, origin: Origin) {
        let mut place = &mut self.root;
        for segment in path.segments() {
            let (is_container, empty) = match segment {
                Segment::Name(_) => (place.is_table(), Value::Table(Table::new())),
                Segment::Index(_) => (place.is_array(), Value::Array(Vec::new())),
            };
            if !is_container {
                *place = empty;
            }
            place = match (segment, place) {
                (Segment::Name(name), Value::Table(table)) => table
                    .entry(name.clone())
                    .or_insert_with(|| Value::Table(Table::new())),
                (Segment::Index(index), Value::Array(list)) => {
                    list.resize(list.len().max(index + 1), Value::Table(Table::new()));
                    &mut list[*index]
                }
                _ => unreachable!("the container was made above"),
            };
        }
        *place = value;
        self.origins.retain(|key, _| !key.is_within(path));
        self.origins.insert(path.clone(), origin);
    }

    /// Sets the values of a table that are not set yet.
    pub(super) fn fill(&mut self, path: &KeyPath, defaults: &Table, origin: &Origin) {
        for (name, default) in defaults {
            let key = path.key(name);
            match (self.get(&key), default) {
                (None, _) => self.set(&key, default.clone(), origin.clone()),
                (Some(Value::Table(_)), Value::Table(defaults)) => self.fill(&key, defaults, origin),
                (Some(_), _) => {}
            }
        }
    }

    /// Removes a key from its table.
    pub(super) fn remove(&mut self, path: &KeyPath) -> Option<Value> {
        let parent = path.parent().unwrap_or_default();
        let mut segments = parent.segments().iter();
        let place = segments.try_fold(&mut self.root, |value, segment| match segment {
            Segment::Name(name) => value.get_mut(name),
            Segment::Index(index) => value.get_mut(index),
        });
        place?.as_table_mut()?.remove(path.name())
    }

    /// Gives a key another path. It and all keys below it keep their lines.
    pub(super) fn rename(&mut self, from: &KeyPath, to: &KeyPath) {
        let Some(value) = self.remove(from) else { return };
        let (moved, others) = std::mem::take(&mut self.origins)
            .into_iter()
            .partition(|(key, _)| key.is_within(from));
        self.origins = others;
        self.set(to, value, Origin::Default);
        let moved: BTreeMap<_, _> = moved;
        self.origins.extend(moved.into_iter().map(|(key, origin)| {
            let below = &key.segments()[from.segments().len()..];
            (to.with(below.iter().cloned()), origin)
        }));
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

fn syntax_problem(message: &str) -> Problem {
    let is_escape = ["missing escaped value", "too few unicode value digits"];
    if is_escape.iter().any(|start| message.starts_with(start)) {
        return configuration::backslash();
    }
    configuration::syntax(match message {
        "duplicate key" => "the key is set twice".to_owned(),
        _ if message.starts_with("string values must be quoted") => {
            "text needs quotes, like client_id = \"…\"".to_owned()
        }
        _ => message.replace('\n', ", "),
    })
}

fn table(source: &DeTable<'_>, path: &KeyPath, record: &mut dyn FnMut(KeyPath, usize)) -> Value {
    let entries = source.iter().map(|(name, source)| {
        let path = path.key(name.get_ref());
        record(path.clone(), name.span().start);
        (name.get_ref().to_string(), value(source, &path, record))
    });
    Value::Table(entries.collect())
}

fn value(source: &Spanned<DeValue<'_>>, path: &KeyPath, record: &mut dyn FnMut(KeyPath, usize)) -> Value {
    match source.get_ref() {
        DeValue::Table(inner) => table(inner, path, record),
        DeValue::Array(list) => {
            let items = list.iter().enumerate().map(|(index, item)| {
                let path = path.item(index);
                record(path.clone(), item.span().start);
                value(item, &path, record)
            });
            Value::Array(items.collect())
        }
        // A syntax error leaves an empty date behind, which is no value.
        _ => Value::deserialize(ValueDeserializer::from(source.clone()))
            .unwrap_or(Value::String(String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Document, Vec<Fault>) {
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
        document.remove(&"a.b".into());
        assert_eq!(document.get(&"a.b".into()), None);
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
    fn a_path_with_backslashes_is_one_fault_that_shows_single_quotes() {
        for path in ["C:\\Users\\x", "C:\\temp\\s", "\\\\server\\share"] {
            let (_, faults) = parse(&format!("a = 1\nb = \"{path}\"\n"));
            let [fault] = &faults[..] else {
                panic!("{path}: {faults:?}")
            };
            assert_eq!(
                (fault.origin.to_string().as_str(), fault.problem.code()),
                ("f:2", "toml-backslash-in-quotes")
            );
            let (_, faults) = parse(&format!("b = '{path}'\n"));
            assert!(faults.is_empty(), "{faults:?}");
        }
    }

    #[test]
    fn every_syntax_error_is_reported_without_the_text_of_its_line() {
        let (document, errors) = parse("a = hunter2\nb = 1\nc = 'hunter2\n");
        assert_eq!(
            errors
                .iter()
                .map(|error| error.origin.to_string())
                .collect::<Vec<_>>(),
            ["f:1", "f:3"]
        );
        assert!(errors.iter().all(|error| !error.to_string().contains("hunter2")));
        assert!(document.get(&"b".into()).is_some());
    }
}
