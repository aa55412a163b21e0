//! The router that serves a listener's requests, replaceable while the listener serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

/// The active router of one listener; cheap to clone. Each request is served by the router that was active when its
/// head was complete, so a reload never mixes two configurations within one request. Handlers find the caller's
/// [`Peer`](super::Peer) in the request's extensions.
#[derive(Clone, Debug)]
pub struct ActiveRouter(Arc<ArcSwap<Router>>);

impl ActiveRouter {
    /// Starts with this router.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(router)))
    }

    /// Serves later requests with another router, on open connections too.
    pub fn replace(&self, router: Router) {
        self.0.store(Arc::new(router));
    }

    /// The active router.
    pub(super) fn current(&self) -> Router {
        Router::clone(&self.0.load())
    }
}
