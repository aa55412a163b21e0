//! A message on its way to a caller, and the outcome of its delivery.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Shared;
use super::file::Held;
use super::lease::Lease;
use super::memory::Message;
use super::queue::Recipient;
use super::record::{Head, Intent, Stamp};
use super::writer::off_thread;

/// A message that is with one caller's connection and nobody else's. Dropped before [`delivered`](Self::delivered), it
/// goes back into the queue: as if never taken, or, where [`begin`](Self::begin) was called, after a failed delivery.
pub struct Claim {
    shared: Arc<Shared>,
    recipient: Recipient,
    lease: Arc<Lease>,
    head: Head,
    intent: Intent,
    content: Arc<Mutex<Option<Content>>>,
    is_redelivery: bool,
    verdict: Verdict,
}

/// Where a message is.
pub(super) enum Content {
    File(Box<Held>),
    Memory(Arc<Message>),
}

/// The body of a message.
#[derive(Debug)]
pub enum MessageBody {
    /// All of it.
    Whole(Bytes),
    /// A part of a file, of which nobody else uses the cursor.
    File {
        /// The file.
        file: File,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

/// What is known at the end of a message's time with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Untouched,
    Failed,
    Delivered,
}

/// What became of a message, once that is noted where the message is.
enum Outcome {
    Untouched,
    /// After so many failed deliveries in all.
    Failed(u32),
    /// With the dead letter that this delivery makes of the message before it.
    Delivered(Option<DeadLetter>),
}

/// Where a message is that became a dead letter.
pub(super) enum DeadLetter {
    /// In the directory, by this name.
    File(String),
    /// In memory, where no command reaches it.
    Memory,
}

impl Claim {
    pub(super) fn new(
        shared: &Arc<Shared>,
        recipient: Recipient,
        content: Content,
        is_redelivery: bool,
    ) -> Self {
        let (intent, head) = match &content {
            Content::File(held) => (&held.record.intent, &held.record.head),
            Content::Memory(message) => (&message.intent, &message.head),
        };
        Self {
            lease: recipient.queue.lease(intent.pulled),
            intent: intent.clone(),
            head: head.clone(),
            shared: shared.clone(),
            recipient,
            content: Arc::new(Mutex::new(Some(content))),
            is_redelivery,
            verdict: Verdict::Untouched,
        }
    }

    /// The response's head, without its length.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// When it was first pulled, where it was not pulled for this very request.
    #[must_use]
    pub fn redelivered(&self) -> Option<Stamp> {
        self.is_redelivery.then_some(self.intent.pulled)
    }

    /// The body, from its start.
    pub fn body(&self) -> io::Result<MessageBody> {
        Ok(match &*lock(&self.content) {
            Some(Content::File(held)) => match &held.record.body {
                Some(body) => MessageBody::Whole(body.clone()),
                None => MessageBody::File {
                    file: held.file.try_clone()?,
                    offset: held.record.offset,
                    length: held.record.length,
                },
            },
            Some(Content::Memory(message)) => MessageBody::Whole(message.body.clone()),
            None => MessageBody::Whole(Bytes::new()),
        })
    }

    /// From now on the caller may have some of it.
    pub fn begin(&mut self) {
        self.verdict = Verdict::Failed;
        self.lease.with_caller(true);
    }

    /// Ready when somebody asks whether the caller is still there.
    pub fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lease.poll_asked(cx)
    }

    /// The caller is still there.
    pub fn is_there(&self) {
        self.lease.answer();
    }

    /// The caller has it.
    pub fn delivered(mut self) {
        self.verdict = Verdict::Delivered;
    }
}

/// The outcome is noted, in a task of its own.
impl Drop for Claim {
    fn drop(&mut self) {
        self.lease.with_caller(false);
        let shared = self.shared.clone();
        let end = End {
            recipient: self.recipient.clone(),
            intent: self.intent.clone(),
            is_redelivery: self.is_redelivery,
        };
        let (lease, content, verdict) = (self.lease.clone(), self.content.clone(), self.verdict);
        self.shared.in_background(async move {
            let (ending, suspect) = (shared.clone(), end.suspect());
            let outcome = off_thread(move || match lock(&content).take() {
                Some(content) => content.end(verdict, suspect, &ending),
                None => Ok(Outcome::Untouched),
            });
            let outcome = outcome.await.flatten();
            end.note(&shared, outcome);
            // Only now may the queue go on: the message is where the next pull looks for it.
            lease.end();
        });
    }
}

/// What is needed to note the end of a claim.
struct End {
    recipient: Recipient,
    intent: Intent,
    is_redelivery: bool,
}

