//! The layer that responds for a handler that panics: a bug ends one request, and neither its connection nor the daemon.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::{CatchUnwind, Either, Map};
use http::{Request, Response, StatusCode};
use tower::Service;

use crate::problems::request::bug;
use crate::server::{ProblemResponse, ProxyErrorType};

/// Responds for the layers below it. Below the access log, so that the log has the response that the caller gets. A panic in
/// a layer above it ends the connection.
#[derive(Clone)]
pub(super) struct CatchPanic<S>(pub(super) S);

type Responded = Result<Response<Body>, Infallible>;
type Caught = Result<Responded, Box<dyn Any + Send>>;

impl<S> Service<Request<Body>> for CatchPanic<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Responded>, Ready<Responded>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Nothing of the request is used after a panic, and what requests share is changed under locks that no panic
        // poisons.
        match catch_unwind(AssertUnwindSafe(|| self.0.call(request))) {
            Ok(response) => Either::Left(AssertUnwindSafe(response).catch_unwind().map(respond)),
            Err(panic) => Either::Right(ready(respond(Err(panic)))),
        }
    }
}

fn respond(caught: Caught) -> Responded {
    caught.unwrap_or_else(|_| {
        let problem = bug("a bug in bondgate ended this request");
        let response = ProblemResponse::may_have_been_executed(
            StatusCode::BAD_GATEWAY,
            ProxyErrorType::ProxyInternalError,
            problem,
        );
        Ok(response.into_response())
    })
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_request_with_a_complete_response() {
        let at_once = service_fn(|_| -> Ready<Responded> { panic!("a bug") });
        let later = service_fn(async |_| -> Responded { panic!("a bug") });
        let request = || Request::new(Body::empty());
        for response in [
            CatchPanic(at_once).oneshot(request()).await,
            CatchPanic(later).oneshot(request()).await,
        ] {
            let response = response.unwrap();
            assert_eq!(response.status(), 502);
            let source = response.headers()["proxy-status"].to_str().unwrap();
            assert!(
                source.starts_with("bondgate; error=proxy_internal_error"),
                "{source}"
            );
        }
    }
}
