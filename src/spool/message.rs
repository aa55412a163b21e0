//! A message that is ready to be delivered.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::response::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::file::{LockedFile, MessageBody, State};
use super::format::{Body, Intent, Parsed};
use super::id::MessageId;
use crate::telemetry::metrics::Metrics;

/// A message in the spool. While it exists, no other process works on its file.
pub(super) struct Message {
    pub(super) intent: Intent,
    pub(super) head: Parts,
    pub(super) body: Body,
    failures: AtomicU32,
    /// Its file; none in memory.
    pub(super) file: Option<LockedFile>,
    /// Its share of `spool.memory`.
    _share: Option<OwnedSemaphorePermit>,
}

impl Message {
    pub(super) fn new(parsed: Parsed, file: Option<LockedFile>, share: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            intent: parsed.intent,
            head: parsed.head,
            body: parsed.body,
            failures: AtomicU32::new(file.as_ref().map_or(0, |file| file.name.failures)),
            file,
            _share: share,
        }
    }

    pub(super) fn id(&self) -> MessageId {
        self.intent.id
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Records a failed delivery. Returns how many there were.
    pub(super) fn count_failure(&self) -> io::Result<u32> {
        let failures = self.failures().saturating_add(1);
        if let Some(file) = &self.file {
            file.rename(State::Ready, failures)?;
        }
        self.failures.store(failures, Ordering::Relaxed);
        Ok(failures)
    }

    pub(super) fn body(&self) -> io::Result<MessageBody> {
        match (&self.body.small, &self.file) {
            (None, Some(file)) => file.body(self.body.offset, self.body.length, Bytes::new()),
            (small, _) => Ok(small.clone().unwrap_or_default().into()),
        }
    }
}

/// Reports a pull whose message may be lost, since it cannot be repeated.
pub(super) fn report_lost(metrics: &Metrics, id: MessageId, intent: Option<&Intent>, reason: &str) {
    metrics.spool.perhaps_lost.inc();
    tracing::error!(
        queue = intent.map(|intent| tracing::field::display(&intent.queue)),
        method = intent.map(|intent| &intent.method),
        pulled = %id,
        reason,
        "a message may be lost: its pull was sent, and no whole response was stored; look for it at Cisco"
    );
}
