//! Rotation of the log file by bondgate itself, where no other program does it: when it is due, which name the file gets,
//! and which files are removed.
//!
//! Several processes may write to one file for a moment, as in an upgrade. None of them renames a file over another one's
//! rotated file, and a process whose file was renamed by another one continues in the new file (see
//! [`Sink`](super::log_sink::Sink)).

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::line;
use crate::config::LogRotation;

/// How long after a failure the next attempt is made.
const RETRY: Duration = Duration::from_secs(60);
/// Enough of a line for its time.
const BEGINNING: u64 = 64;
/// The form of the time in a name, `d` for a digit.
const TIME: &[u8] = b"ddddddddTddddddZ";

/// When the log file is due for rotation.
pub(super) struct Rotation {
    rules: LogRotation,
    /// The time of the file's first line.
    begun: SystemTime,
    /// When the last attempt was made, if it failed.
    failed: Option<Instant>,
}

/// What rotation could not do.
#[derive(Debug)]
pub(super) enum RotationError {
    /// The file is written on.
    Rotate(io::Error),
    /// A rotated file is kept beyond its time.
    Remove(PathBuf, io::Error),
}

/// A rotated file. Their order is that of their rotation.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rotated {
    time: String,
    /// From 1; files of the same second are numbered.
    number: u32,
    name: OsString,
}

impl Rotation {
    /// For a file that exists. After a restart its age continues: it counts from the time of the first line, because not
    /// every file system has a creation time, and Windows gives a new file that of one that had its name before. Without a
    /// first line of bondgate's own, the age counts from the last change.
    pub(super) fn new(rules: LogRotation, path: &Path, file: &File) -> Self {
        let metadata = file.metadata();
        let is_file = metadata.as_ref().is_ok_and(fs::Metadata::is_file);
        let first = is_file.then(|| first_line_time(path)).flatten();
        let changed = metadata.and_then(|metadata| metadata.modified()).ok();
        Self {
            rules,
            begun: first.or(changed).unwrap_or_else(SystemTime::now),
            failed: None,
        }
    }

    /// Whether a file of this size is rotated before `more` bytes are written to it. An empty file is not, and begins with
    /// its first line.
    pub(super) fn is_due(&mut self, size: u64, more: usize, now: SystemTime) -> bool {
        // A time to come is that of a clock that was wrong.
        if size == 0 || self.begun > now {
            self.begun = now;
        }
        let age = now.duration_since(self.begun).unwrap_or_default();
        let is_too_large = self.rules.size.is_some_and(|most| size + more as u64 > most);
        let is_too_old = self.rules.age.is_some_and(|most| age >= most);
        size > 0 && (is_too_large || is_too_old)
    }

    /// The file was moved, and a new one is begun.
    pub(super) fn begin(&mut self, now: SystemTime) {
        self.begun = now;
    }

    /// Whether the last attempt has just failed.
    pub(super) fn is_paused(&self) -> bool {
        self.failed.is_some_and(|failed| failed.elapsed() < RETRY)
    }

    /// Takes the result of an attempt, and returns an error that is to be reported: only the first of several in a row.
    pub(super) fn record(&mut self, result: io::Result<()>) -> Result<(), RotationError> {
        let Err(error) = result else {
            self.failed = None;
            return Ok(());
        };
        match self.failed.replace(Instant::now()) {
            None => Err(RotationError::Rotate(error)),
            Some(_) => Ok(()),
        }
    }

    /// Removes all but the newest rotated files.
    pub(super) fn remove_old(&self, log: &Path) -> Result<(), RotationError> {
        let log = target(log);
        let folder = folder(&log);
        let found = rotated_files(&log).map_err(|error| RotationError::Remove(folder.to_owned(), error))?;
        let mut result = Ok(());
        for file in superfluous(found, self.rules.keep, &time_in_name(SystemTime::now())) {
            let path = folder.join(file.name);
            match fs::remove_file(&path) {
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => result = Err(RotationError::Remove(path, error)),
                Ok(()) => {}
            }
        }
        result
    }
}

