//! A layer that responds to some requests itself and passes the others on.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::Either;
use http::{Request, Response};
use tower::Service;
use tower::layer::{Layer, layer_fn};

/// A layer that responds with what `respond` returns; `None` passes the request on.
pub(super) fn early_response<S, F>(respond: F) -> impl Layer<S, Service = EarlyResponse<S, F>>
where
    F: Fn(&Request<Body>) -> Option<Response<Body>> + Clone,
{
    layer_fn(move |inner| EarlyResponse {
        inner,
        respond: respond.clone(),
    })
}

/// See [`early_response`].
#[derive(Clone)]
pub(super) struct EarlyResponse<S, F> {
    inner: S,
    respond: F,
}

impl<S, F> Service<Request<Body>> for EarlyResponse<S, F>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    F: Fn(&Request<Body>) -> Option<Response<Body>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match (self.respond)(&request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.inner.call(request)),
        }
    }
}

/// Sends a request through the layer alone; a request that it passes on gets the status 204.
#[cfg(test)]
pub(super) fn oneshot<F>(respond: F, request: Request<Body>) -> Response<Body>
where
    F: Fn(&Request<Body>) -> Option<Response<Body>> + Clone,
{
    use futures_util::FutureExt as _;
    use http::StatusCode;
    use tower::{ServiceBuilder, ServiceExt as _};

    let stack = ServiceBuilder::new()
        .layer(early_response(respond))
        .service_fn(|_| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            ready(Ok(response))
        });
    let response = stack.oneshot(request).now_or_never();
    let Ok(response) = response.expect("neither of the two services waits");
    response
}
