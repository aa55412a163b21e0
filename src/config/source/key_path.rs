//! The path of a configuration key.

use std::fmt;

use toml::Value;

/// The path of a configuration key, printed as `listener[0].tls.key_file`; empty for the whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Name(String),
    Index(usize),
}

impl KeyPath {
    /// The table of an upstream.
    pub(crate) fn upstream(name: &str) -> Self {
        Self::from("upstream").key(name)
    }

    /// The table of a listener, by its place in the configuration.
    pub(crate) fn listener(index: usize) -> Self {
        Self::from("listener").item(index)
    }

    /// A key of the table at this path.
    pub(crate) fn key(&self, name: &str) -> Self {
        self.with([Segment::Name(name.to_owned())])
    }

    /// An item of the list at this path.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.with([Segment::Index(index)])
    }

    /// The table or list that holds this key; `None` for the whole configuration.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    /// Whether this is the other key, or a key of the table or list at it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The last name in the path: `key_file`.
    pub(crate) fn name(&self) -> &str {
        let name = self.0.iter().rev().find_map(|segment| match segment {
            Segment::Name(name) => Some(name.as_str()),
            Segment::Index(_) => None,
        });
        name.unwrap_or_default()
    }

    /// The environment variable that sets this key.
    pub(in crate::config) fn variable(&self) -> String {
        let name = self.to_string().to_uppercase();
        format!(
            "BONDGATE__{}",
            name.replace(['.', '['], "__").replace(']', "").replace('-', "_")
        )
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The value at this path below `root`.
    pub(super) fn find<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, segment| match segment {
            Segment::Name(name) => value.get(name),
            Segment::Index(index) => value.get(index),
        })
    }

    /// This path with further segments.
    pub(super) fn with(&self, segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut path = self.clone();
        path.0.extend(segments);
        path
    }
}

/// Reads a path as it is printed.
impl From<&str> for KeyPath {
    fn from(text: &str) -> Self {
        let segment = |part: &str| match part.strip_suffix(']').map(str::parse) {
            Some(Ok(index)) => Segment::Index(index),
            _ => Segment::Name(part.to_owned()),
        };
        let parts = text.split(['.', '[']).filter(|part| !part.is_empty());
        Self(parts.map(segment).collect())
    }
}

impl From<&serde_path_to_error::Path> for KeyPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as Serde;

        let segments = path.iter().filter_map(|segment| match segment {
            Serde::Map { key } => Some(Segment::Name(key.clone())),
            Serde::Seq { index } => Some(Segment::Index(*index)),
            Serde::Enum { .. } | Serde::Unknown => None,
        });
        Self(segments.collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Name(name) if at == 0 => f.write_str(name)?,
                Segment::Name(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_printed() {
        for text in [
            "",
            "limits.head",
            "listener[0].tls.key_file",
            "upstream.a.rules[1].path",
        ] {
            assert_eq!(KeyPath::from(text).to_string(), text);
        }
        let path = KeyPath::listener(0).key("tls").key("key_file");
        assert_eq!(path, KeyPath::from("listener[0].tls.key_file"));
        assert_eq!(path.name(), "key_file");
        assert_eq!(path.parent(), Some(KeyPath::from("listener[0].tls")));
    }
}
