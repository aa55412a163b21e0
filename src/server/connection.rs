//! Serves one connection: gate below, hyper above it, request after request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tower::Service as _;

use super::active_router::ActiveRouter;
use super::answer::Answer;
use super::delivery::ObserveDelivery;
use super::gate::{Exchange, Gate, Next};
use super::idle::{Registration, Successor};
use super::listener::Wire;
use super::peer::Peer;
use super::stall::{Stall, is_stalled};
use super::unread::{Received, Unread};
use super::worker::Shared;
use super::{Phase, Stopping};
use crate::config::Limits;

/// Serves a connection to its end, or to the end of a drain. Where it ended to make room for a newcomer, that is who
/// gets its place.
pub(super) async fn serve<S: Wire>(
    stream: S,
    router: ActiveRouter,
    peer: Peer,
    shared: Arc<Shared>,
) -> Option<Successor> {
    let exchange = Arc::<Exchange>::default();
    let registration = Registration::new(shared.connections.idle.clone(), peer.id());
    let mut gate = Gate::new(stream, shared.limits.clone(), exchange.clone()).with_registration(registration);
    let mut service = Service {
        router,
        peer: peer.clone(),
        exchange: exchange.clone(),
        unread: Arc::default(),
        stop: shared.stop.clone(),
    };
    // Looked at before the gate and before hyper, so that they know of a stop when they are polled.
    let mut stopping = pin!(follow(shared.stop.clone(), exchange));
    let (mut gate, is_failed) = loop {
        let next = tokio::select! {
            biased;
            never = &mut stopping => match never {},
            next = gate.next() => next,
        };
        if next == Next::End {
            break (gate, false);
        }
        // In boxes of their own, what an exchange and an end need costs an idle connection nothing.
        match Box::pin(exchange_all(gate, service, &shared, stopping.as_mut())).await {
            Exchanged::Idle(idle) => (gate, service) = *idle,
            Exchanged::Over(gate) => break (*gate, false),
            Exchanged::Failed(gate) => break (*gate, true),
            Exchanged::Ended => return None,
        }
    };
    if !is_failed {
        log_refusal(&gate, &peer, &shared);
    }
    let successor = gate.take_successor();
    Box::pin(end(gate, &peer, &shared)).await;
    successor
}

/// What is left of a connection when hyper has done with it.
enum Exchanged<S> {
    /// It idles.
    Idle(Box<(Gate<S>, Service)>),
    /// It is to be closed.
    Over(Box<Gate<S>>),
    /// A response could not be written, and another one is to be sent in its place.
    Failed(Box<Gate<S>>),
    /// It is no more.
    Ended,
}

/// Lets hyper serve requests, until the connection idles or is over.
async fn exchange_all<S: Wire>(
    gate: Gate<S>,
    service: Service,
    shared: &Shared,
    mut stopping: Pin<&mut impl Future<Output = Infallible>>,
) -> Exchanged<S> {
    let limits = &shared.limits;
    let mut builder = http1::Builder::new();
    // The gate keeps the time and the limits; hyper must not be stricter.
    builder
        .header_read_timeout(None)
        // The gate looks after a caller that goes, too: hyper would make room for more to read each time.
        .half_close(true)
        // Names are passed on as they are spelled; those that nobody else spelled are written as old tools search
        // for them.
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_buf_size((limits.head + (16 << 10)).max(64 << 10));
    if limits.fields > 100 {
        builder.max_headers(limits.fields);
    }
    let exchange = service.exchange.clone();
    let mut left_over = LeftOver::new(limits.stall);
    let mut connection = builder.serve_connection(TokioIo::new(gate), service);
    let mut known = None;
    let result = std::future::poll_fn(|cx| {
        // It wakes this task when there is more to know, and needs no look before.
        let phase = shared.stop.phase();
        if known.replace(phase) != Some(phase) {
            let _ = stopping.as_mut().poll(cx);
        }
        let polled = connection.poll_without_shutdown(cx);
        if polled.is_pending() && left_over.poll(&exchange, cx).is_ready() {
            return Poll::Ready(None);
        }
        polled.map(Some)
    })
    .await;
    let parts = connection.into_parts();
    let (mut gate, service) = (parts.io.into_inner(), parts.service);
    let address = service.peer.address.map(tracing::field::display);
    match result {
        Some(Ok(())) if gate.is_parked() => return Exchanged::Idle(Box::new((gate, service))),
        Some(Ok(())) => {}
        Some(Err(error)) if is_stalled(&error) => {
            shared.metrics.stalled_connections.inc();
            tracing::info!(
                address,
                "a caller took nothing of its answer for limits.stall; reset"
            );
            gate.reset().await;
            return Exchanged::Ended;
        }
        Some(Err(error)) if gate.is_unanswered() && !is_callers(&error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::error!(
                address,
                error,
                "a response could not be written, and 502 was sent in its place; please report it"
            );
            gate.respond_instead(unwritten());
            return Exchanged::Failed(Box::new(gate));
        }
        Some(Err(error)) => {
            tracing::debug!(%error, "a connection ended early");
            if gate.is_mid_answer() {
                gate.cut().await;
                return Exchanged::Ended;
            }
        }
        None => {
            shared.metrics.stalled_connections.inc();
            tracing::info!(
                address,
                "the rest of a request's body went nowhere for limits.stall, behind its answer; closed"
            );
        }
    }
    Exchanged::Over(Box::new(gate))
}

