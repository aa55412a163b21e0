//! Where a secret comes from, for everybody who needs one: it is read again each time.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
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
            Self::File(path) => file(path.clone())?,
            Self::Environment(name) => {
                SecretString::from(std::env::var(name).map_err(|_| SecretError::Environment(name.clone()))?)
            }
            Self::Credential(name) => {
                let directory = credentials().ok_or_else(|| SecretError::Credential(name.clone()))?;
                file(directory.join(name))?
            }
        };
        if secret.expose_secret().is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        Ok(secret)
    }

    /// The file that holds it, where one does.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => credentials().map(|directory| directory.join(name)),
            Self::Inline(_) | Self::Environment(_) => None,
        }
    }
}

/// Where systemd puts credentials.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// More than any secret, key list or proxy URL has: what is longer is another file.
const LONGEST: u64 = 1 << 20;

const DENIED: &str = "permission denied; let bondgate's user read it, and restart bondgate where it leads to another \
directory than at the start, since its sandbox holds to that one";

fn file(path: PathBuf) -> Result<SecretString, SecretError> {
    let text = match read(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            let source = io::Error::new(source.kind(), DENIED);
            return Err(SecretError::File { path, source });
        }
        Err(source) => return Err(SecretError::File { path, source }),
    };
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => &text,
    };
    // A box of exactly its size: a string that shrinks may leave a copy behind.
    Ok(SecretString::new(Box::from(text)))
}

/// A pipe would be empty at the next fetch, or keep its reader waiting.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let about = std::fs::metadata(path)?;
    let unfit = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if !about.is_file() {
        return unfit("it is not a regular file; name a file, which can be read again for each use");
    }
    if about.len() > LONGEST {
        return unfit("it is over 1 MiB, which is no secret");
    }
    // Room for all of it and more: a string that grows leaves copies behind, and so does the reader's
    // look for the end, on the stack, where there is little room left.
    let room = usize::try_from(about.len()).unwrap_or(0) + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether it is the same place, or the same secret where it is inline.
impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(one), Self::Inline(other)) => one.expose_secret() == other.expose_secret(),
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Environment(one), Self::Environment(other))
            | (Self::Credential(one), Self::Credential(other)) => one == other,
            _ => false,
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
    fn one_trailing_line_break_is_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (held, secret) in [
            ("a\n", "a"),
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
        let told = source.load().unwrap_err().to_string();
        assert!(told.contains(&file.path().display().to_string()), "{told}");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let error = SecretSource::File("/dev/null".into()).load().unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("regular file"), "{why}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let source = SecretSource::Inline(SecretString::from("hunter2".to_owned()));
        assert!(!format!("{source} {source:?}").contains("hunter2"));
    }
}
