//! Limits on callers: `[limits]`.

use std::time::Duration;

use serde::Deserialize;

use super::units;

/// The largest `limits.fields`: heads are parsed into a table of this size.
pub const MAX_FIELDS: usize = 256;

/// Limits on callers, over all listeners.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request head; 431 beyond.
    #[serde(deserialize_with = "units::positive")]
    pub head: usize,
    /// Fields of a request head; 431 beyond.
    #[serde(deserialize_with = "units::positive_number")]
    pub fields: usize,
    /// Bytes of a request target as it is sent upstream; 414 beyond.
    #[serde(deserialize_with = "units::positive")]
    pub target: usize,
    /// Bytes of a request body, 0 for no limit; 413 beyond.
    #[serde(deserialize_with = "units::quantity")]
    pub body: u64,
    /// The time for the first byte, and then for the rest of the head; 408 beyond.
    #[serde(deserialize_with = "units::quantity")]
    pub first_byte: Duration,
    /// How long an idle connection is kept.
    #[serde(deserialize_with = "units::quantity")]
    pub keep_alive: Duration,
    /// How long a caller may read nothing of its response, and how long the rest of its body may make no
    /// progress after an early response.
    #[serde(deserialize_with = "units::positive")]
    pub stall: Duration,
    /// Concurrent connections; beyond, the longest idle one is closed, or 503.
    #[serde(deserialize_with = "units::positive_number")]
    pub connections: usize,
    /// Further connections that get that 503; not a key, see [`fit`](super::Config::fit).
    #[serde(skip)]
    pub refusals: usize,
    /// Concurrent requests; 503 beyond.
    #[serde(deserialize_with = "units::positive_number")]
    pub in_flight: usize,
    /// Concurrent requests of one caller, 0 for no fixed limit; 503 beyond.
    pub per_caller: usize,
}
