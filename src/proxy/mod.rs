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
mod keep_alive;
mod length;
mod link;
mod observe;
mod path;
mod pool;
mod pull;
mod replay;
mod socket;
mod tunnel;
mod upstream;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use rustls::ClientConfig;

use self::forward::Forwarder;
use self::observe::Observation;
use self::path::{PathError, PlainPath};
use self::pull::{Asker, Puller};
use crate::config::{self, KeysError, OutboundError, PathPattern, Rules};
use crate::resolver::Resolver;
use crate::server::{Answer, Peer, Stopping};
use crate::spool::Spool;
use crate::telemetry::metrics::{Metrics, UpstreamMetrics};
use crate::token::TokenReader;

pub use self::access::Authorization;
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

/// One upstream: what its requests need, with one forwarder per worker. A reload that leaves the upstream unchanged
/// keeps it, and with it the open connections.
pub struct Upstream {
    name: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    workers: Vec<Worker>,
}

/// One worker's forwarder, with its own connection pool, and its pulls.
#[derive(Clone)]
struct Worker {
    forwarder: Arc<Forwarder>,
    puller: Puller,
}

/// What the requests to an upstream need besides its configuration.
#[derive(Clone)]
pub struct Dependencies {
    /// TLS for connections to the upstream.
    pub tls: ClientConfig,
    /// Resolves the upstream's name.
    pub resolver: Resolver,
    /// The upstream's token.
    pub tokens: TokenReader,
    /// The budget for kept request bodies, over all upstreams.
    pub budget: ReplayBudget,
    /// Holds pulled messages until they are delivered.
    pub spool: Spool,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// The phase of a stop.
    pub stop: Stopping,
}

impl Upstream {
    /// An upstream for this many workers.
    pub fn new(
        config: &config::Upstream,
        dependencies: &Dependencies,
        workers: usize,
    ) -> Result<Self, OutboundError> {
        let metrics = Arc::new(dependencies.metrics.upstream(&config.name));
        let worker = |_| {
            let Dependencies {
                tls,
                resolver,
                tokens,
                budget,
                spool,
                stop,
                ..
            } = dependencies.clone();
            let (metrics, until) = (metrics.clone(), stop.clone());
            let forwarder = Forwarder::new(config, tls, resolver, tokens, budget, metrics, stop)?;
            let forwarder = Arc::new(forwarder);
            let puller = Puller::new(config, forwarder.clone(), spool, until);
            Ok(Worker { forwarder, puller })
        };
        Ok(Self {
            name: config.name.as_str().into(),
            workers: (0..workers).map(worker).collect::<Result<_, OutboundError>>()?,
            metrics,
        })
    }

    /// Starts to resolve the upstream's name, so that the first request does not wait for it. Needs a runtime.
    pub fn prefetch(&self) {
        if let Some(worker) = self.workers.first() {
            worker.forwarder.prefetch();
        }
    }
}

/// The routers of one listener, one for each worker of its upstream.
#[must_use]
pub fn routers(
    listener: &config::Listener,
    authorization: &Authorization,
    in_flight: &InFlight,
    upstream: &Upstream,
) -> Vec<Router> {
    let router = |worker: &Worker| {
        let stack = Arc::new(Stack {
            health: listener.health.clone(),
            authorization: authorization.clone(),
            in_flight: in_flight.clone(),
            upstream: upstream.name.clone(),
            metrics: upstream.metrics.clone(),
            worker: worker.clone(),
        });
        let handler = move |request: Request<Body>| {
            let stack = stack.clone();
            Caught {
                answer: async move { stack.relay(request).await },
            }
        };
        Router::new().fallback(handler)
    };
    upstream.workers.iter().map(router).collect()
}

struct Stack {
    health: Option<String>,
    authorization: Authorization,
    in_flight: InFlight,
    upstream: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    worker: Worker,
}

impl Stack {
    async fn relay(&self, request: Request<Body>) -> Response<Body> {
        if self.health.as_deref() == Some(request.uri().path()) {
            return Response::new(Body::from("ok\n"));
        }
        let mut observation = Observation::begin(&request, &self.upstream, &self.metrics);
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
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let mut caller = self.authorization.0.caller(&peer, &request);
        let judged = self.authorization.0.judge(&mut caller, &request);
        let id = caller.id();
        let asker = judged
            .as_ref()
            .is_ok_and(|admitted| admitted.is_consuming)
            .then(|| Asker {
                name: caller.label().into(),
                is_relayed: caller.is_relayed,
            });
        observation.caller(caller);
        let admitted = judged?;
        observation.hold(self.in_flight.enter(id)?);
        if let Some(asker) = asker {
            let pulled = Box::pin(self.worker.puller.take(request, asker)).await;
            return pulled.map_err(|error| error.into_answer(&self.upstream));
        }
        let forwarded = self.worker.forwarder.forward(request, admitted).await;
        forwarded.map_err(|error| error.into_answer(&self.upstream))
    }
}

pin_project! {
    /// The answer, and one of ours where a bug ends its making: it ends one request and not the daemon. A future
    /// of its own, since an async function would hold what it is given twice.
    struct Caught<F> {
        #[pin]
        answer: F,
    }
}

impl<F: Future<Output = Response<Body>>> Future for Caught<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let answer = self.project().answer;
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| answer.poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(panicked()))
    }
}

fn panicked() -> Response<Body> {
    tracing::error!("a request ran into a bug in bondgate; please report it");
    let detail = "a bug in bondgate ended this request; the upstream may have executed it";
    Answer::new(StatusCode::BAD_GATEWAY, "proxy_internal_error", detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bug_ends_one_request_with_an_answer() {
        let answer = async { panic!("a bug") };
        assert_eq!(Caught { answer }.await.status(), 502);
    }
}
