//! A message on its way to a caller, and what becomes of it.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Shared;
use super::file::{Held, State};
use super::lease::Lease;
use super::memory::Message;
use super::queue::Queue;
use super::record::{Head, Intent, Stamp};
use super::writer::off_thread;

/// A message that is with one caller's connection and nobody else's. Dropped without a word, it goes
/// back: as if never taken, or, where [`begin`](Self::begin) was called, after a failed delivery.
pub struct Claim {
    shared: Arc<Shared>,
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

impl Claim {
    pub(super) fn new(shared: &Arc<Shared>, queue: &Queue, content: Content, is_redelivery: bool) -> Self {
        let (intent, head) = match &content {
            Content::File(held) => (&held.record.intent, &held.record.head),
            Content::Memory(message) => (&message.intent, &message.head),
        };
        Self {
            lease: queue.lease(intent.pulled),
            intent: intent.clone(),
            head: head.clone(),
            shared: shared.clone(),
            content: Arc::new(Mutex::new(Some(content))),
            is_redelivery,
            verdict: Verdict::Untouched,
        }
    }

    /// The answer's head, without its length.
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

    /// The caller has it, as far as can be told before its next word.
    pub fn provisional(&self) {
        let content = self.content.clone();
        self.shared.in_background(async move {
            let noted = off_thread(move || match &mut *lock(&content) {
                Some(Content::File(held)) => held.sent(),
                _ => Ok(()),
            });
            if let Err(error) = noted.await.flatten() {
                tracing::warn!(%error, "a delivery cannot be noted in the spool's directory");
            }
        });
    }

    /// The caller has it.
    pub fn delivered(mut self) {
        self.verdict = Verdict::Delivered;
    }
}

/// What was heard of it is noted.
impl Drop for Claim {
    fn drop(&mut self) {
        self.lease.with_caller(false);
        let (shared, lease, intent) = (self.shared.clone(), self.lease.clone(), self.intent.clone());
        let (content, verdict, is_redelivery) = (self.content.clone(), self.verdict, self.is_redelivery);
        self.shared.in_background(async move {
            let numbers = &shared.metrics.spool;
            let ending = shared.clone();
            let state = off_thread(move || match lock(&content).take() {
                Some(content) => content.end(verdict, &ending),
                None => Ok(State::Held),
            });
            let state = state.await.flatten();
            // Only now may the queue go on: the message is where the next pull looks for it.
            lease.end();
            let (queue, pulled) = (&intent.key, intent.pulled);
            match state {
                Ok(State::Delivered) => {
                    numbers.delivered.inc();
                    shared.changed.notify_one();
                    tracing::debug!(%queue, %pulled, is_redelivery, "a pulled message was delivered");
                }
                Ok(State::Aside) => {
                    numbers.set_aside.inc();
                    tracing::error!(
                        %queue,
                        %pulled,
                        "a pulled message failed to reach its caller too often and is set aside: `bondgate spool list` \
                         names it, `show` prints it"
                    );
                }
                Ok(_) if verdict == Verdict::Failed => {
                    numbers.failed_deliveries.inc();
                    tracing::warn!(
                        %queue,
                        %pulled,
                        "a pulled message did not reach its caller; the next pull gets it"
                    );
                }
                Ok(_) => tracing::info!(
                    %queue,
                    %pulled,
                    "the caller of a pulled message had left; the next pull gets it"
                ),
                Err(error) => tracing::error!(
                    %queue,
                    %pulled,
                    %error,
                    "what became of a pulled message cannot be noted; it may be delivered again"
                ),
            }
        });
    }
}

impl Content {
    fn end(self, verdict: Verdict, shared: &Shared) -> io::Result<State> {
        match (self, verdict) {
            (Self::File(_), Verdict::Untouched) => Ok(State::Held),
            (Self::File(mut held), Verdict::Failed) => held.fail(),
            (Self::File(held), Verdict::Delivered) => {
                held.delivered(!shared.keep.is_zero()).map(|()| State::Delivered)
            }
            (Self::Memory(message), Verdict::Delivered) => {
                shared.memory.delivered(&message);
                Ok(State::Delivered)
            }
            (Self::Memory(message), _) => Ok(shared.memory.release(&message, verdict == Verdict::Failed)),
        }
    }
}

fn lock(content: &Mutex<Option<Content>>) -> std::sync::MutexGuard<'_, Option<Content>> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
