//! The proxied side of the daemon. The layers of a request, outermost first: catch a panic,
//! answer health checks, observe, judge access, take a place in flight, forward.

mod access;
mod body;
mod caller;
mod connect;
mod error;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod headers;
mod in_flight;
mod message;
mod observe;
mod path;
mod pull;
mod pull_error;
mod replay;
mod tunnel;
mod upstream;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use rustls::ClientConfig;
use tower_http::catch_panic::CatchPanicLayer;

use self::access::AccessPolicy;
use self::forward::Forwarder;
use self::observe::Observation;
use self::path::{PathError, PlainPath};
use self::pull::Puller;
use crate::config::{self, KeysError, OutboundError, PathPattern, Rules};
use crate::server::{Answer, Stopping};
use crate::spool::Spool;
use crate::telemetry::metrics::{Metrics, UpstreamMetrics};
use crate::token::TokenReader;

pub use self::in_flight::InFlight;
pub use self::replay::ReplayBudget;

/// A listener that cannot be served as configured.
#[derive(Debug, thiserror::Error)]
pub enum ProxyConfigError {
    /// Its caller keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its upstream's way out.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
}

/// Whether each rule's path is one that a request can have: it is judged as requests are.
pub fn judge_rules(rules: &Rules) -> Result<(), RuleError> {
    let Rules::List(rules) = rules else { return Ok(()) };
    for rule in rules {
        let (PathPattern::Exact(path) | PathPattern::Below(path)) = &rule.path;
        let judged = PlainPath::parse(path).and_then(|plain| {
            if plain.has_encoded_slash() {
                Err(PathError::EncodedSlash)
            } else {
                Ok(())
            }
        });
        judged.map_err(|source| RuleError {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// A rule for a path that no request gets through with.
#[derive(Debug, thiserror::Error)]
#[error("the rule for {path:?} lets nothing through")]
pub struct RuleError {
    path: String,
    source: PathError,
}

/// One listener's requests on their way to its upstream: what all workers share.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    policy: AccessPolicy,
    health: Option<String>,
    in_flight: InFlight,
    upstream: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    config: config::Upstream,
    tls: ClientConfig,
    tokens: TokenReader,
    budget: ReplayBudget,
    spool: Spool,
    stop: Stopping,
}

/// What a listener's proxy is made of, beside its configuration.
#[derive(Clone)]
pub struct Parts {
    /// TLS for the call out.
    pub tls: ClientConfig,
    /// The upstream's token.
    pub tokens: TokenReader,
    /// The caps over all listeners.
    pub in_flight: InFlight,
    /// The budget over all requests.
    pub budget: ReplayBudget,
    /// Where pulled messages are kept.
    pub spool: Spool,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Where a person finds the state of things.
    pub admin: String,
    /// When to give up waiting.
    pub stop: Stopping,
}

impl Proxy {
    /// The proxy of one listener.
    pub fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        parts: Parts,
    ) -> Result<Self, ProxyConfigError> {
        let proxy = Self {
            shared: Arc::new(Shared {
                policy: AccessPolicy::new(listener, upstream, &parts.admin)?,
                health: listener.health.clone(),
                in_flight: parts.in_flight,
                upstream: upstream.name.as_str().into(),
                metrics: Arc::new(parts.metrics.upstream(&upstream.name)),
                config: upstream.clone(),
                tls: parts.tls,
                tokens: parts.tokens,
                budget: parts.budget,
                spool: parts.spool,
                stop: parts.stop,
            }),
        };
        // What a worker would find out later is found out now.
        proxy.forwarder()?;
        Ok(proxy)
    }

    /// The router of one worker, with a connection pool of its own.
    pub fn router(&self) -> Result<Router, ProxyConfigError> {
        let shared = &self.shared;
        let puller = Puller::new(
            &shared.config,
            self.forwarder()?,
            shared.spool.clone(),
            shared.stop.clone(),
        );
        let worker = Worker {
            shared: shared.clone(),
            forwarder: Arc::new(self.forwarder()?),
            puller,
        };
        Ok(Router::new()
            .fallback(move |request| {
                let worker = worker.clone();
                async move { worker.relay(request).await }
            })
            .layer(CatchPanicLayer::custom(panicked)))
    }

    fn forwarder(&self) -> Result<Forwarder, OutboundError> {
        let shared = &self.shared;
        Forwarder::new(
            &shared.config,
            shared.tls.clone(),
            shared.tokens.clone(),
            shared.budget.clone(),
            shared.metrics.clone(),
            shared.stop.clone(),
        )
    }
}

#[derive(Clone)]
struct Worker {
    shared: Arc<Shared>,
    forwarder: Arc<Forwarder>,
    puller: Puller,
}

impl Worker {
    async fn relay(&self, request: Request<Body>) -> Response<Body> {
        let shared = &*self.shared;
        if shared.health.as_deref() == Some(request.uri().path()) {
            return Response::new(Body::from("ok\n"));
        }
        let mut observation = Observation::begin(&request, &shared.upstream, &shared.metrics);
        let response = match self.admit(request, &mut observation).await {
            Ok(response) => response,
            Err(answer) => {
                observation.own_answer(answer.error, answer.detail.clone());
                answer.into_response()
            }
        };
        observation.follow(response)
    }

    async fn admit(
        &self,
        request: Request<Body>,
        observation: &mut Observation,
    ) -> Result<Response<Body>, Answer> {
        let mut caller = self.shared.policy.caller(&request);
        let judged = self.shared.policy.judge(&mut caller, &request);
        let id = caller.id();
        observation.caller(caller);
        let admitted = judged?;
        observation.hold(self.shared.in_flight.enter(id)?);
        let forwarded = if admitted.is_consuming {
            self.puller.take(request).await
        } else {
            self.forwarder.forward(request, admitted).await
        };
        forwarded.map_err(|error| error.into_answer(&self.shared.upstream))
    }
}

/// A bug of ours ends one request and not the daemon.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    tracing::error!("a request ran into a bug in bondgate; please report it");
    let detail = "a bug in bondgate ended this request; the upstream may have executed it";
    Answer::new(StatusCode::BAD_GATEWAY, "proxy_internal_error", detail).into_response()
}
