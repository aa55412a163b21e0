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
mod message;
mod observe;
mod path;
mod pool;
mod pull;
mod pull_error;
mod replay;
mod socket;
mod tunnel;
mod upstream;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use rustls::ClientConfig;

use self::access::AccessPolicy;
use self::forward::Forwarder;
use self::observe::Observation;
use self::path::{PathError, PlainPath};
use self::pull::{Asker, Puller};
use crate::config::{self, KeysError, OutboundError, PathPattern, Rules};
use crate::resolver::Resolver;
use crate::server::{Answer, Answering, Application, Peer, Stopping};
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

/// One listener's requests on their way to its upstream: what all workers share. What it does may be
/// replaced between two requests, on kept connections too.
#[derive(Clone)]
pub struct Proxy {
    service: Arc<ArcSwap<Service>>,
}

/// What a listener does with requests, as one configuration has it.
pub struct Service {
    policy: Arc<AccessPolicy>,
    health: Option<String>,
    in_flight: InFlight,
    outbound: Arc<Outbound>,
}

/// The way to an upstream, as one configuration has it. Workers keep their connections for as long as it
/// is the same one.
pub struct Outbound {
    upstream: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    config: config::Upstream,
    tls: ClientConfig,
    resolver: Resolver,
    tokens: TokenReader,
    budget: ReplayBudget,
    spool: Spool,
    stop: Stopping,
}

/// What the way to an upstream is made of, beside its configuration.
#[derive(Clone)]
pub struct Parts {
    /// TLS for the call out.
    pub tls: ClientConfig,
    /// Where names are resolved.
    pub resolver: Resolver,
    /// The upstream's token.
    pub tokens: TokenReader,
    /// The budget over all requests.
    pub budget: ReplayBudget,
    /// Where pulled messages are kept.
    pub spool: Spool,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// When to give up waiting.
    pub stop: Stopping,
}

impl Outbound {
    /// The way to an upstream.
    pub fn new(upstream: &config::Upstream, parts: Parts) -> Result<Self, OutboundError> {
        let outbound = Self {
            upstream: upstream.name.as_str().into(),
            metrics: Arc::new(parts.metrics.upstream(&upstream.name)),
            config: upstream.clone(),
            tls: parts.tls,
            resolver: parts.resolver,
            tokens: parts.tokens,
            budget: parts.budget,
            spool: parts.spool,
            stop: parts.stop,
        };
        // What a worker would find out later is found out now.
        outbound.forwarder()?;
        Ok(outbound)
    }

    fn forwarder(&self) -> Result<Forwarder, OutboundError> {
        Forwarder::new(
            &self.config,
            self.tls.clone(),
            self.resolver.clone(),
            self.tokens.clone(),
            self.budget.clone(),
            self.metrics.clone(),
            self.stop.clone(),
        )
    }
}

impl Service {
    /// What a listener does for an upstream whose way out is `outbound`; `in_flight` are the caps over
    /// all listeners, `admin` is where a person finds the state of things.
    pub fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        outbound: Arc<Outbound>,
        in_flight: InFlight,
        admin: &str,
    ) -> Result<Self, KeysError> {
        Ok(Self {
            policy: Arc::new(AccessPolicy::new(listener, upstream, admin)?),
            health: listener.health.clone(),
            in_flight,
            outbound,
        })
    }
}

impl Proxy {
    /// The proxy of one listener.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self {
            service: Arc::new(ArcSwap::from_pointee(service)),
        }
    }

    /// Does something else from the next request on.
    pub fn replace(&self, service: Service) {
        self.service.store(Arc::new(service));
    }

    /// What it does now, by another way out.
    #[must_use]
    pub fn service_by(&self, outbound: Arc<Outbound>) -> Service {
        let service = self.service.load();
        Service {
            policy: service.policy.clone(),
            health: service.health.clone(),
            in_flight: service.in_flight.clone(),
            outbound,
        }
    }

    /// What one worker runs, with a connection pool of its own.
    pub fn application(&self) -> Result<Arc<dyn Application>, ProxyConfigError> {
        let way = Way::open(self.service.load().outbound.clone())?;
        Ok(Arc::new(Worker {
            service: self.service.clone(),
            way: ArcSwap::from_pointee(way),
        }))
    }
}

struct Worker {
    service: Arc<ArcSwap<Service>>,
    way: ArcSwap<Way>,
}

impl Application for Worker {
    fn answer(self: Arc<Self>, peer: &Peer, request: Request<Body>) -> Answering {
        let peer = peer.clone();
        // Room first: what is made before would be copied there, and with it all the room that it will want.
        let room = Box::new_uninit();
        let answer = async move { self.relay(&peer, request).await };
        let answer: Box<Caught<_>> = Box::write(room, Caught { answer });
        Box::into_pin(answer)
    }
}

/// A worker's own connections, and the way out that they were opened for.
struct Way {
    outbound: Arc<Outbound>,
    forwarder: Forwarder,
    puller: Puller,
}

impl Way {
    fn open(outbound: Arc<Outbound>) -> Result<Self, OutboundError> {
        let forwarder = outbound.forwarder()?;
        forwarder.prefetch();
        let puller = Puller::new(
            &outbound.config,
            outbound.forwarder()?,
            outbound.spool.clone(),
            outbound.stop.clone(),
        );
        Ok(Self {
            outbound,
            forwarder,
            puller,
        })
    }
}

impl Worker {
    async fn relay(&self, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let service = &*self.service.load_full();
        if service.health.as_deref() == Some(request.uri().path()) {
            return Response::new(Body::from("ok\n"));
        }
        let outbound = &service.outbound;
        let mut observation = Observation::begin(&request, &outbound.upstream, &outbound.metrics);
        let response = match self.admit(peer, request, service, &mut observation).await {
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
        peer: &Peer,
        request: Request<Body>,
        service: &Service,
        observation: &mut Observation,
    ) -> Result<Response<Body>, Answer> {
        let mut caller = service.policy.caller(peer, &request);
        let judged = service.policy.judge(&mut caller, &request);
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
        observation.hold(service.in_flight.enter(id)?);
        let way = self.way(&service.outbound)?;
        let forwarded = match asker {
            Some(asker) => Box::pin(way.puller.take(request, asker)).await,
            None => way.forwarder.forward(request, admitted).await,
        };
        forwarded.map_err(|error| error.into_answer(&service.outbound.upstream))
    }

    /// The worker's own way out, opened anew where another one is in force.
    fn way(&self, outbound: &Arc<Outbound>) -> Result<Arc<Way>, Answer> {
        let way = self.way.load_full();
        if Arc::ptr_eq(&way.outbound, outbound) {
            return Ok(way);
        }
        let opened = Way::open(outbound.clone()).map_err(|error| {
            let detail = format!(
                "{}: {error}; nothing was sent, and it is safe to send it again",
                outbound.upstream
            );
            Answer::unavailable("proxy_configuration_error", detail, SOON)
        })?;
        let opened = Arc::new(opened);
        self.way.store(opened.clone());
        Ok(opened)
    }
}

/// When a caller may try again after a change that was put in force badly.
const SOON: Duration = Duration::from_secs(1);

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
