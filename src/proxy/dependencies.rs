//! What the requests to an upstream need besides its configuration.

use std::sync::Arc;

use super::forward::kept_body::ReplayBudget;
use crate::server::Stopping;
use crate::spool::Spool;
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::Metrics;
use crate::token::TokenReader;
use crate::upstream::{ApiStatus, Network};

/// What the requests to an upstream need. Cheap to clone.
#[derive(Clone)]
pub struct Dependencies {
    /// What its connections share.
    pub network: Network,
    /// The upstream's token.
    pub tokens: TokenReader,
    /// Records how the API responds.
    pub api: ApiStatus,
    /// The budget for kept request bodies, over all upstreams.
    pub budget: ReplayBudget,
    /// Holds pulled messages until they are delivered.
    pub spool: Spool,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// Keeps the recent requests.
    pub activity: Arc<Activity>,
    /// The phase of a stop.
    pub stop: Stopping,
}
