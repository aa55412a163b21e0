//! The innermost service of the request stack: forwards a request to its upstream, or, on a consuming route, responds with
//! the oldest message from the spool.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

use super::caller::Caller;
use super::forward::Forwarder;
use super::pull::{Asker, Puller};
use super::request_record::RequestRecord;
use crate::server::ProblemResponse;

/// One worker's way to one upstream; cheap to clone.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) upstream: Arc<str>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) puller: Puller,
}

impl Relay {
    async fn respond(self, mut request: Request<Body>) -> Result<Response<Body>, ProblemResponse> {
        // Our extensions end here: the others go upstream with the head.
        let extensions = request.extensions_mut();
        let record = extensions.remove::<Arc<RequestRecord>>().unwrap_or_default();
        let options = record.options.get().copied().unwrap_or_default();
        if !options.is_consuming {
            let forwarded = self.forwarder.forward(request, options.is_fresh).await;
            return forwarded.map_err(|error| error.into_problem(&self.upstream));
        }
        let caller = record.caller.get();
        let asker = Asker {
            name: caller.map(Caller::label).unwrap_or_default().into(),
            is_relayed: caller.is_some_and(|caller| caller.is_relayed),
        };
        let pulled = Box::pin(self.puller.take(request, asker)).await;
        pulled.map_err(|error| error.into_problem(&self.upstream))
    }
}

impl Service<Request<Body>> for Relay {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let relay = self.clone();
        Box::pin(async move {
            let response = relay.respond(request).await;
            Ok(response.unwrap_or_else(ProblemResponse::into_response))
        })
    }
}
