//! The recent log, in memory: its last lines, and the warnings, errors and changes of state of the last hour.
//!
//! Both are for support cases, and both hold only lines that `log.level` lets pass. A flood of requests fills the last
//! lines within seconds. Warnings, errors and changes are counted by kind, so that a flood is one kind and pushes no
//! older one out.

mod lines;
mod reports;

use std::sync::Arc;
use std::time::SystemTime;

use self::lines::RecentLines;
use self::reports::RecentReports;

pub(super) use self::reports::RecentReportsLayer;

/// The recent log of the process; clones share it.
#[derive(Clone, Default)]
pub struct RecentLog {
    pub(super) lines: Arc<RecentLines>,
    pub(super) reports: Arc<RecentReports>,
}

impl RecentLog {
    /// How many bytes of lines are kept.
    pub const CAPACITY: usize = lines::CAPACITY;

    /// The last lines, whole ones alone, the oldest first.
    #[must_use]
    pub fn lines(&self) -> String {
        self.lines.text()
    }

    /// The warnings, errors and changes of state of the hour before `now`, as text for people: the latest first, each
    /// with its first and last time, its number, and its last line.
    #[must_use]
    pub fn reports(&self, now: SystemTime) -> String {
        self.reports.text(now)
    }

    /// A log of one line.
    #[cfg(test)]
    pub(crate) fn of_line(line: &str) -> Self {
        let log = Self::default();
        log.lines.add(line.as_bytes());
        log
    }
}
