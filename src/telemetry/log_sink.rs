//! Where log lines end: standard error, or a file that is opened again after it was moved.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::platform::files;

/// Standard error or a file.
pub(super) struct Sink {
    path: Option<PathBuf>,
    file: File,
}

impl Sink {
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::from(files::standard_error()?))
    }

    /// A file that is appended to, and created if it does not exist.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: Some(path.to_owned()),
            file: open(path)?,
        })
    }

    /// Opens a log file again by its path, and reports whether that is another file now.
    pub(super) fn reopen(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        // A pipe or a device is not rotated.
        if !self.file.metadata()?.is_file() || files::is_at(&self.file, path) {
            return Ok(false);
        }
        self.file = open(path)?;
        Ok(true)
    }

    /// Waits for a slow reader, even if the pipe was made non-blocking by another process. Returns how many lines could
    /// not be written.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(written) if written > 0 => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    files::wait_until_writable(&self.file);
                }
                _ => return memchr::memchr_iter(b'\n', bytes).count() as u64,
            }
        }
        0
    }
}

/// A file that stays open.
impl From<File> for Sink {
    fn from(file: File) -> Self {
        Self { path: None, file }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
