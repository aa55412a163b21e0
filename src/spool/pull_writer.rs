//! Stores the response to a pull, before its caller gets any of it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};

use super::blocking::off_thread;
use super::delivery::Delivery;
use super::directory::QueueLock;
use super::file::{LockedFile, MessageBody};
use super::format::{self, Body, Intent, Parsed, SMALL};
use super::message::{Message, report_lost};
use super::queue::Recipient;
use super::shared::Spool;
use super::store::Store;

/// A pull in progress, which holds its queue's locks. Dropped without an outcome, its message is reported as lost.
pub struct PullWriter {
    spool: Spool,
    recipient: Recipient,
    intent: Intent,
    head: Option<Parts>,
    /// Taken while another thread writes.
    partial: Option<Box<Partial>>,
    /// Why the message is lost if this is dropped; `None` after an outcome.
    if_dropped: Option<&'static str>,
    _locks: Locks,
}

/// The locks of a queue: within this process, and among processes.
pub(super) type Locks = (OwnedMutexGuard<()>, QueueLock);

/// A response that is coming in. A write that fails changes nothing here, and can be repeated.
struct Partial {
    /// Its file; none in memory.
    file: Option<LockedFile>,
    /// The digest and the number of the bytes in the file.
    digest: Sha256,
    written: u64,
    /// Where the body begins.
    offset: u64,
    /// What follows.
    pending: Vec<u8>,
    /// The share of `spool.memory`.
    share: Option<OwnedSemaphorePermit>,
}

/// Why a response cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is larger than `spool.bytes`, and may have no end.
    #[error("the response is larger than spool.bytes")]
    Endless,
    /// It is larger than the free part of `spool.memory`.
    #[error("the response is larger than the free part of spool.memory")]
    OutOfMemory,
    /// Its file cannot be written.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl PullWriter {
    pub(super) fn new(
        spool: Spool,
        recipient: Recipient,
        intent: Intent,
        file: Option<LockedFile>,
        locks: Locks,
    ) -> Self {
        Self {
            spool,
            recipient,
            partial: Some(Box::new(Partial::new(file, &intent))),
            intent,
            head: None,
            if_dropped: Some("bondgate ended before the response was stored"),
            _locks: locks,
        }
    }

    /// Sets the response's head, as the caller gets it; before the body.
    pub fn head(&mut self, head: Parts) {
        if let Some(partial) = self.partial.as_mut().filter(|partial| partial.file.is_some()) {
            partial.pending = format::head_line(&head);
            partial.offset = partial.length();
        }
        self.head = Some(head);
    }

    /// Writes a piece of the body.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), WriteError> {
        let partial = self.partial.as_mut().ok_or_else(taken)?;
        partial.pending.extend_from_slice(piece);
        match &self.spool.shared.store {
            Store::Memory(memory) => {
                let share = memory.share(piece.len()).ok_or(WriteError::OutOfMemory)?;
                match &mut partial.share {
                    Some(all) => all.merge(share),
                    none => *none = Some(share),
                }
            }
            Store::Directory(_) if partial.length() > self.spool.shared.config.bytes => {
                return Err(WriteError::Endless);
            }
            Store::Directory(_) if partial.pending.len() as u64 >= SMALL => {
                self.write_out(Partial::flush).await?;
            }
            Store::Directory(_) => {}
        }
        Ok(())
    }

    /// The body so far, if it is small.
    #[must_use]
    pub fn small_body(&self) -> Option<&[u8]> {
        self.partial.as_ref()?.small_body()
    }

    /// Makes a message of the response. No crash loses it from when this returns.
    pub async fn finish(&mut self) -> Result<Delivery, WriteError> {
        let head = self.head.clone().ok_or_else(taken)?;
        if let Store::Directory(_) = self.spool.shared.store {
            self.write_out(Partial::finish).await?;
        }
        let partial = self.partial.take().ok_or_else(taken)?;
        let message = Arc::new(partial.into_message(self.intent.clone(), head));
        let shared = &self.spool.shared;
        if let Store::Memory(memory) = &shared.store {
            memory.insert(message.clone());
        }
        shared.add_to_count(message.body.length);
        shared.metrics.spool.pulled.inc();
        self.if_dropped = None;
        let (spool, recipient) = (self.spool.clone(), self.recipient.clone());
        Ok(Delivery::new(spool, recipient, message, false))
    }

    /// Writes to the file, and once more if the disk was full and space could be freed.
    async fn write_out(&mut self, write: fn(&mut Partial) -> io::Result<()>) -> io::Result<()> {
        let mut partial = self.partial.take().ok_or_else(taken)?;
        let shared = self.spool.shared.clone();
        let done = off_thread(move || {
            let written = match &shared.store {
                Store::Directory(directory) => directory.with_space(|| write(&mut partial)),
                Store::Memory(_) => Ok(()),
            };
            Ok((written, partial))
        });
        let (written, partial) = done.await?;
        self.partial = Some(partial);
        written
    }

    /// Forgets the pull: the queue is empty.
    pub async fn queue_is_empty(self) {
        if let Some(suspect) = self.recipient.suspect {
            let Recipient { queue, caller, .. } = &self.recipient;
            queue.pauses.no_next(caller, suspect);
        }
        self.discard().await;
    }

    /// Forgets the pull: it brought no message.
    pub async fn discard(mut self) {
        self.end(LockedFile::remove).await;
    }

    /// Reports that the pull may have taken a message off its queue that did not come whole.
    pub async fn lose(mut self, reason: &str) {
        self.report_lost(reason);
        self.end(LockedFile::lose).await;
    }

    /// Gives up storing the response, which goes to its caller alone. Returns its body so far.
    ///
    /// The message is reported as lost unless [`passed_through`](Self::passed_through) follows.
    pub fn pass_through(&mut self, error: &WriteError) -> io::Result<MessageBody> {
        let begun = self.partial.as_mut().ok_or_else(taken)?.take_body()?;
        self.if_dropped = Some("it could not be stored, and its caller disconnected before its end");
        let shared = &self.spool.shared;
        shared.metrics.spool.passed_through.inc();
        if let WriteError::Disk(error) = error {
            shared.report_disk(Some(error));
        }
        tracing::error!(
            queue = %self.intent.queue,
            pulled = %self.intent.id,
            caller = &*self.recipient.caller,
            %error,
            "pulled message cannot be stored and is passed through: it is lost if its caller disconnects"
        );
        Ok(begun)
    }

    /// Forgets the message: all of it was passed through.
    pub fn passed_through(self) {
        let shared = self.spool.shared.clone();
        shared.in_background(self.discard());
    }

    fn report_lost(&self, reason: &str) {
        report_lost(
            &self.spool.shared.metrics,
            self.intent.id,
            Some(&self.intent),
            reason,
        );
    }

    async fn end(&mut self, end: fn(&LockedFile) -> io::Result<()>) {
        self.if_dropped = None;
        if let Some(file) = self.partial.take().and_then(|partial| partial.file) {
            report_end(off_thread(move || end(&file)).await);
        }
    }
}

