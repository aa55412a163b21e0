//! Decides what a request for a message gets: the oldest message, a wait, or a pull.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::Instant;

use super::blocking::off_thread;
use super::delivery::Delivery;
use super::directory::{Oldest, QueueLock, Search};
use super::format::Intent;
use super::id::QueueId;
use super::pause::Offer;
use super::pull_writer::PullWriter;
use super::queue::{Caller, Recipient};
use super::shared::{Spool, SpoolError};

/// What a request gets.
pub enum Taken {
    /// A message that was pulled for an earlier request.
    Message(Delivery),
    /// No message is ready: a pull is to be sent, and its response to be written here.
    Pull(PullWriter),
}

/// One request for a message, which has its queue's lock.
struct Take {
    spool: Spool,
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
        respond: impl FnOnce(Taken) -> F + Send + 'static,
    ) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let recipient = Recipient {
            queue: self.shared.queue(&queue),
            caller,
            suspect: None,
        };
        let lock = recipient.queue.lock.clone().lock_owned().await;
        let take = Take {
            spool: self.clone(),
            queue,
            method: method.to_string(),
            recipient,
            lock,
        };
        let (sender, receiver) = oneshot::channel();
        self.shared.in_background(async move {
            let taken = take.run(may_pull, || !sender.is_closed()).await;
            let response = match taken {
                Ok(taken) => Ok(respond(taken).await),
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
    ) -> Result<Taken, SpoolError> {
        let may_pull = || may_pull() && is_awaited();
        self.recipient.queue.confirm_leases().await;
        let deadline = Instant::now() + self.spool.settle() + LOCKED_ELSEWHERE;
        loop {
            let (skips_locked, is_allowed) = (Instant::now() >= deadline, may_pull());
            match off_thread(move || Ok(self.decide(skips_locked, is_allowed))).await?? {
                ControlFlow::Continue(take) if is_awaited() => self = take,
                ControlFlow::Continue(_) => return Err(SpoolError::Stopping),
                ControlFlow::Break(Taken::Pull(writer)) if !may_pull() => {
                    writer.discard().await;
                    return Err(SpoolError::Stopping);
                }
                ControlFlow::Break(taken) => return Ok(taken),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Decides, or continues while another process works on the queue or on an older message. Waits for the disk.
    fn decide(self, skips_locked: bool, may_pull: bool) -> Result<ControlFlow<Taken, Self>, SpoolError> {
        let shared = self.spool.shared.clone();
        let decided = self.search(skips_locked, may_pull);
        match &decided {
            Err(SpoolError::Unusable(error)) => shared.report_disk(Some(error)),
            Ok(ControlFlow::Break(Taken::Pull(_))) => shared.report_disk(None),
            _ => {}
        }
        decided
    }

    /// Looks for the oldest message that the caller may get, and begins a pull if there is none.
    fn search(mut self, skips_locked: bool, may_pull: bool) -> Result<ControlFlow<Taken, Self>, SpoolError> {
        let Recipient { queue, caller, .. } = self.recipient.clone();
        let store = &self.spool.shared.store;
        let Some(queue_lock) = store.lock_queue(&self.queue)? else {
            return Ok(ControlFlow::Continue(self));
        };
        let in_progress = queue.in_progress();
        let search = Search {
            queue: &self.queue,
            after: None,
            in_progress: &in_progress,
            skips_locked,
        };
        let mut oldest = store.oldest(&search)?;
        self.recipient.suspect = None;
        if let Oldest::Message(message) = &oldest {
            match queue.pauses.offer(&caller, message.id(), message.failures()) {
                Offer::Message => {}
                Offer::Paused(left, failures) => {
                    return Err(SpoolError::Paused {
                        caller,
                        failures,
                        left,
                    });
                }
                Offer::Next => {
                    let after = Some(message.id());
                    self.recipient.suspect = after;
                    oldest = store.oldest(&Search { after, ..search })?;
                }
            }
        }
        match oldest {
            Oldest::Message(message) => {
                let delivery = Delivery::new(self.spool, self.recipient, message, true);
                Ok(ControlFlow::Break(Taken::Message(delivery)))
            }
            Oldest::LockedElsewhere => Ok(ControlFlow::Continue(self)),
            Oldest::None if may_pull => Ok(ControlFlow::Break(Taken::Pull(self.begin_pull(queue_lock)?))),
            Oldest::None => Err(SpoolError::Stopping),
        }
    }

    /// Writes down that a pull is about to be sent, if the bounds allow one.
    fn begin_pull(self, queue_lock: QueueLock) -> Result<PullWriter, SpoolError> {
        let shared = &self.spool.shared;
        shared.check_bounds()?;
        let directory = shared.store.directory();
        let last = directory.map_or(Ok(None), |directory| directory.last_id(&self.queue))?;
        let intent = Intent {
            id: shared.new_id(last),
            queue: self.queue,
            method: self.method,
        };
        let file = directory.map(|directory| directory.begin(&intent)).transpose()?;
        let locks = (self.lock, queue_lock);
        Ok(PullWriter::new(self.spool, self.recipient, intent, file, locks))
    }
}
