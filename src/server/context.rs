//! What all connections share.

use std::sync::Arc;

use super::limits::ConnectionLimit;
use super::stopping::Stopping;
use crate::config::Limits;
use crate::telemetry::metrics::Metrics;

/// What all connections of all workers share.
#[derive(Clone)]
pub struct ServerContext {
    /// The limits on callers.
    pub limits: Arc<Limits>,
    /// The limit on connections.
    pub connections: ConnectionLimit,
    /// The metrics of connections.
    pub metrics: Arc<Metrics>,
    /// The phase of a stop.
    pub stop: Stopping,
}
