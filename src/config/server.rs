//! Workers and stop: `[server]`.

use std::time::Duration;

use serde::Deserialize;

use super::units;

/// Workers and stop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Worker threads; 0 for one per core, at most 4.
    pub workers: usize,
    /// The time for the whole stop.
    #[serde(deserialize_with = "units::quantity")]
    pub drain: Duration,
    /// The first part of it, in which callers are served and each response closes its connection.
    #[serde(deserialize_with = "units::quantity")]
    pub lame_duck: Duration,
    /// Whether a change of the configuration file causes a reload.
    pub watch: bool,
    /// Whether the daemon gives up access that it does not need, if the system supports that.
    pub sandbox: bool,
}
