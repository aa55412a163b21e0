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