impl End {
    /// The older message that the recipient failed to take, where this one was to show which of the two is at fault.
    fn suspect(&self) -> Option<Intent> {
        Some(Intent {
            pulled: self.recipient.suspect?,
            ..self.intent.clone()
        })
    }

    fn note(&self, shared: &Shared, outcome: io::Result<Outcome>) {
        let numbers = &shared.metrics.spool;
        let (queue, pulled, caller) = (&self.intent.key, self.intent.pulled, &self.recipient.caller);
        match outcome {
            Ok(Outcome::Delivered(dead_letter)) => {
                self.recipient.queue.pauses.delivered(caller, pulled);
                numbers.delivered.inc();
                shared.changed.notify_one();
                let is_redelivery = self.is_redelivery;
                tracing::debug!(%queue, %pulled, %caller, is_redelivery, "pulled message delivered");
                let (Some(dead_letter), Some(suspect)) = (dead_letter, self.recipient.suspect) else {
                    return;
                };
                self.recipient.queue.pauses.forget(suspect);
                numbers.set_aside.inc();
                let what_to_do = match dead_letter {
                    DeadLetter::File(name) => format!(
                        "to print it, run `bondgate spool show {name}`; to deliver it again, `bondgate spool requeue {name}`"
                    ),
                    DeadLetter::Memory => "it is lost when bondgate ends; set spool.directory".to_owned(),
                };
                tracing::error!(
                    %queue,
                    pulled = %suspect,
                    %caller,
                    "message set aside as a dead letter: its deliveries failed, and the next message was delivered; \
                     {what_to_do}"
                );
            }
            Ok(Outcome::Failed(failures)) => {
                numbers.failed_deliveries.inc();
                let callers = &self.recipient.queue.pauses;
                match self.recipient.suspect {
                    None => {
                        let pause_s = callers.failed(caller, pulled).as_secs_f32();
                        tracing::warn!(
                            %queue,
                            %pulled,
                            %caller,
                            failures,
                            pause_s,
                            "delivery failed, message will be redelivered"
                        );
                    }
                    Some(suspect) => {
                        let is_new = callers.next_failed(caller, suspect);
                        tracing::warn!(
                            %queue,
                            %pulled,
                            %caller,
                            failures,
                            "delivery of the next message failed too, both messages will be redelivered"
                        );
                        if is_new {
                            tracing::error!(%queue, %caller, "{}", super::at_fault(caller));
                        }
                    }
                }
            }
            Ok(Outcome::Untouched) => tracing::info!(
                %queue,
                %pulled,
                %caller,
                "caller disconnected before its message arrived, message will be redelivered"
            ),
            Err(error) => {
                // Else the same message would be delivered again and again, without a pause.
                self.recipient.queue.pauses.failed(caller, pulled);
                tracing::error!(
                    %queue,
                    %pulled,
                    %caller,
                    %error,
                    "outcome of a delivery cannot be written to the spool's directory, the message may be delivered again; \
                     make the directory writable"
                );
            }
        }
    }
}

impl Content {
    /// When it was pulled, and how many of its deliveries failed.
    pub(super) fn state(&self, shared: &Shared) -> (Stamp, u32) {
        match self {
            Self::File(held) => (held.name.stamp, held.name.attempts),
            Self::Memory(message) => (message.intent.pulled, shared.memory.attempts(message)),
        }
    }

    /// Puts it back as if it had never been taken.
    pub(super) fn release(self, shared: &Shared) {
        if let Self::Memory(message) = self {
            shared.memory.release(&message, false);
        }
    }

    fn end(self, verdict: Verdict, suspect: Option<Intent>, shared: &Shared) -> io::Result<Outcome> {
        match (self, verdict) {
            (content, Verdict::Untouched) => {
                content.release(shared);
                Ok(Outcome::Untouched)
            }
            (content, Verdict::Failed) => {
                let failures = match content {
                    Self::File(held) => held.fail()?,
                    Self::Memory(message) => shared.memory.release(&message, true),
                };
                shared.count_failing(Some(failures));
                Ok(Outcome::Failed(failures))
            }
            (content, Verdict::Delivered) => {
                match content {
                    Self::File(held) => shared.note_delivered(&held)?,
                    Self::Memory(message) => shared.memory.delivered(&message),
                }
                let dead_letter = suspect.and_then(|suspect| shared.set_aside(&suspect));
                shared.count_failing(None);
                Ok(Outcome::Delivered(dead_letter))
            }
        }
    }
}

fn lock(content: &Mutex<Option<Content>>) -> std::sync::MutexGuard<'_, Option<Content>> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
