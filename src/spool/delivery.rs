//! The delivery of a message to one caller, and its outcome.

use std::io;
use std::time::Duration;

use http::response::Parts;

use super::blocking::off_thread;
use super::id::{MessageId, QueueId};
use super::message_file::MessageBody;
use super::pause::FAILING;
use super::queue::Leased;
use super::shared::{AT_FAULT, Recipient};
use super::store::Message;

/// A message on its way to one caller. Dropped before [`record`](Self::record), the message is back in its queue as if it
/// had never been taken.
pub struct Delivery {
    recipient: Recipient,
    message: Message,
    is_redelivery: bool,
    is_recorded: bool,
    /// Keeps the message from other requests. Dropped last, when the message's file is unlocked.
    pub lease: Leased,
}

impl Delivery {
    pub(super) fn new(recipient: Recipient, message: Message, is_redelivery: bool) -> Self {
        if is_redelivery {
            recipient.shared.metrics.spool.redeliveries.inc();
        }
        Self {
            lease: recipient.queue.lease(message.name.id),
            recipient,
            message,
            is_redelivery,
            is_recorded: false,
        }
    }

    /// The response's head.
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.message.content.head
    }

    /// When the message was pulled, if that was for an earlier request.
    #[must_use]
    pub fn redelivered(&self) -> Option<MessageId> {
        self.is_redelivery.then_some(self.message.name.id)
    }

    /// The body, from its start.
    pub fn body(&self) -> io::Result<MessageBody> {
        self.message.body()
    }

    /// Records how the delivery ended. The lease ends when this returns: by then the message is in the state in which
    /// the next request of its queue finds it.
    pub async fn record(mut self, is_delivered: bool) {
        self.is_recorded = true;
        self.lease.set_on_connection(false);
        // A panic is logged where it occurs.
        let _ = off_thread(move || {
            let recorded = if is_delivered {
                self.record_delivered()
            } else {
                self.record_failed()
            };
            recorded.inspect_err(|error| self.report_unrecorded(error))
        })
        .await;
    }

    fn names(&self) -> (&QueueId, MessageId, &str) {
        let Message { name, content, .. } = &self.message;
        (&content.intent.queue, name.id, &self.recipient.caller)
    }

    fn record_delivered(&self) -> io::Result<()> {
        let (queue, pulled, caller) = self.names();
        let shared = &self.recipient.shared;
        shared.store.deliver(&self.message)?;
        self.recipient.queue.pauses.delivered(caller, pulled);
        shared.metrics.spool.delivered.inc();
        let is_redelivery = self.is_redelivery;
        tracing::debug!(%queue, %pulled, caller, is_redelivery, "pulled message delivered");
        let in_progress = self.recipient.queue.in_progress();
        if let Some(suspect) = self.recipient.suspect.filter(|id| !in_progress.contains(id)) {
            self.make_dead_letter(suspect);
        }
        if shared.failing() > 0 {
            let _ = shared.count();
        }
        Ok(())
    }

    /// The next message was delivered, so the older one is at fault.
    fn make_dead_letter(&self, suspect: MessageId) {
        let (queue, _, caller) = self.names();
        let shared = &self.recipient.shared;
        match shared.store.make_dead_letter(queue, suspect) {
            Ok(None) => {}
            Ok(Some(name)) => {
                self.recipient.queue.pauses.forget(suspect);
                shared.metrics.spool.set_aside.inc();
                tracing::error!(
                    %queue,
                    pulled = %suspect,
                    name,
                    caller,
                    "message set aside as a dead letter: its deliveries failed, and the next message was delivered; \
                     `bondgate spool requeue NAME` delivers it again; without spool.directory it is lost when bondgate ends"
                );
            }
            Err(error) => tracing::error!(
                %queue,
                pulled = %suspect,
                %error,
                "message cannot be made a dead letter and stays in the queue; check the spool's disk"
            ),
        }
    }

    fn record_failed(&self) -> io::Result<()> {
        let (queue, pulled, caller) = self.names();
        let shared = &self.recipient.shared;
        let failures = shared.store.fail(&self.message)?;
        if failures >= FAILING {
            let _ = shared.count();
        }
        shared.metrics.spool.failed_deliveries.inc();
        let queue_pauses = &self.recipient.queue.pauses;
        let (pause, is_new_fault) = match self.recipient.suspect {
            None => (Some(queue_pauses.failed(&self.recipient.caller, pulled)), false),
            Some(suspect) => (None, queue_pauses.next_failed(&self.recipient.caller, suspect)),
        };
        let pause_s = pause.as_ref().map(Duration::as_secs_f32);
        let instead_of = self.recipient.suspect.map(tracing::field::display);
        tracing::warn!(
            %queue, %pulled, caller, failures, pause_s, instead_of, "delivery failed, message will be redelivered"
        );
        if is_new_fault {
            tracing::error!(%queue, caller, "caller {AT_FAULT}");
        }
        Ok(())
    }

    fn report_unrecorded(&self, error: &io::Error) {
        let (queue, pulled, caller) = self.names();
        // Without a pause, the same message would be delivered again and again.
        self.recipient.queue.pauses.failed(&self.recipient.caller, pulled);
        tracing::error!(
            %queue,
            %pulled,
            caller,
            %error,
            "outcome of a delivery cannot be written to the spool's directory, the message may be delivered again; \
             make the directory writable"
        );
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_recorded {
            let (queue, pulled, caller) = self.names();
            tracing::info!(
                %queue,
                %pulled,
                caller,
                "caller disconnected before its message arrived, message will be redelivered"
            );
        }
    }
}
