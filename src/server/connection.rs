//! Serves one connection: gate below, hyper above it, request after request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::answer::Answer;
use super::application::Application;
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
    app: Arc<dyn Application>,
    peer: Peer,
    shared: Arc<Shared>,
) -> Option<Successor> {
    let exchange = Arc::<Exchange>::default();
    let registration = Registration::new(shared.connections.idle.clone(), peer.id());
    let mut gate = Gate::new(stream, shared.limits.clone(), exchange.clone()).with_registration(registration);
    let mut service = Service {
        app,
        peer: peer.clone(),
        exchange: exchange.clone(),
        unread: Arc::default(),
        stop: shared.stop.clone(),
    };
    // Looked at before the gate and before hyper, so that they know of a stop when they are polled.
    let mut stopping = pin!(follow(shared.stop.clone(), exchange));
    let mut gate = loop {
        let next = tokio::select! {
            biased;
            never = &mut stopping => match never {},
            next = gate.next() => next,
        };
        if next == Next::End {
            break gate;
        }
        // In boxes of their own, what an exchange and an end need costs an idle connection nothing.
        match Box::pin(exchange_all(gate, service, &shared, stopping.as_mut())).await {
            Exchanged::Idle(idle) => (gate, service) = *idle,
            Exchanged::Over(gate) => break *gate,
            Exchanged::Ended => return None,
        }
    };
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
    let (gate, service) = (parts.io.into_inner(), parts.service);
    let address = service.peer.address.map(tracing::field::display);
    match result {
        Some(Ok(())) if gate.is_parked() => return Exchanged::Idle(Box::new((gate, service))),
        Some(Ok(())) => {}
        Some(Err(error)) if is_stalled(&error) => {
            shared.metrics.stalled.inc();
            tracing::info!(
                address,
                "a caller took nothing of its answer for limits.stall; reset"
            );
            gate.reset();
            return Exchanged::Ended;
        }
        Some(Err(error)) => {
            tracing::debug!(%error, "a connection ended early");
            if gate.is_mid_answer() {
                gate.cut();
                return Exchanged::Ended;
            }
        }
        None => {
            shared.metrics.stalled.inc();
            tracing::info!(
                address,
                "the rest of a request's body went nowhere for limits.stall, behind its answer; closed"
            );
        }
    }
    Exchanged::Over(Box::new(gate))
}

/// Tells a refusal, if there is one, and closes the connection.
async fn end<S: Wire>(gate: Gate<S>, peer: &Peer, shared: &Shared) {
    if let Some(answer) = gate.refusal() {
        shared.metrics.refused.inc();
        let address = peer.address.map(tracing::field::display);
        tracing::info!(
            address,
            status = answer.status.as_u16(),
            "refused at the door: {}",
            answer.detail
        );
    }
    let mut stop = shared.stop.clone();
    let hurry = async {
        stop.reached(Phase::Draining).await;
        tokio::time::sleep(LAST_WORD).await;
    };
    if gate.close(hurry).await {
        shared.metrics.stalled.inc();
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

/// What hyper calls: the application, with the peer known and the gate told when an answer has ended.
struct Service {
    app: Arc<dyn Application>,
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
        let request = request.map(|body| {
            if body.is_end_stream() {
                Body::empty()
            } else {
                Body::new(Received::new(body, unread.clone()))
            }
        });
        let answer = self.app.clone().answer(&self.peer, request);
        let exchange = self.exchange.clone();
        let stop = self.stop.clone();
        Box::pin(async move {
            let mut response = answer.await;
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
            Ok(response.map(|body| Taken {
                is_whole: body.is_end_stream(),
                body,
                exchange,
            }))
        })
    }
}

/// An answer's body that tells the gate when hyper is done with it.
struct Taken {
    body: Body,
    is_whole: bool,
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
