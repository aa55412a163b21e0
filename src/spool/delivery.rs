//! The delivery of a message to one caller, and its outcome.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::response::Parts;

use super::blocking::off_thread;
use super::file::MessageBody;
use super::holding::FAILING;
use super::id::{MessageId, QueueId};
use super::lease::Leased;
use super::message::Message;
use super::queue::Recipient;
use super::shared::{Spool, at_fault};

/// A message on its way to one caller. Dropped before [`record`](Self::record), the message is back in its queue as if it
/// had never been taken.
pub struct Delivery {
    spool: Spool,
    recipient: Recipient,
    message: Arc<Message>,
    is_redelivery: bool,
    is_recorded: bool,
    /// Dropped last, when the message's file is unlocked.
    lease: Leased,
}

impl Delivery {
    pub(super) fn new(
        spool: Spool,
        recipient: Recipient,
        message: Arc<Message>,
        is_redelivery: bool,
    ) -> Self {
        if is_redelivery {
            spool.shared.metrics.spool.redeliveries.inc();
        }
        Self {
            lease: recipient.queue.lease(message.id()),
            spool,
            recipient,
            message,
            is_redelivery,
            is_recorded: false,
        }
    }

    /// The response's head.
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.message.head
    }

    /// When the message was pulled, if that was for an earlier request.
    #[must_use]
    pub fn redelivered(&self) -> Option<MessageId> {
        self.is_redelivery.then_some(self.message.id())
    }

    /// The body, from its start.
    pub fn body(&self) -> io::Result<MessageBody> {
        self.message.body()
    }

    /// The message is on its connection from now on.
    pub fn begin(&self) {
        self.lease.set_on_connection(true);
    }

    /// Ready when the spool asks whether the caller is still connected.
    pub fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.lease.poll_asked(cx)
    }

    /// Confirms that the caller is connected.
    pub fn confirm(&mut self) {
        self.lease.confirm();
    }

    /// Records how the delivery ended. The queue goes on when this is done, and the message is where the next pull looks
    /// for it.
    pub async fn record(mut self, is_delivered: bool) {
        self.is_recorded = true;
        self.lease.set_on_connection(false);
        let (spool, recipient, message) = (self.spool.clone(), self.recipient.clone(), self.message.clone());
        let reported = if is_delivered {
            let recorded = off_thread(move || record_delivered(&spool, &recipient, &message));
            recorded
                .await
                .map(|dead_letter| self.report_delivered(dead_letter))
        } else {
            let recorded = off_thread(move || record_failed(&spool, &message));
            recorded.await.map(|failures| self.report_failed(failures))
        };
        if let Err(error) = reported {
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

    fn names(&self) -> (&QueueId, MessageId, &str) {
        (
            &self.message.intent.queue,
            self.message.id(),
            &self.recipient.caller,
        )
    }

    fn report_delivered(&self, dead_letter: Option<String>) {
        let (queue, pulled, caller) = self.names();
        let (pauses, metrics) = (&self.recipient.queue.pauses, &self.spool.shared.metrics.spool);
        pauses.delivered(caller, pulled);
        metrics.delivered.inc();
        let is_redelivery = self.is_redelivery;
        tracing::debug!(%queue, %pulled, caller, is_redelivery, "pulled message delivered");
        if let (Some(name), Some(suspect)) = (dead_letter, self.recipient.suspect) {
            pauses.forget(suspect);
            metrics.set_aside.inc();
            let advice = if name.is_empty() {
                "it is lost when bondgate ends; set spool.directory".to_owned()
            } else {
                format!(
                    "to print it, run `bondgate spool show {name}`; to deliver it again, `bondgate spool requeue {name}`"
                )
            };
            tracing::error!(
                %queue,
                pulled = %suspect,
                caller,
                "message set aside as a dead letter: its deliveries failed, and the next message was delivered; {advice}"
            );
        }
    }

    fn report_failed(&self, failures: u32) {
        let (queue, pulled, caller) = self.names();
        let faults = &self.recipient.queue.pauses;
        self.spool.shared.metrics.spool.failed_deliveries.inc();
        let (pause, is_new_fault) = match self.recipient.suspect {
            None => (Some(faults.failed(&self.recipient.caller, pulled)), false),
            Some(suspect) => (None, faults.next_failed(&self.recipient.caller, suspect)),
        };
        let pause_s = pause.as_ref().map(Duration::as_secs_f32);
        let instead_of = self.recipient.suspect.map(tracing::field::display);
        tracing::warn!(
            %queue, %pulled, caller, failures, pause_s, instead_of, "delivery failed, message will be redelivered"
        );
        if is_new_fault {
            tracing::error!(%queue, caller, "{}", at_fault(caller));
        }
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

fn record_delivered(spool: &Spool, recipient: &Recipient, message: &Message) -> io::Result<Option<String>> {
    let shared = &spool.shared;
    shared.store.deliver(message)?;
    let queue = &message.intent.queue;
    let in_progress = recipient.queue.in_progress();
    let suspect = recipient.suspect.filter(|suspect| !in_progress.contains(suspect));
    let dead_letter = suspect.map_or(Ok(None), |id| shared.store.make_dead_letter(queue, id));
    let dead_letter = dead_letter.unwrap_or_else(|error| {
        tracing::error!(
            %queue,
            pulled = recipient.suspect.map(tracing::field::display),
            %error,
            "message cannot be made a dead letter and stays in the queue; check the spool's disk"
        );
        None
    });
    if shared.failing() > 0 {
        let _ = shared.count();
    }
    Ok(dead_letter)
}

fn record_failed(spool: &Spool, message: &Message) -> io::Result<u32> {
    let failures = message.count_failure()?;
    if failures >= FAILING {
        let _ = spool.shared.count();
    }
    Ok(failures)
}
