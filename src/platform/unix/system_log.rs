//! The system's own log of events, which only Windows has: on other systems, the service manager collects standard error,
//! under systemd in the journal.

use std::convert::Infallible;
use std::io;

use rustix::fs::fstat;

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Information,
    /// The operator should look at it.
    Warning,
    /// It failed.
    Error,
}

/// The system's log: there is none.
#[derive(Debug)]
pub struct SystemLog(Infallible);

/// Whether standard error is systemd's journal. A process that the service starts inherits the variable, and may have
/// another standard error (systemd.exec(5), `$JOURNAL_STREAM`).
#[must_use]
pub fn is_standard_error() -> bool {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let stderr = fstat(io::stderr()).ok();
    journal
        .zip(stderr)
        .is_some_and(|(journal, stderr)| journal == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

impl SystemLog {
    /// None.
    #[must_use]
    pub fn of_this_service() -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub fn report(&self, _level: Level, _text: &str) {
        match self.0 {}
    }
}
