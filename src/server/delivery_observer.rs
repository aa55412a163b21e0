//! The trait by which a connection reports the delivery of a message. The proxy implements it with the spool, which the
//! server does not know.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;

/// A future that records the outcome of a delivery.
pub type Recording = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Observes the delivery of a response; the rule is in `connection/delivery.rs`. Dropped before
/// [`record`](Self::record) was called, nothing of the response was sent, or the process ends.
pub trait DeliveryObserver: Send {
    /// Ready when the spool asks whether the caller is still connected.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The caller is connected: its connection was not reset.
    fn is_connected(&mut self);

    /// How long the connection has to be silent, once every byte is acknowledged, for the response to count as
    /// delivered.
    fn settle(&self) -> Duration;

    /// A trusted proxy relays for the caller: a response that it has acknowledged is delivered, even if a reset follows.
    fn is_relayed(&self) -> bool;

    /// A response that is not delivered can be delivered again, so a stop need not wait for its caller.
    fn is_repeatable(&self) -> bool;

    /// Records whether the response was delivered; the connection's task awaits it.
    fn record(self: Box<Self>, is_delivered: bool) -> Recording;
}

/// An extension of a response: the observer of its delivery. Such a response is the last on its connection, so that
/// the end of the connection shows whether the caller has it.
#[derive(Clone)]
pub struct ObserveDelivery(Arc<Mutex<Option<Box<dyn DeliveryObserver>>>>);

impl ObserveDelivery {
    /// Delivery is reported to this observer.
    #[must_use]
    pub fn new(observer: impl DeliveryObserver + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(observer)))))
    }

    pub(super) fn take(&self) -> Option<Box<dyn DeliveryObserver>> {
        self.0.lock().take()
    }
}
