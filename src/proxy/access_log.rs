//! The layer that writes one log line and counts one request, when the response has ended or the caller has
//! disconnected. Bodies, queries and credentials appear in neither.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tower::Service;

use super::pull::PullOutcome;
use super::request_record::RequestRecord;
use crate::server::ProblemResponse;
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::ResponseBodyError;

/// Header fields by which callers and Cisco identify a request.
static CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
static TRANSACTION: HeaderName = HeaderName::from_static("x-transaction-id");

/// The parts of a path and of an identifier that are logged, in bytes: lines wait in memory for the log's reader, and every
/// caller can send long ones.
const LONGEST_PATH: usize = 1024;
const LONGEST_ID: usize = 128;

/// Logs and counts the requests of one upstream.
#[derive(Clone)]
pub(super) struct AccessLog<S> {
    inner: S,
    metrics: Arc<UpstreamMetrics>,
}

impl<S> AccessLog<S> {
    pub(super) fn new(inner: S, metrics: Arc<UpstreamMetrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S> Service<Request<Body>> for AccessLog<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let entry = Entry::begin(&request, self.metrics.clone());
        request.extensions_mut().insert(entry.record.clone());
        let response = self.inner.call(request);
        // When the caller disconnects, the future is dropped, and the entry with it.
        response.map(|Ok(response)| Ok(entry.follow(response))).boxed()
    }
}

/// The data of a request's log line; written when it is dropped.
struct Entry {
    began: Instant,
    metrics: Arc<UpstreamMetrics>,
    method: Method,
    uri: Uri,
    correlation: Option<HeaderValue>,
    transaction: Option<HeaderValue>,
    record: Arc<RequestRecord>,
    /// 0 until there is a response.
    status: u16,
    problem: Option<ProblemResponse>,
    pull: Option<PullOutcome>,
    /// The code of the problem that ended the upstream's body.
    cut: Option<&'static str>,
    bytes: u64,
    is_complete: bool,
}

impl Entry {
    fn begin(request: &Request<Body>, metrics: Arc<UpstreamMetrics>) -> Self {
        metrics.in_flight.inc();
        Self {
            began: Instant::now(),
            metrics,
            method: request.method().clone(),
            uri: request.uri().clone(),
            correlation: request.headers().get(&CORRELATION).cloned(),
            transaction: None,
            record: Arc::default(),
            status: 0,
            problem: None,
            pull: None,
            cut: None,
            bytes: 0,
            is_complete: false,
        }
    }

    /// Follows a response to its end.
    fn follow(mut self, mut response: Response<Body>) -> Response<Body> {
        let metrics = &self.metrics;
        self.status = response.status().as_u16();
        self.transaction = response.headers().get(&TRANSACTION).cloned();
        self.problem = response.extensions_mut().remove();
        self.pull = response.extensions_mut().remove();
        metrics.count_response(self.status);
        metrics.duration.observe(self.began.elapsed().as_secs_f64());
        if let Some(problem) = &self.problem {
            metrics.count_own_response(&problem.error.to_string());
        }
        // A response to HEAD has no body that could be cut short.
        self.is_complete = response.body().is_end_stream() || self.method == Method::HEAD;
        response.map(|body| Body::new(LoggedBody { body, entry: self }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        let caller = self.record.caller.get();
        // The message as a field and not as a format: this is the one line that each request has.
        tracing::info!(
            message = if self.status == 0 {
                "caller disconnected before its response"
            } else if self.is_complete {
                "request completed"
            } else {
                "response cut short"
            },
            upstream = self.metrics.name(),
            caller = caller.and_then(|caller| caller.name.as_deref()),
            address = caller.and_then(|caller| caller.address_text.as_deref()),
            method = self.method.as_str(),
            path = start(self.uri.path(), LONGEST_PATH),
            status = self.status,
            pull = self.pull.map(|PullOutcome(outcome)| outcome),
            error = self.problem.as_ref().map(|problem| problem.error.to_string()),
            problem = self
                .problem
                .as_ref()
                .map(|problem| problem.problem.code())
                .or(self.cut),
            reason = self.problem.as_ref().map(ProblemResponse::detail),
            bytes = self.bytes,
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            correlation_id = self.correlation.as_ref().and_then(identifier),
            transaction_id = self.transaction.as_ref().and_then(identifier),
        );
    }
}

fn identifier(value: &HeaderValue) -> Option<&str> {
    Some(start(value.to_str().ok()?, LONGEST_ID))
}

/// The first characters of a text, at most so many bytes.
fn start(text: &str, longest: usize) -> &str {
    let end = (0..=text.len().min(longest)).rfind(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// A response body whose end completes the log entry.
struct LoggedBody {
    body: Body,
    entry: Entry,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.entry.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                self.entry.is_complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.entry.is_complete = true,
            Poll::Ready(Some(Err(error))) => {
                let error = error
                    .source()
                    .and_then(<dyn Error>::downcast_ref::<ResponseBodyError>);
                self.entry.cut = error.map(ResponseBodyError::code);
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use http_body_util::BodyExt as _;
    use tracing::instrument::WithSubscriber as _;

    use super::super::caller_identity::Caller;
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log of one request: `use_response` takes what the layer returns, or drops it.
    async fn log<S, F>(inner: S, use_response: impl FnOnce(F) -> BoxFuture<'static, ()>) -> String
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
        AccessLog<S>: Service<Request<Body>, Future = F>,
    {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let metrics = Arc::new(Metrics::new().upstream("cisco"));
        let mut service = AccessLog::new(inner, metrics);
        let request = Request::get("/a?secret=1").body(Body::empty()).unwrap();
        async move { use_response(service.call(request)).await }
            .with_subscriber(subscriber)
            .await;
        log.text()
    }

    fn identify(request: &Request<Body>) {
        let caller = Caller {
            name: Some("erp".into()),
            ..Caller::default()
        };
        let is_new = RequestRecord::of(request).caller.set(caller).is_ok();
        assert!(is_new);
    }

    #[tokio::test]
    async fn a_request_is_logged_once_its_body_has_ended() {
        let inner = tower::service_fn(async |request: Request<Body>| {
            identify(&request);
            Ok(Response::new(Body::from("four")))
        });
        let text = log(inner, |response| {
            Box::pin(async move {
                let response: Response<Body> = response.await.unwrap();
                response.into_body().collect().await.unwrap();
            })
        })
        .await;
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [
            "request completed",
            "caller=\"erp\"",
            "path=\"/a\"",
            "status=200",
            "bytes=4",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn a_caller_that_disconnects_is_still_named() {
        let inner = tower::service_fn(|request: Request<Body>| {
            identify(&request);
            std::future::pending()
        });
        let text = log(inner, |response| {
            drop(response);
            Box::pin(async {})
        })
        .await;
        for part in [
            "caller disconnected before its response",
            "caller=\"erp\"",
            "status=0",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(start("caf\u{e9}", 10), "caf\u{e9}");
        assert_eq!(start("caf\u{e9}", 4), "caf");
        assert_eq!(start("", 4), "");
    }
}
