//! Where a secret comes from, for everybody who needs one: it is read again each time.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// A secret, or the place that holds it.
///
/// A file is read at each [`load`](Self::load), so a secret that was replaced (by rename, or by
/// Kubernetes' `..data` symlink) is seen at the next use without a watch.
#[derive(Clone)]
pub enum SecretSource {
    /// Written into the configuration itself: works, and is warned about.
    Inline(SecretString),
    /// A file; one trailing line break is not part of the secret.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Why a secret could not be had; names the place, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file that was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    Environment(String),
    /// systemd handed no credentials over.
    #[error("$CREDENTIALS_DIRECTORY is not set: add LoadCredential={0}:… to the systemd unit")]
    Credential(String),
    /// The place holds nothing.
    #[error("{0} is empty")]
    Empty(String),
}

impl SecretSource {
    /// Reads the secret as it is now.
    pub fn load(&self) -> Result<SecretString, SecretError> {
        let secret = match self {
            Self::Inline(secret) => secret.clone(),
            Self::File(path) => read(path.clone())?,
            Self::Environment(name) => {
                SecretString::from(std::env::var(name).map_err(|_| SecretError::Environment(name.clone()))?)
            }
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::Credential(name.clone()))?;
                read(PathBuf::from(directory).join(name))?
            }
        };
        if secret.expose_secret().is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        Ok(secret)
    }
}

fn read(path: PathBuf) -> Result<SecretString, SecretError> {
    let mut text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SecretError::File { path, source }),
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(SecretString::from(text))
}

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
    fn one_trailing_line_break_is_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (held, secret) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
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
        let told = source.load().unwrap_err().to_string();
        assert!(told.contains(&file.path().display().to_string()), "{told}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let source = SecretSource::Inline(SecretString::from("hunter2".to_owned()));
        assert!(!format!("{source} {source:?}").contains("hunter2"));
    }
}
