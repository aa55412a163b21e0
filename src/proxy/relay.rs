//! The innermost service of the request stack: forwards a request to its upstream, or, on a consuming route, responds with
//! the oldest message from the spool.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

use super::caller_identity::Caller;
use super::forward::Forwarder;
use super::pull::{PullCaller, Puller};
use super::request_record::RequestRecord;
use crate::server::ProblemResponse;
use crate::spelling::Recorded;

/// Relays the requests of one worker to one upstream; cheap to clone.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) upstream: Arc<str>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) puller: Arc<Puller>,
}

impl Service<Request<Body>> for Relay {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut extensions = std::mem::take(request.extensions_mut());
        let record: RequestRecord = extensions.remove().unwrap_or_default();
        // hyper's recorded spelling goes upstream with the head. The other extensions are dropped.
        let recorded: Recorded = extensions.remove().unwrap_or_default();
        *request.extensions_mut() = recorded.0;
        let fields = record.lock();
        let (caller, options) = (fields.caller.as_ref(), fields.options.as_ref());
        let is_fresh = options.is_some_and(|options| options.is_fresh);
        let is_for_other_host = caller.is_some_and(Caller::is_on_other_host);
        let is_consuming = options.is_some_and(|options| options.is_consuming);
        let pull_caller = is_consuming.then(|| PullCaller {
            name: caller.map(Caller::label).unwrap_or_default(),
            is_relayed: caller.is_some_and(|caller| caller.is_relayed),
        });
        drop(fields);
        let upstream = self.upstream.clone();
        if let Some(pull_caller) = pull_caller {
            let pulled = self.puller.clone().take(request, pull_caller, record);
            return respond(pulled, is_for_other_host, move |error| {
                error.into_response(&upstream)
            });
        }
        let forwarded = self.forwarder.clone().forward(request, is_fresh, record);
        respond(forwarded, is_for_other_host, move |error| {
            error.into_response(&upstream)
        })
    }
}

/// Turns an error into a response.
fn respond<E>(
    relayed: impl Future<Output = Result<Response<Body>, E>> + Send + 'static,
    is_for_other_host: bool,
    into_response: impl FnOnce(E) -> ProblemResponse + Send + 'static,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    let response = move |error| {
        let response = ProblemResponse {
            is_for_other_host,
            ..into_response(error)
        };
        response.into_response()
    };
    relayed
        .map(|relayed| Ok(relayed.unwrap_or_else(response)))
        .boxed()
}
