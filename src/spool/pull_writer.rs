//! Stores the response to a pull, before its caller gets any of it.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::{Buf as _, Bytes, BytesMut};
use http::response::Parts;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};

use super::blocking::off_thread;
use super::caller_outcomes::Recipient;
use super::delivery::Delivery;
use super::folders::QueueLock;
use super::format::{self, Content, Intent, SMALL};
use super::lost_message::report_lost;
use super::memory::with_share;
use super::message_file::{LockedFile, MessageBody, MessageState};

/// A pull in progress, which holds its queue's locks until its response is stored or begins to pass through. Dropped
/// without an outcome, its message is reported as lost.
pub struct PullWriter {
    pub(super) recipient: Recipient,
    pub(super) intent: Intent,
    /// Its file; none in memory, and while another thread works on it.
    file: Option<LockedFile>,
    /// The digest and the number of the bytes in the file.
    digest: Sha256,
    written: u64,
    /// Where the body begins.
    offset: u64,
    /// What follows the written bytes. In memory, the whole body.
    pending: BytesMut,
    /// The share of `spool.memory`.
    share: Option<OwnedSemaphorePermit>,
    /// The file may be whole, even if its last sync or rename failed.
    may_be_whole: bool,
    /// Why the message is lost if this is dropped; `None` after an outcome.
    if_dropped: Option<&'static str>,
    /// Why the body of a response that is passed through broke off.
    pub(super) broken_off: Arc<OnceLock<String>>,
    pub(super) locks: Option<Locks>,
}

/// The locks of a queue: within this process, and among processes.
pub(super) type Locks = (OwnedMutexGuard<()>, QueueLock);

