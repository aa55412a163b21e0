//! The delivery of a message to one caller, and its outcome.

use std::io;

use http::response::Parts;

use super::blocking::off_thread;
use super::caller_outcomes::Recipient;
use super::failed_deliveries::FAILING;
use super::id::{MessageId, QueueId};
use super::message_file::MessageBody;
use super::queue::Leased;
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

    fn record_delivered(&mut self) -> io::Result<()> {
        self.recipient.shared.store.deliver(&self.message)?;
        // Older versions of Windows remove a file only when its last handle is closed, and it would still be counted.
        self.message.file = None;
        let (queue, pulled, caller) = self.names();
        let shared = &self.recipient.shared;
        shared.metrics.spool.delivered.inc();
        let is_redelivery = self.is_redelivery;
        tracing::debug!(%queue, %pulled, caller, is_redelivery, "pulled message delivered");
        self.recipient.delivered(queue, pulled);
        Ok(())
    }

    fn record_failed(&self) -> io::Result<()> {
        let (queue, pulled, caller) = self.names();
        let shared = &self.recipient.shared;
        let failures = shared.store.fail(&self.message)?;
        if failures >= FAILING {
            let _ = shared.count();
        }
        let pause_s = self
            .recipient
            .failed(Some(pulled))
            .map(|pause| pause.as_secs_f32());
        let instead_of = self.recipient.suspect.map(tracing::field::display);
        tracing::warn!(
            %queue, %pulled, caller, failures, pause_s, instead_of, "delivery failed, message will be redelivered"
        );
        Ok(())
    }

    fn report_unrecorded(&self, error: &io::Error) {
        let (queue, pulled, caller) = self.names();
        // Without a pause, the same message would be delivered again and again.
        self.recipient
            .queue
            .failed_deliveries
            .failed(&self.recipient.caller, Some(pulled));
        tracing::error!(
            problem = self.recipient.shared.disk_failed(error).code(),
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
