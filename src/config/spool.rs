//! The spool: `[spool]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// Where pulled messages are kept until they are delivered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// The directory; in memory without one.
    pub directory: Option<PathBuf>,
    /// Whether the directory outlives the pod or container that bondgate runs in.
    pub persistent: bool,
    /// The most messages that are kept; no pull is sent beyond.
    #[serde(deserialize_with = "units::positive_number")]
    pub messages: usize,
    /// The most bytes on disk; no pull is sent beyond.
    #[serde(deserialize_with = "units::positive")]
    pub bytes: u64,
    /// The most bytes in memory.
    #[serde(deserialize_with = "units::positive")]
    pub memory: u64,
    /// How long a delivered message is retained on disk.
    #[serde(deserialize_with = "units::quantity")]
    pub keep: Duration,
    /// The most bytes of delivered messages on disk.
    #[serde(deserialize_with = "units::quantity")]
    pub keep_bytes: u64,
    /// How long a connection is silent after a message until the message counts as delivered.
    #[serde(deserialize_with = "units::positive")]
    pub settle: Duration,
    /// How long a message is withheld from a caller after its first failed delivery to it, its second, and so
    /// on.
    #[serde(deserialize_with = "units::durations")]
    pub pauses: Vec<Duration>,
}
