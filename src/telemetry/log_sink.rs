//! Where log lines end: standard error, or a file that is rotated, or opened again after it was moved.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::log_rotation::{self, Rotation, RotationError};
use crate::config::LogRotation;
use crate::platform::files;

/// Standard error or a file.
pub(super) struct Sink {
    path: Option<PathBuf>,
    file: File,
    rotation: Option<Rotation>,
}

impl Sink {
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::from(files::standard_error()?))
    }

    /// A file that is appended to, and created if it does not exist.
    pub(super) fn file(path: &Path, rotate: Option<&LogRotation>) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            path: Some(path.to_owned()),
            rotation: rotate.map(|rules| Rotation::new(rules.clone(), path, &file)),
            file,
        })
    }

    /// Rotates the file if that is due before `more` bytes are written. After an error, the present file is written on.
    /// Returns only errors that are to be reported.
    pub(super) fn rotate(&mut self, more: usize) -> Result<(), RotationError> {
        let (Some(path), Some(rotation)) = (&self.path, &mut self.rotation) else {
            return Ok(());
        };
        if rotation.is_paused() {
            return Ok(());
        }
        let rotated = rotate_if_due(path, &mut self.file, rotation, more);
        let is_rotated = matches!(rotated, Ok(true));
        rotation.record(rotated.map(drop))?;
        if is_rotated {
            rotation.remove_old(path)
        } else {
            Ok(())
        }
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
        if let Some(rotation) = &mut self.rotation {
            rotation.begin(SystemTime::now());
        }
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
        Self {
            path: None,
            file,
            rotation: None,
        }
    }
}

/// Continues in the new file if another process has renamed this one, and rotates it if that is due. Returns whether it
/// was rotated.
fn rotate_if_due(path: &Path, file: &mut File, rotation: &mut Rotation, more: usize) -> io::Result<bool> {
    // A pipe or a device is not rotated.
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let now = SystemTime::now();
    if !files::is_at(file, path) {
        *file = open(path)?;
        rotation.begin(now);
    }
    if !rotation.is_due(file.metadata()?.len(), more, now) {
        return Ok(false);
    }
    log_rotation::rename(path, now)?;
    *file = open(path)?;
    // Another process may have written to it already.
    rotation.begin(now);
    Ok(true)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
