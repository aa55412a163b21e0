//! What the log said lately, in memory: its last lines, and what went wrong in the last hour.
//!
//! Both are for support cases, and survive a flood of requests' lines in different ways: the last lines are those of a few
//! seconds then, while the problems are counted, so that an old one keeps its place.

mod lines;
mod problems;

use std::sync::Arc;
use std::time::SystemTime;

use self::lines::RecentLines;
use self::problems::RecentProblems;

pub(super) use self::problems::RecentProblemsLayer;

/// The recent log of the process; clones share it.
#[derive(Clone, Default)]
pub struct RecentLog {
    pub(super) lines: Arc<RecentLines>,
    pub(super) problems: Arc<RecentProblems>,
}

impl RecentLog {
    /// The last 256 KiB of lines, whole ones alone, the oldest first.
    #[must_use]
    pub fn lines(&self) -> String {
        self.lines.text()
    }

    /// What went wrong in the hour before `now`, for people: the latest first, each with its first and last time, its number,
    /// and its last line.
    #[must_use]
    pub fn problems(&self, now: SystemTime) -> String {
        self.problems.text(now)
    }
    /// A log that said one line.
    #[cfg(test)]
    pub(crate) fn of_line(line: &str) -> Self {
        let log = Self::default();
        log.lines.add(line.as_bytes());
        log
    }
}
