//! What happens to a request between a listener and its upstream: one stack of tower layers, see [`routers`].

mod access_log;
mod authorization;
mod caller_identity;
mod catch_panic;
mod dependencies;
mod early_response;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod health;
mod in_flight;
mod pull;
mod relay;
mod request_record;

use std::sync::Arc;

use axum::routing::{MethodRouter, any_service};
use tower::ServiceBuilder;

use self::access_log::{AccessLog, Explanations};
use self::catch_panic::CatchPanic;
use self::early_response::early_response;
use self::forward::Forwarder;
use self::pull::Puller;
use self::relay::Relay;
use crate::config::{self, InputError};
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::UpstreamMetrics;

pub use self::authorization::{Authorization, RuleError, validate_rules};
pub use self::dependencies::Dependencies;
pub use self::forward::ReplayBudget;
pub use self::in_flight::InFlightLimit;

/// One upstream: what its requests need, with one forwarder per worker. A reload that leaves the upstream unchanged
/// keeps it, and with it the open connections.
pub struct Upstream {
    name: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    explanations: Arc<Explanations>,
    activity: Arc<Activity>,
    adds_correlation_id: bool,
    workers: Vec<Relay>,
}

impl Upstream {
    /// An upstream for this many workers.
    pub fn new(
        config: &config::Upstream,
        dependencies: &Dependencies,
        workers: usize,
    ) -> Result<Self, InputError> {
        let metrics = Arc::new(dependencies.metrics.upstream(&config.name));
        let name: Arc<str> = config.name.as_str().into();
        let worker = |_| {
            let forwarder = Arc::new(Forwarder::new(config, dependencies, metrics.clone())?);
            Ok(Relay {
                upstream: name.clone(),
                puller: Arc::new(Puller::new(
                    config,
                    forwarder.clone(),
                    dependencies,
                    metrics.clone(),
                )),
                forwarder,
            })
        };
        Ok(Self {
            workers: (0..workers).map(worker).collect::<Result<_, InputError>>()?,
            name,
            metrics,
            explanations: Arc::default(),
            activity: dependencies.activity.clone(),
            adds_correlation_id: config.correlation_id,
        })
    }
}

/// The routers of one listener, one for each worker of its upstream. `label` names the listener in the log.
#[must_use]
pub fn routers(
    listener: &config::Listener,
    label: &str,
    authorization: &Arc<Authorization>,
    in_flight: &InFlightLimit,
    upstream: &Upstream,
) -> Vec<MethodRouter> {
    let access_log = Arc::new(access_log::Settings {
        metrics: upstream.metrics.clone(),
        explanations: upstream.explanations.clone(),
        activity: upstream.activity.clone(),
        upstream: upstream.name.clone(),
        listener: label.into(),
        adds_correlation_id: upstream.adds_correlation_id,
    });
    let router = |worker: &Relay| {
        let health_path: Option<Arc<str>> = listener.health.as_deref().map(Arc::from);
        let (authorization, in_flight) = (authorization.clone(), in_flight.clone());
        // The request stack: a request passes these layers from top to bottom, its response from bottom to top.
        let stack = ServiceBuilder::new()
            .layer(early_response(move |request| {
                health::respond(health_path.as_deref(), request)
            }))
            .layer_fn(|inner| AccessLog::new(inner, access_log.clone()))
            .layer_fn(CatchPanic)
            .layer(early_response(move |request| authorization.respond(request)))
            .layer(early_response(move |request| in_flight.respond(request)))
            .service(worker.clone());
        // Not a `Router`: the rules match the path, and a router's own search for it costs over 1 % of a request.
        any_service(stack)
    };
    upstream.workers.iter().map(router).collect()
}
