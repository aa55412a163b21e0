//! The source of a secret. The secret is read again for each use.

use std::env::VarError;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};
use toml::Value;

use super::text;
use crate::problems::{Problem, configuration, files};

/// A secret, or the place that holds it.
///
/// A file is read at each [`load`](Self::load), so that a replaced secret (by rename, or by the `..data` symlink
/// of Kubernetes) is used next without a watch.
#[derive(Clone)]
pub enum SecretSource {
    /// In the configuration itself; causes a warning.
    Inline(SecretString),
    /// A file; one trailing line break is not part of the secret.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Why a secret, caller keys, an outbound proxy or a certificate cannot be used. The text says what to do, and quotes no
/// secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InputError(#[from] Problem);

impl From<InputError> for Problem {
    fn from(InputError(problem): InputError) -> Self {
        problem
    }
}

impl SecretSource {
    /// Reads the secret as it is now.
    pub fn load(&self) -> Result<SecretString, InputError> {
        let secret = match (self, self.path()) {
            (Self::Inline(secret), _) => secret.clone(),
            (_, Some(path)) => load_file(&path)?,
            (Self::Environment(name), _) => {
                let unset = |error| match error {
                    VarError::NotPresent => files::variable_unset(name),
                    VarError::NotUnicode(_) => configuration::variable_not_utf_8(name),
                };
                SecretString::from(std::env::var(name).map_err(unset)?)
            }
            (Self::File(_) | Self::Credential(_), None) => return Err(files::credential_missing(self).into()),
        };
        if secret.expose_secret().is_empty() {
            return Err(files::empty(self).into());
        }
        Ok(secret)
    }

    /// The file that holds the secret, if a file does.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
                Some(PathBuf::from(directory).join(name))
            }
            Self::Inline(_) | Self::Environment(_) => None,
        }
    }
}

/// A file above this size is not a secret, a key list or a proxy URL.
const MOST_MIB: u64 = 1;

/// The text of a file, without its byte order mark and one trailing line break.
fn load_file(path: &Path) -> Result<SecretString, Problem> {
    let bytes = text::read(path, MOST_MIB)?;
    let text = text::decode(&bytes, path)?;
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    };
    // Boxed at its exact size: a string that shrinks may leave a copy behind.
    Ok(SecretString::new(Box::from(text)))
}

/// The errors quote no value: it may be a secret in the wrong form.
impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let source = match value.as_table().map(Vec::from_iter).as_deref() {
            None => text(&value).map(|secret| Self::Inline(SecretString::from(secret))),
            Some([(place, name)]) => match place.as_str() {
                "file" => text(name).map(|path| Self::File(path.into())),
                "env" => text(name).map(Self::Environment),
                "credential" => text(name).map(Self::Credential),
                _ => None,
            },
            Some(_) => None,
        };
        source.ok_or_else(|| de::Error::custom(FORM))
    }
}

const FORM: &str = "is neither text in quotes nor a source; write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"NAME\" }";

/// Compares places, or the secrets themselves if both are inline.
impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(one), Self::Inline(other)) => one.expose_secret() == other.expose_secret(),
            _ => self.to_string() == other.to_string(),
        }
    }
}

impl Eq for SecretSource {}

/// Names the place; never shows a value.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "{{ file = \"{}\" }}", path.display()),
            Self::Environment(name) => write!(f, "{{ env = \"{name}\" }}"),
            Self::Credential(name) => write!(f, "{{ credential = \"{name}\" }}"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_and_one_trailing_line_break_are_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (held, secret) in [
            ("a\n", "a"),
            ("\u{feff}a\r\n", "a"),
            ("a\r\n", "a"),
            ("a\r", "a\r"),
            ("a", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
        ] {
            std::fs::write(file.path(), held).unwrap();
            let loaded = SecretSource::File(file.path().into()).load().unwrap();
            assert_eq!(loaded.expose_secret(), secret, "{held:?}");
        }
    }

    #[test]
    fn an_empty_secret_is_an_error_that_names_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource::File(file.path().into());
        let error = source.load().unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_rejected_without_waiting() {
        let error = SecretSource::File("/dev/null".into()).load().unwrap_err();
        assert!(error.to_string().contains("regular file"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let source = SecretSource::Inline(SecretString::from("hunter2".to_owned()));
        assert!(!format!("{source} {source:?}").contains("hunter2"));
    }
}
