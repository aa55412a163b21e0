//! Determines whether a caller has a response that carries a message, after which its connection is closed.
//!
//! | after the last byte and our FIN | the message is |
//! |---|---|
//! | the caller closes the connection in order, every byte acknowledged | delivered |
//! | every byte acknowledged, and silence for `spool.settle` | delivered |
//! | every byte acknowledged by a trusted proxy, or sent before that proxy reset the connection | delivered |
//! | the connection is reset | not delivered |
//!
//! An acknowledgement comes from the caller's system and not from the caller, so it proves nothing by itself.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::super::delivery::{DeliveryObserver, DeliveryOutcome};
use super::super::listener::Wire;

/// The delivery that is under way on a connection, if any: there is at most one, since it is the last response.
pub(super) struct DeliveryTracker {
    pending: Option<Pending>,
    /// The outcome that is known and not recorded yet.
    ended: Option<(Box<dyn DeliveryObserver>, DeliveryOutcome)>,
    /// For how long the caller's system may acknowledge nothing.
    stall: Duration,
    is_stalled: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Pending {
    observer: Box<dyn DeliveryObserver>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    /// Written, with so many bytes unacknowledged since then.
    Written(usize, Instant),
    /// Written, and acknowledged since then.
    Acknowledged(Instant),
}

/// How often to look for the acknowledgement: the system does not announce it.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(100);

impl DeliveryTracker {
    pub(super) fn new(stall: Duration) -> Self {
        Self {
            pending: None,
            ended: None,
            stall,
            is_stalled: false,
            timer: None,
        }
    }

    /// Whether the delivery failed because the caller's system acknowledged nothing more.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// A response begins to be written.
    pub(super) fn begin(&mut self, observer: Box<dyn DeliveryObserver>) {
        let stage = Stage::Writing;
        self.pending = Some(Pending { observer, stage });
    }

    /// The response is written to its last byte.
    pub(super) fn written(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.stage = Stage::Written(usize::MAX, Instant::now());
        }
    }

    /// The caller closed its side in order.
    pub(super) fn closed(&mut self, wire: &impl Wire) {
        if let Some(pending) = &self.pending
            && pending.stage != Stage::Writing
            && wire.unacknowledged() == 0
        {
            self.end_with(DeliveryOutcome::Delivered);
        }
    }

    /// The connection was reset, or broke.
    ///
    /// A proxy may reset a connection that it has read to its end before its system has acknowledged the last segments,
    /// and the system ignores the acknowledgement that a reset carries. So, behind a trusted proxy, what was sent by then
    /// counts as acknowledged.
    pub(super) fn broken(&mut self, wire: &impl Wire) {
        if let Some(pending) = &self.pending
            && pending.observer.is_relayed()
            && pending.stage != Stage::Writing
            && wire.unsent() == 0
        {
            self.end_with(DeliveryOutcome::Delivered);
        }
        self.end_with(DeliveryOutcome::Failed);
    }

    /// The connection ends before the caller closed it: a message that is acknowledged by now counts as delivered.
    pub(super) fn end(&mut self, wire: &impl Wire) {
        if wire.is_reset() {
            self.broken(wire);
        } else {
            self.closed(wire);
        }
        self.end_with(DeliveryOutcome::Failed);
    }

    /// Answers the spool's questions, and follows the acknowledgement and the time; called whenever the connection waits for its
    /// caller.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &impl Wire) {
        while let Some(pending) = &mut self.pending {
            while pending.observer.poll_asked(cx).is_ready() {
                // After the question was read, so that the answer covers every reset before it.
                if wire.is_reset() {
                    return self.broken(wire);
                }
                pending.observer.is_connected();
            }
            if wire.is_reset() {
                return self.broken(wire);
            }
            if let Stage::Written(before, since) = pending.stage {
                let now = Instant::now();
                match wire.unacknowledged() {
                    0 => pending.stage = Stage::Acknowledged(now),
                    left if left < before => pending.stage = Stage::Written(left, now),
                    _ if now - since >= self.stall => {
                        self.is_stalled = true;
                        return self.end_with(DeliveryOutcome::Failed);
                    }
                    _ => {}
                }
            }
            let due = match pending.stage {
                Stage::Writing => return,
                Stage::Written(..) => Instant::now() + ACKNOWLEDGEMENT_POLL,
                Stage::Acknowledged(since) if pending.observer.is_relayed() => since,
                Stage::Acknowledged(since) => since + pending.observer.settle(),
            };
            if due <= Instant::now() {
                return self.end_with(DeliveryOutcome::Delivered);
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Records the outcome; a delivery that is still pending failed.
    pub(super) async fn record(&mut self) {
        self.end_with(DeliveryOutcome::Failed);
        if let Some((observer, outcome)) = self.ended.take() {
            observer.record(outcome).await;
        }
    }

    fn end_with(&mut self, outcome: DeliveryOutcome) {
        if let Some(pending) = self.pending.take() {
            self.ended = Some((pending.observer, outcome));
        }
    }
}
