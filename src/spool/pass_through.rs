//! Passes a message that cannot be stored to its caller.

use std::io;
use std::sync::{Arc, OnceLock};

use super::blocking::off_thread;
use super::format::Intent;
use super::message_file::MessageBody;
use super::pull_writer::{PullWriter, WriteError};
use super::queue::Leased;
use crate::problems::spool as problems;

/// A message that cannot be stored, on its way to its one caller. Its file remains the one of a pull, so that the next
/// start reports it if bondgate is killed. Dropped before [`record`](Self::record), it is reported as lost.
pub struct PassThrough {
    writer: PullWriter,
    /// Keeps other requests from the file. Dropped last, when that is unlocked.
    pub lease: Leased,
}

impl PullWriter {
    /// Gives up storing the response, which goes to its caller alone. Returns its body so far. The next request of the
    /// queue is served from now on.
    pub async fn pass_through(self, error: WriteError) -> io::Result<(MessageBody, PassThrough)> {
        off_thread(move || self.begin_pass_through(&error)).await
    }

    fn begin_pass_through(mut self, error: &WriteError) -> io::Result<(MessageBody, PassThrough)> {
        let begun = self.give_up()?;
        let shared = &self.recipient.shared;
        shared.metrics.spool.passed_through.inc();
        if let WriteError::Disk(error) = error {
            shared.disk_failed(error);
        }
        tracing::error!(
            problem = problems::not_stored(error).code(),
            queue = %self.intent.queue,
            pulled = %self.intent.id,
            caller = &*self.recipient.caller,
            %error,
            "pulled message cannot be stored and is passed through: it is lost if its caller disconnects"
        );
        let lease = self.recipient.queue.lease(self.intent.id);
        drop(self.locks.take());
        Ok((begun, PassThrough { writer: self, lease }))
    }
}

impl PassThrough {
    /// Where to write why the body broke off, if it does.
    #[must_use]
    pub fn broken_off(&self) -> Arc<OnceLock<String>> {
        self.writer.broken_off.clone()
    }

    /// Forgets the message if its caller has all of it, or reports it as lost. The lease ends when this returns.
    pub async fn record(self, is_delivered: bool) {
        let Self { writer, lease } = self;
        lease.set_on_connection(false);
        let (recipient, Intent { id, queue, .. }) = (writer.recipient.clone(), writer.intent.clone());
        if is_delivered {
            writer.discard().await;
            // A panic is logged where it occurs.
            let _ = off_thread(move || {
                recipient.delivered(&queue, id);
                Ok(())
            })
            .await;
        } else {
            let reason = writer.reason().unwrap_or_default().to_owned();
            let is_lost = writer.lose_unless_whole(&reason).await;
            let pause_s = recipient
                .failed((!is_lost).then_some(id))
                .map(|pause| pause.as_secs_f32());
            let caller = &*recipient.caller;
            let problem = is_lost.then(|| problems::messages_lost(1).code());
            tracing::warn!(%queue, pulled = %id, caller, is_lost, pause_s, problem, "delivery of a message that is not stored failed");
        }
    }
}
