//! What the documents of the admin listener are made of.

use std::sync::Arc;

use super::readiness::Readiness;
use super::status::Facts;
use crate::spool::Spool;
use crate::telemetry::RecentLog;
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::Metrics;

/// What the documents of the admin listener are made of.
pub struct Sources {
    /// What is fixed while a configuration is active.
    pub facts: Facts,
    /// The readiness of the daemon, with its tokens.
    pub readiness: Readiness,
    /// The pulled messages.
    pub spool: Spool,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The recent requests.
    pub activity: Arc<Activity>,
    /// The recent log.
    pub log: RecentLog,
}
