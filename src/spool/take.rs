//! Decides what a request for a message gets: the oldest message, a wait, or a pull.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::Instant;

use super::blocking::off_thread;
use super::caller_outcomes::Recipient;
use super::delivery::Delivery;
use super::error::SpoolError;
use super::failed_deliveries::Offer;
use super::folders::QueueLock;
use super::format::Intent;
use super::id::{MessageId, QueueId};
use super::message_file::FileName;
use super::pull_writer::PullWriter;
use super::queue::Caller;
use super::spool_state::Spool;
use super::store::Oldest;

/// What a request gets.
pub enum TakeOutcome {
    /// A message that was pulled for an earlier request.
    Message(Delivery),
    /// No message is ready: a pull is to be sent, and its response to be written here.
    Pull(Box<PullWriter>),
}

/// One request for a message, which has its queue's lock.
struct Take {
    queue: QueueId,
    method: String,
    recipient: Recipient,
    lock: OwnedMutexGuard<()>,
}

/// How much longer than `spool.settle` another process may work on an older message before a newer one is delivered.
const LOCKED_ELSEWHERE: Duration = Duration::from_secs(3);
/// How often to look at the lock of another process: its release sends no event.
const POLL: Duration = Duration::from_millis(10);

impl Spool {
    /// Takes a message for a caller, or begins a pull, and makes a response of it by `respond`.
    ///
    /// One request of a queue is served at a time. `respond` then runs to its end even if this future is dropped. A
    /// pull is only begun while `may_pull` holds and this future is awaited.
    pub async fn take<T, F>(
        &self,
        queue: QueueId,
        method: &http::Method,
        caller: Caller,
        may_pull: impl Fn() -> bool + Send + Sync + 'static,
        respond: impl FnOnce(TakeOutcome) -> F + Send + 'static,
    ) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let recipient = Recipient {
            shared: self.shared.clone(),
            queue: self.shared.queue(&queue),
            caller,
            suspect: None,
        };
        let lock = recipient.queue.lock.clone().lock_owned().await;
        let take = Take {
            queue,
            method: method.to_string(),
            recipient,
            lock,
        };
        let (sender, receiver) = oneshot::channel();
        self.shared.in_background(async move {
            let shared = take.recipient.shared.clone();
            let taken = take.run(may_pull, || !sender.is_closed()).await;
            let response = match taken {
                Ok(taken) => Ok(respond(taken).await),
                Err(SpoolError::Unusable(error)) => {
                    let failed = off_thread(move || Ok(shared.disk_failed(&error))).await;
                    Err(failed.map_or_else(SpoolError::from, SpoolError::Failed))
                }
                Err(error) => Err(error),
            };
            // Dropped if the request is gone: a stored message is back in its queue, another one is reported as lost.
            let _ = sender.send(response);
        });
        receiver.await.unwrap_or(Err(SpoolError::Broken))
    }
}

impl Take {
    async fn run(
        mut self,
        may_pull: impl Fn() -> bool,
        is_awaited: impl Fn() -> bool,
    ) -> Result<TakeOutcome, SpoolError> {
        let may_pull = || may_pull() && is_awaited();
        self.recipient.queue.confirm_leases().await;
        let deadline = Instant::now() + self.recipient.shared.config.settle + LOCKED_ELSEWHERE;
        loop {
            let (skips_locked, is_allowed) = (Instant::now() >= deadline, may_pull());
            let shared = self.recipient.shared.clone();
            let decide = move || {
                let decided = self.decide(skips_locked, is_allowed);
                match &decided {
                    Ok(ControlFlow::Continue(take)) if skips_locked => shared.set_locked(&take.queue, true),
                    Ok(ControlFlow::Break(TakeOutcome::Pull(_))) => shared.disk_works(),
                    _ => {}
                }
                if shared.store.unusable.take_new() {
                    shared.publish();
                }
                Ok(decided)
            };
            match off_thread(decide).await?? {
                ControlFlow::Continue(take) if is_awaited() => self = take,
                ControlFlow::Continue(_) => return Err(SpoolError::Stopping),
                ControlFlow::Break(TakeOutcome::Pull(writer)) if !may_pull() => {
                    writer.discard().await;
                    return Err(SpoolError::Stopping);
                }
                ControlFlow::Break(taken) => return Ok(taken),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks for the oldest message that the caller may get, and begins a pull if there is none. Continues while another
    /// process works on the queue or on an older message. Waits for the disk.
    fn decide(
        mut self,
        skips_locked: bool,
        may_pull: bool,
    ) -> Result<ControlFlow<TakeOutcome, Self>, SpoolError> {
        let recipient = self.recipient.clone();
        let store = &recipient.shared.store;
        let Some(queue_lock) = store.lock_queue(&self.queue)? else {
            return Ok(ControlFlow::Continue(self));
        };
        recipient.shared.set_locked(&self.queue, false);
        let in_progress = recipient.queue.in_progress();
        let oldest_after = |after: Option<MessageId>| {
            let is_wanted = |id| after < Some(id) && !in_progress.contains(&id);
            store.oldest(&self.queue, is_wanted, skips_locked)
        };
        let mut oldest = oldest_after(None)?;
        self.recipient.suspect = None;
        if let Oldest::Message(message) = &oldest {
            let FileName { id, failures, .. } = message.name;
            if recipient.offer(Some(id), failures)? == Offer::Next {
                self.recipient.suspect = Some(id);
                oldest = oldest_after(Some(id))?;
            }
        }
        match oldest {
            Oldest::Message(message) => {
                let delivery = Delivery::new(self.recipient, message, true);
                Ok(ControlFlow::Break(TakeOutcome::Message(delivery)))
            }
            Oldest::LockedElsewhere => Ok(ControlFlow::Continue(self)),
            Oldest::None if may_pull => {
                recipient.offer(None, 0)?;
                Ok(ControlFlow::Break(TakeOutcome::Pull(
                    self.begin_pull(queue_lock)?,
                )))
            }
            Oldest::None => Err(SpoolError::Stopping),
        }
    }

    /// Writes down that a pull is about to be sent, if the bounds allow one.
    fn begin_pull(self, queue_lock: QueueLock) -> Result<Box<PullWriter>, SpoolError> {
        let shared = self.recipient.shared.clone();
        shared.check_bounds()?;
        let intent = Intent {
            id: shared.new_id(shared.store.last_id(&self.queue)?),
            queue: self.queue,
            method: self.method,
        };
        let locks = (self.lock, queue_lock);
        Ok(Box::new(PullWriter::begin(self.recipient, intent, locks)?))
    }
}