/// Why a response cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is not whole, for this reason.
    #[error("{0}")]
    Incomplete(String),
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
    /// Writes down that a pull is about to be sent.
    pub(super) fn begin(recipient: Recipient, intent: Intent, locks: Locks) -> io::Result<Self> {
        let file = recipient.shared.store.begin(&intent)?;
        let line = file.as_ref().map(|_| intent.line()).unwrap_or_default();
        let length = line.len() as u64;
        Ok(Self {
            recipient,
            intent,
            file,
            digest: Sha256::new_with_prefix(&line),
            written: length,
            offset: length,
            pending: BytesMut::new(),
            share: None,
            may_be_whole: false,
            if_dropped: Some("the pull ended before its response was stored"),
            broken_off: Arc::default(),
            locks: Some(locks),
        })
    }

    /// Writes the response's head, as the caller gets it; before the body.
    pub fn head(&mut self, head: &Parts) {
        if self.file.is_some() {
            self.pending.extend_from_slice(&format::head_line(head));
            self.offset = self.length();
        }
    }

    /// Writes a piece of the body.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), WriteError> {
        self.pending.extend_from_slice(piece);
        let shared = &self.recipient.shared;
        if let Some(memory) = &shared.store.memory {
            let share = memory.share(piece.len()).ok_or(WriteError::OutOfMemory)?;
            match &mut self.share {
                Some(all) => all.merge(share),
                none => *none = Some(share),
            }
        } else if self.length() > shared.config.bytes {
            return Err(WriteError::Endless);
        } else if self.pending.len() as u64 >= SMALL {
            self.flush().await?;
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// The body so far, if it is small.
    #[must_use]
    pub fn small_body(&self) -> Option<&[u8]> {
        let start = self.offset.checked_sub(self.written)?;
        self.pending.get(usize::try_from(start).ok()?..)
    }

    /// Makes a message of the response. No crash loses it from when this returns.
    pub async fn finish(&mut self, head: Parts) -> Result<Delivery, WriteError> {
        self.complete().await?;
        let content = Content {
            intent: self.intent.clone(),
            head,
            offset: self.offset,
            length: self.length() - self.offset,
            small: self.small_body().map(Bytes::copy_from_slice),
            _share: self.share.take(),
        };
        let shared = &self.recipient.shared;
        shared.add_to_count(content.length);
        shared.metrics.spool.pulled.inc();
        self.if_dropped = None;
        let message = shared.store.add(content, self.file.take());
        Ok(Delivery::new(self.recipient.clone(), message, false))
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (at, digest) = (self.written, self.digest.clone());
        let write = move |file: &LockedFile, pending: &[u8]| {
            file.write_at(pending, at)?;
            Ok(digest.clone().chain_update(pending))
        };
        if let Some(digest) = self.with_file(write).await? {
            self.digest = digest;
            self.written = self.length();
            self.pending.clear();
        }
        Ok(())
    }

    /// Completes the file. A crash that forgets its new name leaves a pull that is whole, and is recovered.
    async fn complete(&mut self) -> io::Result<()> {
        self.may_be_whole = true;
        let (at, digest) = (self.written, self.digest.clone());
        let write = move |file: &LockedFile, pending: &[u8]| {
            let trailer = format::trailer(digest.clone().chain_update(pending));
            let end = at + pending.len() as u64;
            file.file.set_len(end + trailer.len() as u64)?;
            file.write_at(pending, at)?;
            file.write_at(&trailer, end)?;
            file.file.sync_all()?;
            file.set_state(MessageState::Ready)
        };
        if let Some(file) = self.with_file(write).await? {
            self.file = Some(file);
        }
        Ok(())
    }

    /// Writes what is pending to the file, and once more if the disk was full and space could be freed. Does nothing in
    /// memory. Whatever fails or panics, the file and what is pending remain. Dropped meanwhile, it leaves the file to the
    /// thread that writes.
    pub(super) async fn with_file<T: Send + 'static>(
        &mut self,
        write: impl Fn(&LockedFile, &[u8]) -> io::Result<T> + Send + 'static,
    ) -> io::Result<Option<T>> {
        let Some(file) = self.file.take() else {
            return Ok(None);
        };
        let (shared, writing) = (self.recipient.shared.clone(), file.clone());
        let pending = self.pending.split().freeze();
        let bytes = pending.clone();
        let written = off_thread(move || shared.store.with_space(|| write(&writing, &bytes))).await;
        self.pending = pending.into();
        self.file = Some(file);
        written.map(Some)
    }

    /// Forgets the pull: the queue is empty.
    pub async fn queue_is_empty(self) {
        if let Some(suspect) = self.recipient.suspect {
            let Recipient { queue, caller, .. } = &self.recipient;
            queue.failed_deliveries.no_next(caller, suspect);
        }
        self.discard().await;
    }

    /// Forgets the pull: it brought no message.
    pub async fn discard(mut self) {
        self.end(LockedFile::remove).await;
    }

    /// Reports that the pull may have taken a message off its queue that did not come whole.
    pub async fn lose(self, reason: &str) {
        self.lose_unless_whole(reason).await;
    }

    /// Returns whether the message is lost. A file that is whole is left to its recovery.
    pub(super) async fn lose_unless_whole(mut self, reason: &str) -> bool {
        let file = self.file.clone().filter(|_| self.may_be_whole);
        let is_whole = off_thread(move || Ok(file.is_some_and(|file| file.is_whole()))).await;
        if is_whole.unwrap_or_default() {
            self.if_dropped = None;
            return false;
        }
        self.report_lost(reason);
        self.end(LockedFile::lose).await;
        true
    }

    /// Gives up storing the response. Returns its body so far.
    pub(super) fn give_up(&mut self) -> io::Result<MessageBody> {
        let mut rest = with_share(self.pending.split().freeze(), self.share.take());
        let begun = match (&self.file, self.offset.checked_sub(self.written)) {
            (_, Some(head)) => {
                rest.advance(usize::try_from(head).unwrap_or_default());
                MessageBody { file: None, rest }
            }
            (Some(file), None) => file.body(self.offset, self.written - self.offset, rest)?,
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        self.if_dropped = Some("it could not be stored, and its caller disconnected before it had all of it");
        Ok(begun)
    }

    /// Why the message is lost if this is dropped.
    pub(super) fn reason(&self) -> Option<&str> {
        let reason = self.if_dropped?;
        Some(self.broken_off.get().map_or(reason, String::as_str))
    }

    fn report_lost(&self, reason: &str) {
        let Intent { id, .. } = self.intent;
        report_lost(&self.recipient.shared.metrics, id, Some(&self.intent), reason);
    }

    async fn end(&mut self, end: fn(&LockedFile) -> io::Result<()>) {
        self.if_dropped = None;
        if let Some(file) = self.file.take() {
            report_end(off_thread(move || end(&file)).await);
        }
    }
}

impl Drop for PullWriter {
    fn drop(&mut self) {
        let Some(reason) = self.reason() else { return };
        match &self.file {
            // Its recovery finds the message.
            Some(file) if self.may_be_whole && file.is_whole() => return,
            // A thread still writes it. Its recovery finds a message, or reports that it is lost.
            None if !self.recipient.shared.store.is_in_memory() => return,
            _ => {}
        }
        self.report_lost(reason);
        if let Some(file) = &self.file {
            report_end(file.lose());
        }
    }
}

fn report_end(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "outcome of a pull cannot be written to the spool's directory");
    }
}
