//! What a caller is offered, and what follows from the outcome of a delivery to it.

use std::sync::Arc;
use std::time::Duration;

use super::error::SpoolError;
use super::failed_deliveries::Offer;
use super::id::{MessageId, QueueId};
use super::queue::{Caller, Queue};
use super::spool_state::SpoolState;
use crate::problems::spool as problems;

/// A caller that is served.
#[derive(Clone)]
pub(super) struct Recipient {
    pub(super) shared: Arc<SpoolState>,
    pub(super) queue: Arc<Queue>,
    pub(super) caller: Caller,
    /// The older message that this caller failed to take, where the delivery of the next one is to show whether that
    /// message or the caller is at fault.
    pub(super) suspect: Option<MessageId>,
}

impl Recipient {
    /// Decides whether the caller is offered this message, or the one behind it. `None` is a message that is still to be
    /// pulled. Fails during a pause.
    pub(super) fn offer(&self, message: Option<MessageId>, total: u32) -> Result<Offer, SpoolError> {
        match self.queue.failed_deliveries.offer(&self.caller, message, total) {
            Offer::Paused(left, failures) => Err(SpoolError::Paused {
                caller: self.caller.clone(),
                failures,
                left,
            }),
            offer => Ok(offer),
        }
    }

    /// Records a delivery: the caller is not at fault, so an older message that it failed to take is. Waits for the disk.
    pub(super) fn delivered(&self, queue: &QueueId, message: MessageId) {
        self.queue.failed_deliveries.delivered(&self.caller, message);
        let in_progress = self.queue.in_progress();
        if let Some(suspect) = self.suspect.filter(|id| !in_progress.contains(id)) {
            self.make_dead_letter(queue, suspect);
        }
        if self.shared.failing() > 0 {
            let _ = self.shared.count();
        } else if !self.shared.problems.is_empty() {
            self.shared.publish();
        }
    }

    fn make_dead_letter(&self, queue: &QueueId, suspect: MessageId) {
        let shared = &self.shared;
        match shared.store.make_dead_letter(queue, suspect) {
            Ok(None) => {}
            Ok(Some(name)) => {
                self.queue.failed_deliveries.forget(suspect);
                shared.metrics.spool.set_aside.inc();
                tracing::error!(
                    problem = problems::dead_letters(1).code(),
                    %queue,
                    pulled = %suspect,
                    name,
                    caller = &*self.caller,
                    "message set aside as a dead letter: its deliveries failed, and the next message was delivered; \
                     `bondgate spool requeue NAME` delivers it again; without spool.directory it is lost when bondgate ends"
                );
            }
            Err(error) => tracing::error!(
                problem = shared.disk_failed(&error).code(),
                %queue,
                pulled = %suspect,
                %error,
                "message cannot be made a dead letter and stays in the queue; check the spool's disk"
            ),
        }
    }

    /// Records a failed delivery of a message; `None` is one that is lost, which pauses the caller's pulls. Returns the
    /// pause, if the message was not the one behind a suspect.
    pub(super) fn failed(&self, message: Option<MessageId>) -> Option<Duration> {
        self.shared.metrics.spool.failed_deliveries.inc();
        let Some(suspect) = self.suspect else {
            return Some(self.queue.failed_deliveries.failed(&self.caller, message));
        };
        if self.queue.failed_deliveries.next_failed(&self.caller, suspect) {
            self.shared.publish();
        }
        None
    }
}
