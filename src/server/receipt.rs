//! For an answer that somebody wants to know the fate of.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Hears what became of an answer. Dropped without having heard that it was delivered, it was not.
pub trait Receipt: Send {
    /// Ready when it is asked whether the caller is still there.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The caller is there: its connection has heard no reset.
    fn is_there(&mut self);

    /// Every byte was acknowledged by the caller's system, and the connection stayed open for a while.
    fn provisional(&mut self);

    /// Every byte was acknowledged, and then the caller sent another request or closed its side.
    fn delivered(self: Box<Self>);
}

/// An extension of a response: who hears of it.
#[derive(Clone)]
pub struct WithReceipt(Arc<Mutex<Option<Box<dyn Receipt>>>>);

impl WithReceipt {
    /// Tells this receipt.
    #[must_use]
    pub fn new(receipt: impl Receipt + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(receipt)))))
    }

    pub(super) fn take(&self) -> Option<Box<dyn Receipt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