/// Whether a connection ended because of its caller, who gets no response.
fn is_callers(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    !error.is_user() && causes.any(<dyn std::error::Error>::is::<std::io::Error>)
}

fn unwritten() -> Answer {
    let detail = "bondgate could not write the response that there is; the upstream may have executed it";
    Answer::new(StatusCode::BAD_GATEWAY, "proxy_internal_error", detail)
}

fn log_refusal<S: Wire>(gate: &Gate<S>, peer: &Peer, shared: &Shared) {
    if let Some(answer) = gate.refusal() {
        shared.metrics.refused_heads.inc();
        let address = peer.address.map(tracing::field::display);
        tracing::info!(
            address,
            status = answer.status.as_u16(),
            "refused at the door: {}",
            answer.detail
        );
    }
}

/// Sends the gate's own response, if there is one, and closes the connection.
async fn end<S: Wire>(gate: Gate<S>, peer: &Peer, shared: &Shared) {
    let mut stop = shared.stop.clone();
    let hurry = async {
        stop.reached(Phase::Draining).await;
        tokio::time::sleep(LAST_WORD).await;
    };
    if gate.close(hurry).await {
        shared.metrics.stalled_connections.inc();
        tracing::info!(
            address = peer.address.map(tracing::field::display),
            "caller took nothing more of its message for limits.stall; reset"
        );
    }
}

/// Tells the gate how far a stop has come. hyper is not told: it would drop the head that the gate has.
async fn follow(mut stop: Stopping, exchange: Arc<Exchange>) -> Infallible {
    stop.reached(Phase::Draining).await;
    exchange.drain();
    stop.reached(Phase::Deadline).await;
    exchange.end();
    std::future::pending().await
}

/// How long a drain waits for a caller's sign that it has its answer.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Answers a connection's first request with a refusal, and ends it.
pub(super) async fn refuse<S: Wire>(stream: S, limits: Arc<Limits>, answer: Answer) {
    let mut gate = Gate::new(stream, limits, Arc::default());
    // One that is silent is left without a word.
    if let Ok(Next::Request) = tokio::time::timeout(SHORTLY, gate.next()).await {
        gate.refuse(answer);
    }
    gate.close(std::future::pending()).await;
}

/// How long a caller for whom there is no place may take for its request's head.
const SHORTLY: Duration = Duration::from_secs(1);

/// The wait for the rest of a request's body, once the answer is out.
struct LeftOver {
    stall: Stall,
    pieces: u64,
}

impl LeftOver {
    fn new(limit: Duration) -> Self {
        Self {
            stall: Stall::new(limit),
            pieces: 0,
        }
    }

    fn poll(&mut self, exchange: &Exchange, cx: &mut Context<'_>) -> Poll<()> {
        match exchange.left_over() {
            Some(pieces) if pieces == self.pieces => self.stall.poll(cx),
            Some(pieces) => {
                self.pieces = pieces;
                self.stall.reset();
                self.stall.poll(cx)
            }
            None => {
                self.stall.reset();
                Poll::Pending
            }
        }
    }
}

/// What hyper calls: the router, with the peer known and the gate told when an answer has ended.
struct Service {
    router: ActiveRouter,
    peer: Peer,
    exchange: Arc<Exchange>,
    unread: Arc<Unread>,
    stop: Stopping,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Taken>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let unread = self.unread.clone();
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                Body::empty()
            } else {
                Body::new(Received::new(body, unread.clone()))
            }
        });
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.router.current().call(request);
        let exchange = self.exchange.clone();
        let stop = self.stop.clone();
        Box::pin(async move {
            let Ok(mut response) = answer.await;
            // What is still to come may be long, or never come: it is not waited for.
            let is_at_hand = !exchange.is_body_open();
            let is_read = unread.settle(is_at_hand).await;
            if let Some(fault) = exchange.body_fault() {
                response = fault.into_response();
            }
            let delivery = response.extensions_mut().remove::<ObserveDelivery>();
            let observer = delivery.and_then(|delivery| delivery.take());
            let is_last =
                observer.is_some() || !is_read || exchange.is_body_open() || stop.phase() >= Phase::LameDuck;
            exchange.observe(observer);
            if is_last {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let length_alone = length_alone(&response);
            Ok(response.map(|body| Taken {
                is_whole: body.is_end_stream(),
                body,
                length_alone,
                exchange,
            }))
        })
    }
}

