//! The layer that limits concurrent requests. A request holds its permit until the last byte of its response, not only
//! until the head.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use tower::{Layer, Service};

use super::authorization::{Caller, caller_of};
use super::observed_body::{BodyObserver, ObservedBody};
use crate::config::Limits;
use crate::server::{CallerId, FairSemaphore, LimitReason, Permit, ProblemResponse, ProxyErrorType};

/// The limits over all workers and listeners; cheap to clone.
#[derive(Clone)]
pub struct InFlightLayer(FairSemaphore);

impl InFlightLayer {
    /// Limits as configured.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self(FairSemaphore::new(limits.in_flight, limits.per_caller))
    }

    fn acquire(&self, caller: Option<CallerId>) -> Result<Permit, ProblemResponse> {
        self.0.acquire(caller).map_err(|full| {
            let reason = match full {
                LimitReason::Total => "too many requests at once (limits.in_flight)",
                LimitReason::Caller => "too many requests at once from this caller (limits.per_caller)",
                LimitReason::Share => {
                    "nearly too many requests at once (limits.in_flight), and this caller has the most of them"
                }
            };
            ProblemResponse::not_executed(ProxyErrorType::ConnectionLimitReached, reason)
        })
    }
}

impl<S> Layer<S> for InFlightLayer {
    type Service = InFlight<S>;

    fn layer(&self, inner: S) -> InFlight<S> {
        InFlight {
            inner,
            limit: self.clone(),
        }
    }
}

/// See [`InFlightLayer`].
#[derive(Clone)]
pub struct InFlight<S> {
    inner: S,
    limit: InFlightLayer,
}

impl<S> Service<Request<Body>> for InFlight<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response<Body>, Infallible>>,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = caller_of(&request).and_then(Caller::id);
        let permit = match self.limit.acquire(caller) {
            Ok(permit) => permit,
            Err(refusal) => return Either::Left(ready(Ok(refusal.into_response()))),
        };
        let response = self.inner.call(request);
        let held = |Ok(response): Result<Response<Body>, _>| {
            Ok(response.map(|body| ObservedBody::wrap(body, HeldPermit(permit))))
        };
        Either::Right(response.map(held).boxed())
    }
}

/// Held until it is dropped with the body.
struct HeldPermit(#[expect(dead_code, reason = "held for its drop")] Permit);

impl BodyObserver for HeldPermit {
    fn sent(&mut self, _: usize, _: bool) {}
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::super::authorization::CallerCell;
    use super::*;

    fn request(name: Option<&str>, address: [u8; 4]) -> Request<Body> {
        let cell = CallerCell::default();
        cell.set(Caller {
            name: name.map(str::to_owned),
            address: Some(address.into()),
            ..Caller::default()
        });
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(cell);
        request
    }

    #[tokio::test]
    async fn a_permit_is_held_until_the_body_ends_and_counts_by_key_or_by_address() {
        let inner = tower::service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("x"))));
        let service = InFlightLayer(FairSemaphore::new(10, 1)).layer(inner);
        let send = async |request| service.clone().oneshot(request).await.unwrap();

        let first = send(request(Some("erp"), [10, 0, 0, 1])).await;
        let again = send(request(Some("erp"), [10, 0, 0, 2])).await;
        assert_eq!(again.status(), 503);
        assert!(again.headers().contains_key("retry-after"));
        let other = send(request(Some("itsm"), [10, 0, 0, 1])).await;
        let bare = send(request(None, [10, 0, 0, 1])).await;
        assert_eq!(
            (other.status(), bare.status()),
            (200.try_into().unwrap(), 200.try_into().unwrap())
        );
        assert_eq!(send(request(None, [10, 0, 0, 1])).await.status(), 503);

        axum::body::to_bytes(first.into_body(), 10).await.unwrap();
        assert_eq!(send(request(Some("erp"), [10, 0, 0, 2])).await.status(), 200);
        drop(bare);
        assert_eq!(send(request(None, [10, 0, 0, 1])).await.status(), 200);
    }
}
