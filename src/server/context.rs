//! What all connections share.

use std::sync::Arc;
use std::time::SystemTime;

use super::active_settings::ActiveSettings;
use super::limits::ConnectionLimit;
use super::peer::Peer;
use super::stopping::Stopping;
use crate::config::Limits;
use crate::telemetry::activity::{Activity, Refusal};
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
    /// Records refusals of connections and of heads.
    pub activity: Arc<Activity>,
    /// The phase of a stop.
    pub stop: Stopping,
}

impl ServerContext {
    /// Records a refusal for the status page. `status` is 0 without a response.
    pub(super) fn record_refusal(
        &self,
        settings: &ActiveSettings,
        peer: &Peer,
        status: u16,
        problem: &'static str,
    ) {
        self.activity.refused(Refusal {
            at: SystemTime::now(),
            listener: &settings.load().label,
            problem,
            status,
            caller: peer.text(),
        });
    }
}