impl Drop for PullWriter {
    fn drop(&mut self) {
        let Some(reason) = self.if_dropped else { return };
        self.report_lost(reason);
        if let Some(file) = self.partial.take().and_then(|partial| partial.file) {
            report_end(file.lose());
        }
    }
}

/// Another thread had the response, and did not give it back.
fn taken() -> io::Error {
    io::Error::other("the response is no longer at hand")
}

fn report_end(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "outcome of a pull cannot be written to the spool's directory");
    }
}

impl Partial {
    fn new(file: Option<LockedFile>, intent: &Intent) -> Self {
        let line = file.as_ref().map(|_| intent.line()).unwrap_or_default();
        let length = line.len() as u64;
        Self {
            file,
            digest: Sha256::new_with_prefix(&line),
            written: length,
            offset: length,
            pending: Vec::new(),
            share: None,
        }
    }

    fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn small_body(&self) -> Option<&[u8]> {
        let begin = self.offset.checked_sub(self.written)?;
        self.pending.get(usize::try_from(begin).ok()?..)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_at(&self.pending, self.written)?;
            self.digest.update(&self.pending);
            self.written = self.length();
            self.pending.clear();
        }
        Ok(())
    }

    /// Completes the file. A crash that forgets its new name leaves a pull that is whole, and is recovered.
    fn finish(&mut self) -> io::Result<()> {
        let end = self.length();
        if let Some(file) = &mut self.file {
            let trailer = format::trailer(self.digest.clone().chain_update(&self.pending));
            file.file.set_len(end + trailer.len() as u64)?;
            file.write_at(&self.pending, self.written)?;
            file.write_at(&trailer, end)?;
            file.file.sync_all()?;
            file.make_ready()?;
        }
        Ok(())
    }

    fn into_message(self, intent: Intent, head: Parts) -> Message {
        let body = Body {
            offset: self.offset,
            length: self.length() - self.offset,
            small: self.small_body().map(Bytes::copy_from_slice),
        };
        Message::new(Parsed { intent, head, body }, self.file, self.share)
    }

    /// The body so far.
    fn take_body(&mut self) -> io::Result<MessageBody> {
        let mut pending = Bytes::from(std::mem::take(&mut self.pending));
        match &self.file {
            Some(file) if self.written > self.offset => {
                file.body(self.offset, self.written - self.offset, pending)
            }
            _ => {
                let head = usize::try_from(self.offset - self.written).unwrap_or_default();
                Ok(pending.split_off(head.min(pending.len())).into())
            }
        }
    }
}
