//! Caller keys as their place holds them: a line `name:key` for each caller.

use secrecy::{ExposeSecret, SecretString};

use super::secret::{SecretError, SecretSource};

/// The keys of one listener's callers; at least one.
pub struct CallerKeys(Vec<CallerKey>);

/// One caller's key.
pub struct CallerKey {
    name: String,
    /// As HTTP Basic has both.
    pair: SecretString,
}

/// Caller keys cannot be used; names no key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The place cannot be read.
    #[error("the caller keys cannot be had")]
    Secret(#[from] SecretError),
    /// A line is no `name:key`.
    #[error("line {0} of the caller keys is not \"name:key\"")]
    Line(usize),
    /// Two callers have one key: logs could not say who of them came.
    #[error("line {0} of the caller keys has the key of another caller; give each caller its own")]
    Shared(usize),
    /// There is none.
    #[error("the caller keys hold no line \"name:key\": nobody could come in")]
    None,
}

impl CallerKeys {
    /// Reads the keys as they are now.
    pub fn load(source: &SecretSource) -> Result<Self, KeysError> {
        Self::parse(&source.load()?)
    }

    /// Reads lines `name:key`; empty ones and those that begin with `#` are passed over.
    pub fn parse(text: &SecretString) -> Result<Self, KeysError> {
        let mut keys: Vec<CallerKey> = Vec::new();
        for (at, line) in text.expose_secret().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line.split_once(':');
            let Some((name, key)) = pair.filter(|(name, key)| !name.is_empty() && !key.is_empty()) else {
                return Err(KeysError::Line(at + 1));
            };
            if keys
                .iter()
                .any(|other| other.name != name && other.key() == key.as_bytes())
            {
                return Err(KeysError::Shared(at + 1));
            }
            keys.push(CallerKey {
                name: name.to_owned(),
                pair: SecretString::from(line.to_owned()),
            });
        }
        if keys.is_empty() {
            Err(KeysError::None)
        } else {
            Ok(Self(keys))
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &CallerKey> {
        self.0.iter()
    }
}

impl CallerKey {
    /// What logs call the caller.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `name:key`, as HTTP Basic has it.
    #[must_use]
    pub fn pair(&self) -> &[u8] {
        self.pair.expose_secret().as_bytes()
    }

    /// The key alone.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.pair()[self.name.len() + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CallerKeys, KeysError> {
        CallerKeys::parse(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn a_key_is_what_stands_behind_the_first_colon_of_a_line() {
        let keys = parse("# callers\nsnow:k1\n\n mid:k:2 \r\n").unwrap();
        let keys: Vec<_> = keys.iter().map(|key| (key.name(), key.key())).collect();
        assert_eq!(keys, [("snow", &b"k1"[..]), ("mid", b"k:2")]);
    }

    #[test]
    fn a_caller_may_have_two_keys_and_no_key_two_callers() {
        assert!(parse("snow:old\nsnow:new\n").is_ok());
        assert!(matches!(
            parse("snow:k1\nmid:k2\nnew:k1\n"),
            Err(KeysError::Shared(3))
        ));
    }

    #[test]
    fn keys_that_let_nobody_in_are_an_error_without_their_text() {
        let told = |text: &str| parse(text).err().map(|error| error.to_string());
        assert!(told("").unwrap().contains("nobody"));
        assert!(told("a:b\nhunter2\n").unwrap().contains("line 2"));
        for wrong in ["hunter2", ":hunter2", "hunter2:"] {
            assert!(!told(wrong).unwrap().contains("hunter2"), "{wrong}");
        }
    }
}
