//! What a listener serves, replaceable while the listener serves.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use axum::routing::MethodRouter;

use crate::tls::TlsServer;

/// What a listener serves.
#[derive(Clone, Default)]
pub struct ListenerSettings {
    /// Names the listener in log and status; see [`Listener::label`](super::Listener::label).
    pub label: Arc<str>,
    /// Serves its requests. Handlers find the caller's [`Peer`](super::Peer) in the request's extensions.
    pub router: MethodRouter,
    /// The settings of a TLS listener.
    pub tls: Option<Arc<TlsServer>>,
}

/// The active settings of one listener; cheap to clone. Each request is checked and served by the settings that were
/// active when its head was complete, so a reload never mixes two configurations within one request.
#[derive(Clone)]
pub struct ActiveSettings(Arc<ArcSwap<ListenerSettings>>);

impl ActiveSettings {
    /// Starts with these settings.
    #[must_use]
    pub fn new(settings: ListenerSettings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// Uses other settings for later handshakes and requests, on open connections too.
    pub fn replace(&self, settings: ListenerSettings) {
        self.0.store(Arc::new(settings));
    }

    /// The active settings.
    pub(super) fn load(&self) -> Guard<Arc<ListenerSettings>> {
        self.0.load()
    }
}
