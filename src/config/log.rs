//! The log: `[log]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level, or levels by module (`bondgate=debug,hyper=info`).
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
    /// The file to append to, in place of standard error.
    pub file: Option<PathBuf>,
    /// When bondgate itself rotates the file; never if absent.
    pub rotate: Option<LogRotation>,
}

/// When the log file is rotated: when one of these is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRotation {
    /// The most bytes of the file.
    #[serde(default, deserialize_with = "units::positive_if_set")]
    pub size: Option<u64>,
    /// The time since the file's first line.
    #[serde(default, deserialize_with = "units::positive_if_set")]
    pub age: Option<Duration>,
    /// The most rotated files that are kept.
    #[serde(deserialize_with = "units::positive_number")]
    pub keep: usize,
}

impl LogRotation {
    /// For a log that nothing else rotates.
    pub const OF_SERVICE: Self = Self {
        size: Some(20 << 20),
        age: Some(Duration::from_secs(24 * 3600)),
        keep: 10,
    };
}

/// The form of a line, as configured.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal and in systemd's journal, else JSON.
    Auto,
    /// For people.
    Text,
    /// A JSON object.
    Json,
}
