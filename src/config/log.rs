//! The log: `[log]`.

use std::path::PathBuf;

use serde::Deserialize;

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
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}
