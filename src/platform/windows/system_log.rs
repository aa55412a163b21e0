//! The Event Log, for a service: it has no console.

use super::{event_log, service_process};

pub use super::event_log::Level;

/// The Event Log, with bondgate as the source.
#[derive(Debug)]
pub struct SystemLog(event_log::EventLog);

/// Whether standard error is systemd's journal: there is none.
#[must_use]
pub fn is_standard_error() -> bool {
    false
}

impl SystemLog {
    /// Opens it, if this process runs as a service.
    #[must_use]
    pub fn of_this_service() -> Option<Self> {
        service_process::reporter()?;
        event_log::EventLog::open("bondgate").ok().map(Self)
    }

    /// Reports an event. It is best effort: the log file has the event, too.
    pub fn report(&self, level: Level, text: &str) {
        let _ = self.0.report(level, text);
    }
}
