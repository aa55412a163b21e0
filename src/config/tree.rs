//! The configuration as written, before it means anything: values with the place of each.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: bondgate's own default.
    Default,
    /// The preset of this name.
    Preset(&'static str),
    /// This line of the configuration file.
    File {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// This environment variable.
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

pub(super) type Table = BTreeMap<String, Entry>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    pub(super) node: Node,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Table(Table),
    List(Vec<Entry>),
    Value(toml::Value),
}

impl Entry {
    /// The value without its places.
    pub(super) fn value(&self) -> toml::Value {
        match &self.node {
            Node::Table(table) => toml::Value::Table(
                table
                    .iter()
                    .map(|(key, entry)| (key.clone(), entry.value()))
                    .collect(),
            ),
            Node::List(list) => toml::Value::Array(list.iter().map(Self::value).collect()),
            Node::Value(value) => value.clone(),
        }
    }
}

/// Something that is no TOML: the line, and what the parser says of it (never the line itself,
/// which may hold a secret).
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads TOML text; what can be read is returned beside every error.
pub(super) fn parse(text: &str, place: &dyn Fn(usize) -> Origin) -> (Table, Vec<SyntaxError>) {
    let line = |at: usize| text.get(..at).map_or(0, |before| before.split('\n').count());
    let (document, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .iter()
        .map(|error| SyntaxError {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })
        .collect();
    (table(document.get_ref(), &|at| place(line(at))), errors)
}

fn table(source: &DeTable<'_>, place: &dyn Fn(usize) -> Origin) -> Table {
    source
        .iter()
        .map(|(key, value)| {
            let origin = place(key.span().start);
            (
                key.get_ref().to_string(),
                Entry {
                    origin,
                    node: node(value, place),
                },
            )
        })
        .collect()
}

fn node(source: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Origin) -> Node {
    match source.get_ref() {
        DeValue::Table(inner) => Node::Table(table(inner, place)),
        DeValue::Array(list) => Node::List(
            list.iter()
                .map(|item| Entry {
                    origin: place(item.span().start),
                    node: node(item, place),
                })
                .collect(),
        ),
        DeValue::String(text) => Node::Value(toml::Value::String(text.to_string())),
        DeValue::Boolean(value) => Node::Value(toml::Value::Boolean(*value)),
        // What a syntax error leaves behind: no date, which would not even print.
        DeValue::Datetime(value) if value.date.is_none() && value.time.is_none() => {
            Node::Value(toml::Value::String(String::new()))
        }
        DeValue::Datetime(value) => Node::Value(toml::Value::Datetime(*value)),
        DeValue::Integer(digits) => {
            Node::Value(i64::from_str_radix(digits.as_str(), digits.radix()).map_or_else(
                |_| toml::Value::String(digits.as_str().to_owned()),
                toml::Value::Integer,
            ))
        }
        DeValue::Float(digits) => Node::Value(digits.as_str().parse().map_or_else(
            |_| toml::Value::String(digits.as_str().to_owned()),
            toml::Value::Float,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Table, Vec<SyntaxError>) {
        parse(text, &|line| Origin::File {
            file: "f".into(),
            line,
        })
    }

    #[test]
    fn each_value_knows_its_line() {
        let (table, errors) = read("a = 1\n\n[b]\nc = [\n 1,\n 2]\n");
        assert!(errors.is_empty());
        let Node::Table(b) = &table["b"].node else {
            panic!()
        };
        let Node::List(c) = &b["c"].node else { panic!() };
        let lines = [&table["a"], &table["b"], &b["c"], &c[1]].map(|entry| entry.origin.to_string());
        assert_eq!(lines, ["f:1", "f:3", "f:4", "f:6"]);
    }

    #[test]
    fn every_syntax_error_is_told_without_the_text_of_its_line() {
        let (table, errors) = read("a = hunter2\nb = 1\nc = 'hunter2\n");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3]);
        assert!(errors.iter().all(|error| !error.message.contains("hunter2")));
        assert!(table.contains_key("b"));
    }
}
