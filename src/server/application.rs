//! What answers the requests of a listener.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use tower::Service as _;

use super::peer::Peer;

/// Answers requests. It is called once for each, so there is one dynamic call and one allocation between a
/// connection and what does the work.
pub trait Application: Send + Sync {
    /// The answer to a request that came from `peer`.
    fn answer(self: Arc<Self>, peer: &Peer, request: Request<Body>) -> Answering;
}

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A router's handlers find the peer among the request's extensions.
impl Application for Router {
    fn answer(self: Arc<Self>, peer: &Peer, mut request: Request<Body>) -> Answering {
        request.extensions_mut().insert(peer.clone());
        let answer = Self::clone(&self).call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            response
        })
    }
}
