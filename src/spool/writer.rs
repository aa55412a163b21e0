//! Writes a message's file off the thread of its pull, in large pieces.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::file::{Draft, Held};
use super::record::{self, Head, Intent, Record, SMALL};

/// The file of a message that is coming in.
pub(super) struct Writer {
    draft: Draft,
    digest: Sha256,
    intent_length: u64,
    /// Where the body begins.
    offset: u64,
    /// What is in the file, from its start.
    written: u64,
    /// What is to follow.
    pending: Vec<u8>,
}

/// Why a disk has not taken a message, and, but for the end of the process, what is needed to hold it
/// elsewhere.
pub(super) struct Unwritten {
    pub(super) writer: Option<Box<Writer>>,
    pub(super) error: io::Error,
}

impl Writer {
    pub(super) fn new(draft: Draft, intent: &Intent) -> Self {
        let line = intent.line();
        let length = line.len() as u64;
        let mut digest = Sha256::new();
        digest.update(&line);
        Self {
            draft,
            digest,
            intent_length: length,
            offset: length,
            written: length,
            pending: Vec::new(),
        }
    }

    /// Notes the answer's head; before any of the body.
    pub(super) fn head(&mut self, head: &Head) {
        self.pending = head.line();
        self.offset = self.written + self.pending.len() as u64;
    }

    /// Takes a piece of the body. Where this fails, nothing of it is forgotten.
    pub(super) async fn write(&mut self, piece: &Bytes) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        if (self.pending.len() as u64) < SMALL {
            return Ok(());
        }
        let (file, at) = (self.draft.file(), self.written);
        let pending = std::mem::take(&mut self.pending);
        let (written, pending) = off_thread(move || (file.write_all_at(&pending, at), pending)).await?;
        self.pending = pending;
        written?;
        self.digest.update(&self.pending);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// How much there is of it.
    pub(super) fn length(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// The body, where all of it is still here.
    pub(super) fn body(&self) -> Option<&[u8]> {
        let from = self.offset.checked_sub(self.written)?;
        self.pending.get(usize::try_from(from).ok()?..)
    }

    /// Makes a message of it, which no crash loses from when this returns.
    pub(super) async fn finish(mut self, intent: &Intent, head: &Head) -> Result<Held, Unwritten> {
        let body = self.body().map(Bytes::copy_from_slice);
        let end = self.length();
        let record = Record {
            intent: intent.clone(),
            head: head.clone(),
            offset: self.offset,
            length: end - self.offset,
            body,
        };
        let finished = off_thread(move || {
            let mut digest = self.digest.clone();
            digest.update(&self.pending);
            let trailer = record::trailer(digest);
            let file = self.draft.file();
            let written = file.write_all_at(&self.pending, self.written);
            if let Err(error) = written.and_then(|()| file.write_all_at(&trailer, end)) {
                return Err((Box::new(self), error));
            }
            match self.draft.finish(end + trailer.len() as u64, record) {
                Ok(message) => Ok(message),
                Err((draft, error)) => {
                    self.draft = draft;
                    Err((Box::new(self), error))
                }
            }
        });
        match finished.await {
            Ok(finished) => finished.map_err(|(writer, error)| Unwritten {
                writer: Some(writer),
                error,
            }),
            Err(error) => Err(Unwritten { writer: None, error }),
        }
    }

    /// Gives the file up: the body so far, where it is not over a bound, and a draft that holds no more than
    /// its intent.
    pub(super) fn give_up(self, bound: u64) -> (io::Result<Vec<u8>>, Draft) {
        let body = self.read_back(bound);
        // Where this fails too, the file tells of a message that is elsewhere as well.
        let _ = self.draft.shrink(self.intent_length);
        (body, self.draft)
    }

    fn read_back(&self, bound: u64) -> io::Result<Vec<u8>> {
        let in_file = self.written.saturating_sub(self.offset);
        if in_file > bound {
            return Err(io::Error::other("it is larger than spool.memory"));
        }
        let mut body = vec![0; usize::try_from(in_file).map_err(io::Error::other)?];
        self.draft.file().read_exact_at(&mut body, self.offset)?;
        let from = usize::try_from(self.offset.saturating_sub(self.written)).map_err(io::Error::other)?;
        body.extend_from_slice(self.pending.get(from..).unwrap_or_default());
        Ok(body)
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }
}

/// Does something that may wait for a disk.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
