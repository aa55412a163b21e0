//! The layer that writes one log line and counts one request, when the response has ended or the caller has
//! disconnected. Bodies, queries and credentials appear in neither.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::Body as _;
use tower::{Layer, Service};

use super::authorization::CallerCell;
use super::observed_body::{BodyObserver, ObservedBody};
use crate::server::ProblemResponse;
use crate::telemetry::metrics::UpstreamMetrics;

/// Header fields by which callers and Cisco identify a request.
static CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
static TRANSACTION: HeaderName = HeaderName::from_static("x-transaction-id");

/// The part of a path that is logged: lines wait in memory for the log's reader, and every caller can send long paths.
const LONGEST_PATH: usize = 1024;

/// Logs and counts the requests of one upstream.
#[derive(Clone)]
pub(super) struct AccessLogLayer {
    upstream: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
}

impl AccessLogLayer {
    pub(super) fn new(upstream: Arc<str>, metrics: Arc<UpstreamMetrics>) -> Self {
        Self { upstream, metrics }
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> AccessLog<S> {
        AccessLog {
            inner,
            layer: self.clone(),
        }
    }
}

/// See [`AccessLogLayer`].
#[derive(Clone)]
pub(super) struct AccessLog<S> {
    inner: S,
    layer: AccessLogLayer,
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
        let entry = Entry::begin(&request, self.layer.clone());
        request.extensions_mut().insert(entry.caller.clone());
        let response = self.inner.call(request);
        // Where the caller disconnects, the future is dropped, and the entry with it.
        response.map(|Ok(response)| Ok(entry.follow(response))).boxed()
    }
}

/// What the log line of one request will say; written when it is dropped.
struct Entry {
    began: Instant,
    layer: AccessLogLayer,
    method: Method,
    path: String,
    correlation: Option<String>,
    transaction: Option<String>,
    /// Set by the authorization layer.
    caller: CallerCell,
    /// 0 until there is a response.
    status: u16,
    problem: Option<ProblemResponse>,
    bytes: u64,
    is_complete: bool,
}

impl Entry {
    fn begin(request: &Request<Body>, layer: AccessLogLayer) -> Self {
        layer.metrics.in_flight.inc();
        Self {
            began: Instant::now(),
            layer,
            method: request.method().clone(),
            path: request.uri().path().chars().take(LONGEST_PATH).collect(),
            correlation: text(request.headers(), &CORRELATION),
            transaction: None,
            caller: CallerCell::default(),
            status: 0,
            problem: None,
            bytes: 0,
            is_complete: false,
        }
    }

    /// Follows a response to its end.
    fn follow(mut self, mut response: Response<Body>) -> Response<Body> {
        let metrics = &self.layer.metrics;
        self.status = response.status().as_u16();
        self.transaction = text(response.headers(), &TRANSACTION);
        self.problem = response.extensions_mut().remove();
        metrics.answered(self.status);
        metrics.duration.observe(self.began.elapsed().as_secs_f64());
        if let Some(problem) = &self.problem {
            metrics.own_answer(&problem.error.to_string());
        }
        // A response to HEAD has no body that could be cut short.
        self.is_complete = response.body().is_end_stream() || self.method == Method::HEAD;
        response.map(|body| ObservedBody::wrap(body, self))
    }
}

impl BodyObserver for Entry {
    fn sent(&mut self, bytes: usize, is_end: bool) {
        self.bytes += bytes as u64;
        self.is_complete = is_end;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.layer.metrics.in_flight.dec();
        let caller = self.caller.get();
        // The message as a field and not as a format: this is the one line that each request has.
        tracing::info!(
            message = if self.status == 0 {
                "caller disconnected before its response"
            } else if self.is_complete {
                "request completed"
            } else {
                "response cut short"
            },
            upstream = &*self.layer.upstream,
            caller = caller.and_then(|caller| caller.name.as_deref()),
            address = caller
                .and_then(|caller| caller.address)
                .map(tracing::field::display),
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            error = self.problem.as_ref().map(|problem| problem.error.to_string()),
            reason = self.problem.as_ref().map(|problem| &*problem.detail),
            bytes = self.bytes,
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            correlation_id = self.correlation,
            transaction_id = self.transaction,
        );
    }
}

/// Text that is not ours, for one log line: bounded.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(128).collect())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use http_body_util::BodyExt as _;
    use tracing::instrument::WithSubscriber as _;

    use super::super::authorization::Caller;
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
        let mut service = AccessLogLayer::new("cisco".into(), metrics).layer(inner);
        let request = Request::get("/a?secret=1").body(Body::empty()).unwrap();
        async move { use_response(service.call(request)).await }
            .with_subscriber(subscriber)
            .await;
        log.text()
    }

    fn identify(request: &Request<Body>) {
        let cell = request.extensions().get::<CallerCell>().unwrap();
        cell.set(Caller {
            name: Some("erp".to_owned()),
            ..Caller::default()
        });
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
}
