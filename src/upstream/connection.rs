//! One connection to an upstream. It has no task of its own: the request that uses it drives it, so that request and
//! response cross no channel between tasks.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_util::io::InspectReader;

use super::connector::UpstreamStream;
use super::keep_alive;
use crate::telemetry::metrics::{OpenConnection, UpstreamConnections};

/// A connection that sends one request after the other.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    /// `None` once it has ended.
    driver: Option<Box<Driver>>,
    /// Bytes received since the last request was sent.
    received: Arc<AtomicU64>,
    wake_flag: Arc<WakeFlag>,
    /// Takes no further request from then on.
    expires: Instant,
    /// How long it may idle, as announced by the upstream.
    idle_limit: Duration,
    counted: OpenConnection,
}

type Driver = http1::Connection<TokioIo<InspectReader<UpstreamStream, OnRead>>, Body>;
type OnRead = Box<dyn FnMut(&[u8]) + Send>;

/// A request that got no response on a connection.
pub(super) enum RequestError {
    /// No byte of it was sent; it may be sent on another connection.
    NotSent(Box<Request<Body>>, hyper::Error),
    /// The upstream may have executed it.
    Failed(hyper::Error),
    /// The upstream sent interim responses (1xx) without end, and may have executed it.
    InterimResponses,
}

/// Read buffer and longest response head.
const MAX_HEAD: usize = 64 << 10;
/// Gateways with debugging enabled add some hundred fields.
const MAX_FIELDS: usize = 1000;
/// How much may arrive before the response: hyper skips any number of interim responses (1xx).
const MAX_BEFORE_RESPONSE: u64 = 256 << 10;
/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Connection {
    /// Speaks HTTP/1.1 over `stream` until `expires`.
    pub(super) async fn new(
        stream: UpstreamStream,
        expires: Instant,
        metrics: &UpstreamConnections,
    ) -> hyper::Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let on_read: OnRead = Box::new(move |bytes| {
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            // RFC 9112 §5: a proxy repairs these. Invalid lines are refused and not skipped: they could hold framing.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .preserve_header_case(true)
            .title_case_headers(true)
            .handshake(TokioIo::new(InspectReader::new(stream, on_read)))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            received,
            // Set, since the connection has not been driven yet.
            wake_flag: Arc::new(WakeFlag(AtomicBool::new(true))),
            expires,
            idle_limit: Duration::MAX,
            counted: metrics.opened(),
        })
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, RequestError> {
        self.received.store(0, Ordering::Relaxed);
        self.counted.count_request();
        // Without a coop budget: once that is spent, the response would wait for a waker, and it has none.
        let mut response = pin!(unconstrained(self.sender.try_send_request(*request)));
        let (driver, received) = (&mut self.driver, &*self.received);
        let result = std::future::poll_fn(|cx| {
            let _ = drive(driver, cx);
            // Only the driver completes the response, and it has just run: no waker is needed.
            let polled = response.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            match polled {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => RequestError::NotSent(Box::new(request), error.into_error()),
                    None => RequestError::Failed(error.into_error()),
                })),
                Poll::Pending if received.load(Ordering::Relaxed) > MAX_BEFORE_RESPONSE => {
                    Poll::Ready(Err(RequestError::InterimResponses))
                }
                Poll::Pending => Poll::Pending,
            }
        });
        let response = result.await?;
        if let Some(limit) = keep_alive::idle_limit(response.headers()) {
            self.idle_limit = limit;
        }
        Ok(response)
    }

    /// Reads and writes what is possible. Ready once the connection has ended; the response or its body reports why.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        drive(&mut self.driver, cx)
    }

    /// Whether the connection can take a request, as far as is known without sending one.
    pub(super) fn is_ready(&mut self) -> bool {
        self.wake_flag.0.store(false, Ordering::Release);
        let waker = Waker::from(self.wake_flag.clone());
        self.poll_drive(&mut Context::from_waker(&waker)).is_pending() && self.sender.is_ready()
    }

    /// The same for a connection that was ready before: it is polled only if it was woken since.
    pub(super) fn is_still_ready(&mut self) -> bool {
        !self.wake_flag.0.load(Ordering::Acquire) || self.is_ready()
    }

    /// When it has to be closed if it idles from `now` on, for `keep_alive` at most. `None` if that is at once.
    pub(super) fn idle_deadline(&self, now: Instant, keep_alive: Duration) -> Option<Instant> {
        let deadline = (now + self.idle_limit.min(keep_alive)).min(self.expires);
        (deadline > now).then_some(deadline)
    }

    /// Closes the connection in order, with TLS's `close_notify`.
    pub(super) fn close(self) {
        drop(self.sender);
        if let Some(driver) = self.driver {
            tokio::spawn(tokio::time::timeout(CLOSE_TIMEOUT, driver));
        }
    }
}

fn drive(driver: &mut Option<Box<Driver>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(running) = driver {
        let _ = ready!(Pin::new(running).poll(cx));
        *driver = None;
    }
    Poll::Ready(())
}

/// Set when something may have happened on an idle connection.
struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
