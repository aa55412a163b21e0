//! The layer that responds on a listener's `health` path, for load balancers. It needs no access control and leaves no
//! log line: a check comes every few seconds.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::Either;
use http::{Request, Response};
use tower::{Layer, Service};

/// Responds with 200 on one path, where a path is configured.
#[derive(Clone)]
pub(super) struct HealthLayer(Option<Arc<str>>);

impl HealthLayer {
    pub(super) fn new(path: Option<&str>) -> Self {
        Self(path.map(Arc::from))
    }
}

impl<S> Layer<S> for HealthLayer {
    type Service = Health<S>;

    fn layer(&self, inner: S) -> Health<S> {
        Health {
            inner,
            path: self.0.clone(),
        }
    }
}

/// See [`HealthLayer`].
#[derive(Clone)]
pub(super) struct Health<S> {
    inner: S,
    path: Option<Arc<str>>,
}

impl<S> Service<Request<Body>> for Health<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.path.as_deref() == Some(request.uri().path()) {
            return Either::Left(ready(Ok(Response::new(Body::from("ok\n")))));
        }
        Either::Right(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_health_path_is_answered_here() {
        let inner = tower::service_fn(async |_: Request<Body>| {
            Ok(Response::builder().status(418).body(Body::empty()).unwrap())
        });
        for (configured, path, expected) in [
            (Some("/healthz"), "/healthz", StatusCode::OK),
            (Some("/healthz"), "/healthz/", StatusCode::IM_A_TEAPOT),
            (None, "/healthz", StatusCode::IM_A_TEAPOT),
        ] {
            let service = HealthLayer::new(configured).layer(inner);
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = service.oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{configured:?} {path}");
        }
    }
}