/// The length that a response tells which never has a body: 304. hyper writes it where a body is so long, and takes
/// nothing of that.
fn length_alone(response: &Response<Body>) -> Option<u64> {
    if response.status() != StatusCode::NOT_MODIFIED {
        return None;
    }
    let length = response.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// An answer's body that tells the gate when hyper is done with it.
struct Taken {
    body: Body,
    is_whole: bool,
    /// What the head says of a body that is not there.
    length_alone: Option<u64>,
    exchange: Arc<Exchange>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.exchange.answer_taken(self.is_whole);
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.is_whole = match &polled {
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(None) => true,
            _ => self.is_whole,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.length_alone.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length_alone
            .map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::super::listener::Listener;
    use super::super::{Crowd, UnixAccess, stopping, worker};
    use super::*;
    use crate::config::Config;
    use crate::telemetry::metrics::Metrics;

    /// Responds with something that hyper's server cannot write.
    fn unwritable(respond: fn(Body) -> Response<Body>) -> ActiveRouter {
        use http_body_util::{BodyExt as _, Collected};
        let handler = async move |request: Request<Body>| {
            let body = request.into_body().collect().await;
            respond(Body::from(body.map(Collected::to_bytes).unwrap_or_default()))
        };
        ActiveRouter::new(Router::new().fallback(handler))
    }

    /// A body of which nothing is known, and a length that is no plain number.
    fn with_two_lengths(_: Body) -> Response<Body> {
        let mut response = Response::new(Body::new(Unknown(false)));
        let length = HeaderValue::from_static("2, 2");
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }

    fn with_a_broken_body(_: Body) -> Response<Body> {
        Response::new(Body::new(Unknown(true)))
    }

    struct Unknown(bool);

    impl http_body::Body for Unknown {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(self.0.then(|| Err(std::io::ErrorKind::UnexpectedEof.into())))
        }
    }

    async fn responses(app: fn(Body) -> Response<Body>, request: &str) -> String {
        let text = "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n\
                    [[listener]]\naddress = \"127.0.0.1:0\"\n";
        let config = Config::parse(text, "test.toml", []).unwrap();
        let unix = UnixAccess {
            mode: 0o660,
            group: None,
        };
        let listener = Listener::bind(&config.listeners[0].address, &unix, None).unwrap();
        let address = listener.addresses()[0];
        let (_stop, stop) = stopping();
        let shared = Shared {
            limits: Arc::new(config.limits),
            connections: Crowd::new(config.limits.connections, config.limits.refusals),
            metrics: Metrics::new(),
            stop,
        };
        let router = unwritable(app);
        let called = async {
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut all = String::new();
            caller.read_to_string(&mut all).await.unwrap();
            all
        };
        tokio::select! {
            _ = worker::serve(&listener, router, shared) => unreachable!("it has no end"),
            all = called => all,
        }
    }

    #[tokio::test]
    async fn a_response_that_cannot_be_written_is_a_complete_502() {
        let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let old = "GET / HTTP/1.0\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";
        for request in [get, old, post] {
            for app in [with_two_lengths as fn(Body) -> _, with_a_broken_body] {
                let response = responses(app, request).await;
                let (head, body) = response.split_once("\r\n\r\n").expect("there is a response");
                assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{response}");
                assert!(head.contains("Proxy-Status: bondgate; error="), "{response}");
                assert!(
                    head.contains(&format!("Content-Length: {}", body.len())),
                    "{response}"
                );
                assert!(head.contains("Connection: close"), "{response}");
                assert!(body.contains("may have executed it"), "{response}");
            }
        }
    }

    #[tokio::test]
    async fn the_502_follows_an_interim_response_and_has_no_body_for_head() {
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let response = responses(with_two_lengths, &format!("{post}hi")).await;
        let (interim, rest) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(interim, "HTTP/1.1 100 Continue");
        assert!(rest.starts_with("HTTP/1.1 502 "), "{response}");

        let head = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let twice = |_| {
            let mut response = Response::new(Body::empty());
            for length in ["2", "2"] {
                let length = HeaderValue::from_static(length);
                response.headers_mut().append(CONTENT_LENGTH, length);
            }
            response
        };
        let response = responses(twice, head).await;
        assert!(
            response.starts_with("HTTP/1.1 502 ") && response.ends_with("\r\n\r\n"),
            "{response}"
        );
    }
}
