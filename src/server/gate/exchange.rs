//! What the gate below hyper and the service above it tell each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::answer::Answer;
use super::super::delivery::DeliveryObserver;
use super::head;

/// What the gate and the service above hyper tell each other of the exchange at hand.
#[derive(Default)]
pub(in super::super) struct Exchange {
    pub(super) is_body_open: AtomicBool,
    pub(super) answered: AtomicBool,
    /// Whether the answer went to hyper to its last byte.
    pub(super) is_whole: AtomicBool,
    pub(super) fault: AtomicU8,
    /// Counts what comes of a request's body.
    pub(super) pieces: AtomicU64,
    is_draining: AtomicBool,
    is_over: AtomicBool,
    has_observer: AtomicBool,
    observer: Mutex<Option<Box<dyn DeliveryObserver>>>,
}

impl Exchange {
    /// hyper is done with the answer's body, and had it whole or not.
    pub(in super::super) fn answer_taken(&self, is_whole: bool) {
        self.is_whole.store(is_whole, Ordering::Release);
        self.answered.store(true, Ordering::Release);
    }

    /// Whether some of the request's body has not gone to hyper yet. An answer at that time is the
    /// connection's last one, and says so.
    pub(in super::super) fn is_body_open(&self) -> bool {
        self.is_body_open.load(Ordering::Acquire)
    }

    /// Has the connection end when it idles.
    pub(in super::super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Has no request begin any more.
    pub(in super::super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Sets the observer of the response that is about to be written.
    pub(in super::super) fn observe(&self, observer: Option<Box<dyn DeliveryObserver>>) {
        let has_observer = observer.is_some();
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = observer;
        self.has_observer.store(has_observer, Ordering::Release);
    }

    pub(super) fn take_observer(&self) -> Option<Box<dyn DeliveryObserver>> {
        if !self.has_observer.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How much has come of a body that nobody waits for any more, since the answer is with hyper to its end.
    pub(in super::super) fn left_over(&self) -> Option<u64> {
        let is_left_over = self.answered.load(Ordering::Acquire) && self.is_body_open();
        is_left_over.then(|| self.pieces.load(Ordering::Relaxed))
    }

    /// The answer for a request whose body turned out to be none.
    pub(in super::super) fn body_fault(&self) -> Option<Answer> {
        match self.fault.load(Ordering::Acquire) {
            0 => None,
            1 => Some(head::malformed(
                "the request's body is not chunked as HTTP/1.1 has it",
            )),
            _ => Some(head::body_too_long()),
        }
    }
}