impl RotationError {
    /// Logs it.
    pub(super) fn report(&self) {
        match self {
            Self::Rotate(error) => tracing::error!(
                %error,
                "log file cannot be rotated, writing to the present one and trying again every minute; let bondgate's user \
                 create and rename files in its directory, and close the program that has it open"
            ),
            Self::Remove(path, error) => tracing::error!(
                path = %path.display(),
                %error,
                "rotated log file cannot be removed; let bondgate's user remove files in its directory"
            ),
        }
    }
}

/// Renames the log file to a name with the time. Does nothing if there is no log file: another process has renamed it.
pub(super) fn rename(log: &Path, now: SystemTime) -> io::Result<()> {
    let log = target(log);
    let to = reserve(&log, now)?;
    let Err(error) = fs::rename(&log, &to) else {
        return Ok(());
    };
    // If it stays, it is removed in its turn, as a rotated file.
    let _ = fs::remove_file(&to);
    match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// Creates an empty file with a name that no other one has, since a rename replaces a file of that name.
fn reserve(log: &Path, now: SystemTime) -> io::Result<PathBuf> {
    let time = time_in_name(now);
    // Numbers go up, even if the first ones are free again: the order tells which files are old.
    let numbers = rotated_files(log)?
        .into_iter()
        .filter(|file| file.time == time)
        .map(|file| file.number);
    let mut number = numbers.max().unwrap_or_default() + 1;
    loop {
        let mut path = log.as_os_str().to_owned();
        path.push(format!(".{time}"));
        if number > 1 {
            path.push(format!("-{number}"));
        }
        // The sandbox allows no reading.
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            created => return created.map(|_| path.into()),
        }
    }
}

/// The rotated files of a log file.
fn rotated_files(log: &Path) -> io::Result<Vec<Rotated>> {
    let log_name = log.file_name().unwrap_or_default();
    let mut files = Vec::new();
    for entry in fs::read_dir(folder(log))? {
        files.extend(parse_name(log_name, entry?.file_name()));
    }
    Ok(files)
}

/// Parses `LOG.20261129T141500Z` or `LOG.20261129T141500Z-2`.
fn parse_name(log: &OsStr, name: OsString) -> Option<Rotated> {
    let rest = name.as_encoded_bytes().strip_prefix(log.as_encoded_bytes())?;
    let rest = str::from_utf8(rest.strip_prefix(b".")?).ok()?;
    let (time, number) = rest.split_at_checked(TIME.len())?;
    let fits = |(byte, form): (u8, &u8)| {
        if *form == b'd' {
            byte.is_ascii_digit()
        } else {
            byte == *form
        }
    };
    if !time.bytes().zip(TIME).all(fits) {
        return None;
    }
    let number = match number.strip_prefix('-') {
        None if number.is_empty() => 1,
        // Neither `+2` nor `02`.
        Some(digits) if digits.starts_with(|first: char| matches!(first, '1'..='9')) => {
            digits.parse().ok().filter(|number| *number > 1)?
        }
        _ => return None,
    };
    Some(Rotated {
        time: time.to_owned(),
        number,
        name,
    })
}

/// The files to remove, of which the oldest come first. A time to come is that of a clock that was wrong, and the oldest.
fn superfluous(mut files: Vec<Rotated>, keep: usize, now: &str) -> Vec<Rotated> {
    files.sort();
    files.sort_by_key(|file| file.time.as_str() <= now);
    files.truncate(files.len().saturating_sub(keep));
    files
}

/// A time in UTC as names have it, in seconds.
fn time_in_name(time: SystemTime) -> String {
    // humantime cannot format a time before 1970.
    let time = humantime::format_rfc3339_seconds(time.max(UNIX_EPOCH)).to_string();
    time.replace(['-', ':'], "")
}

/// The time of the first line of a log file.
fn first_line_time(path: &Path) -> Option<SystemTime> {
    let mut beginning = Vec::new();
    File::open(path)
        .ok()?
        .take(BEGINNING)
        .read_to_end(&mut beginning)
        .ok()?;
    line::log_line_time(&beginning)
}

/// The file that a link leads to: it is rotated, and not the link.
fn target(log: &Path) -> PathBuf {
    log.canonicalize().unwrap_or_else(|_| log.to_owned())
}

fn folder(log: &Path) -> &Path {
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
