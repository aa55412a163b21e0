use std::io;
use std::sync::{Mutex, PoisonError};

use http_body_util::BodyExt as _;
use tracing::instrument::WithSubscriber as _;

use super::super::caller_identity::Caller;
use super::super::catch_panic::CatchPanic;
use super::super::request_record::RequestRecord;
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
    let settings = Settings {
        metrics,
        explanations: Arc::default(),
        activity: Arc::default(),
        upstream: "cisco".into(),
        listener: "127.0.0.1:8080".into(),
        adds_correlation_id: true,
    };
    let mut service = AccessLog::new(inner, Arc::new(settings));
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
    RequestRecord::of(request).lock().caller = Some(caller);
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
        "response_bytes=4",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_request_that_ends_by_a_bug_is_logged_with_the_response_that_its_caller_gets() {
    let inner = CatchPanic(tower::service_fn(
        async |_: Request<Body>| -> Result<Response<Body>, Infallible> { panic!("a bug") },
    ));
    let text = log(inner, |response| {
        Box::pin(async move {
            let response: Response<Body> = response.await.unwrap();
            response.into_body().collect().await.unwrap();
        })
    })
    .await;
    for part in [
        "ERROR",
        "request completed",
        "status=502",
        "origin=\"bondgate\"",
        "problem=\"bug\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
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
