//! Caller keys: a line `name:key` for each caller.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::secret::{InputError, SecretSource};
use super::secret_check::{is_in_quotes, is_placeholder};
use crate::problems::{Problem, files};

/// The caller keys of one listener; at least one.
pub struct CallerKeys(Vec<CallerKey>);

/// The key of one caller.
pub struct CallerKey {
    name: Arc<str>,
    /// `name:key`, as in HTTP Basic.
    pair: SecretString,
}

impl CallerKeys {
    /// Reads the keys as they are now.
    pub fn load(source: &SecretSource) -> Result<Self, InputError> {
        Self::parse(&source.load()?)
    }

    /// Parses lines `name:key`. Skips empty lines and those that begin with `#`.
    pub fn parse(text: &SecretString) -> Result<Self, InputError> {
        let mut keys: Vec<CallerKey> = Vec::new();
        for (at, line) in text.expose_secret().lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, key) = line.split_once(':').unwrap_or_default();
            if name.is_empty() || key.is_empty() {
                return Err(files::keys_line_wrong(at + 1).into());
            }
            if is_placeholder(&SecretString::from(key)) {
                return Err(files::key_is_placeholder(at + 1).into());
            }
            let is_same = |other: &CallerKey| *other.name != *name && other.key() == key.as_bytes();
            if keys.iter().any(is_same) {
                return Err(files::keys_shared(at + 1).into());
            }
            keys.push(CallerKey {
                name: name.into(),
                pair: SecretString::from(line),
            });
        }
        if keys.is_empty() {
            return Err(files::keys_empty().into());
        }
        Ok(Self(keys))
    }

    /// A warning for each key that is probably not meant as it is.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Problem> {
        let is_quoted =
            |key: &&CallerKey| is_in_quotes(key.pair.expose_secret()) || key.key().starts_with(b"\"");
        self.0
            .iter()
            .filter(is_quoted)
            .map(|key| files::key_in_quotes(key.name()))
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &CallerKey> {
        self.0.iter()
    }
}

impl CallerKey {
    /// The name of the caller, for logs.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// `name:key`, as in HTTP Basic.
    pub(crate) fn pair(&self) -> &[u8] {
        self.pair.expose_secret().as_bytes()
    }

    /// The key alone.
    pub(crate) fn key(&self) -> &[u8] {
        &self.pair()[self.name.len() + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CallerKeys, InputError> {
        CallerKeys::parse(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn a_key_follows_the_first_colon_of_a_line() {
        let keys = parse("# callers\nsnow:k1\n\n mid:k:2 \r\n").unwrap();
        let keys: Vec<_> = keys.iter().map(|key| (&**key.name(), key.key())).collect();
        assert_eq!(keys, [("snow", &b"k1"[..]), ("mid", b"k:2")]);
    }

    #[test]
    fn a_caller_may_have_two_keys_but_a_key_only_one_caller() {
        assert!(parse("snow:old\nsnow:new\n").is_ok());
        let error = parse("snow:k1\nmid:k2\nnew:k1\n").err().unwrap().to_string();
        assert!(
            error.contains("line 3") && error.contains("another caller"),
            "{error}"
        );
    }

    #[test]
    fn unusable_keys_are_an_error_that_does_not_quote_them() {
        let error = |text: &str| parse(text).err().map(|error| error.to_string());
        assert!(error("").unwrap().contains("no line"));
        assert!(error("a:b\nhunter2\n").unwrap().contains("line 2"));
        for wrong in ["hunter2", ":hunter2", "hunter2:"] {
            assert!(!error(wrong).unwrap().contains("hunter2"), "{wrong}");
        }
    }
}
