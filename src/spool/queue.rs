//! One queue at an upstream, as this process works on it: one pull at a time, the oldest message first.

use std::fs::File;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::claim::{Claim, Content};
use super::directory::{Directory, Oldest};
use super::file::Draft;
use super::holding::Holding;
use super::intake::Intake;
use super::key::Key;
use super::lease::Lease;
use super::pause::{Offer, Pauses};
use super::record::{Intent, Stamp};
use super::writer::off_thread;
use super::{ROOM, Shared, Spool, is_disk_full};

/// What this process is at work on in a queue.
pub(super) struct Queue {
    /// Who has it may look for a message, and pull one.
    turn: Arc<tokio::sync::Mutex<()>>,
    leases: Mutex<Vec<Arc<Lease>>>,
    pub(super) pauses: Pauses,
}

/// Who asks for a message: the name that goes with its key, or else its address.
pub type Caller = Arc<str>;

/// Who gets a message.
#[derive(Clone)]
pub(super) struct Recipient {
    pub(super) queue: Arc<Queue>,
    pub(super) caller: Caller,
    /// The older message that this caller failed to take, where the delivery of the next one is to show whether the
    /// message or the caller is at fault.
    pub(super) suspect: Option<Stamp>,
}

/// What a search of the spool comes to.
enum Found {
    Message(Box<Claim>),
    /// Nothing for this recipient.
    Nothing(Recipient),
    Paused(SpoolError),
}

/// What a request on a consuming route comes to.
pub enum Taken<T> {
    /// A message, held since an earlier pull or just pulled.
    Message(Box<Claim>),
    /// The pull found the queue empty, which is passed on.
    Empty(T),
    /// The pull brought something else, which is passed on and not kept.
    Other(T),
}

/// Why nothing was pulled, and no message was there.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It holds as much as it may.
    #[error("the spool is full with {messages} messages of {bytes} bytes that no caller took")]
    Full {
        /// Messages that are held.
        messages: usize,
        /// Their size.
        bytes: u64,
    },
    /// The oldest message is paused for this caller.
    #[error(
        "the oldest message is paused for caller {caller} after failed deliveries ({failures}): each time the connection \
         ended before the caller had the whole message"
    )]
    Paused {
        /// The caller.
        caller: Caller,
        /// How many deliveries failed.
        failures: u32,
        /// How long it is still paused.
        left: Duration,
    },
    /// Its directory cannot be used.
    #[error("the spool's directory cannot be used ({0})")]
    Unusable(io::Error),
    /// Nothing new is begun: the daemon stops.
    #[error("bondgate is stopping")]
    Stopping,
    /// A bug of ours.
    #[error("a bug in bondgate ended the pull")]
    Broken,
}

/// How long a connection may take to say whether its caller is there.
const ANSWER: Duration = Duration::from_secs(1);
/// How much longer than `spool.settle` another process may be at work on an older message before ours goes on to a
/// newer one.
const FOREIGN: Duration = Duration::from_secs(3);
/// How often another process's lock is looked at while it is waited for: locks wake nobody.
const LOOK: Duration = Duration::from_millis(10);

impl Queue {
    pub(super) fn new(pauses: Arc<[Duration]>) -> Self {
        Self {
            turn: Arc::default(),
            leases: Mutex::default(),
            pauses: Pauses::new(pauses),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Arc<Lease>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lease.
    pub(super) fn lease(&self, stamp: Stamp) -> Arc<Lease> {
        let lease = Lease::new(stamp);
        let mut leases = self.leases();
        leases.retain(|lease| !lease.is_over());
        leases.push(lease.clone());
        lease
    }

    fn own(&self) -> Vec<Stamp> {
        let leases = self.leases();
        let open = leases.iter().filter(|lease| !lease.is_over());
        open.map(|lease| lease.stamp).collect()
    }

    /// Whether a message of it is with a connection, or paused for a caller.
    pub(super) fn is_in_use(&self) -> bool {
        self.leases().iter().any(|lease| !lease.is_over()) || !self.pauses.is_empty()
    }

    /// Waits until every message that is with a connection is there for certain, or back.
    async fn await_leases(&self) {
        let leases = self.leases().clone();
        for lease in &leases {
            lease.arrived().await;
        }
        let deadline = Instant::now() + ANSWER;
        for lease in &leases {
            if tokio::time::timeout_at(deadline, lease.ask()).await.is_err() {
                // It has its caller, as far as anybody knows.
                tracing::info!("a connection does not get round to saying whether its caller is there");
            }
        }
        for lease in &leases {
            lease.arrived().await;
        }
    }
}

impl Spool {
    /// The message for one request of a caller: the oldest that no caller has, or what a new pull brings.
    ///
    /// `may_pull` is asked when there is none. `pull` then runs to its end whatever becomes of the
    /// caller, and says itself whether it brought a message. Cancel safe: once it is this caller's turn, all
    /// happens in a task of its own, and a message that nobody waits for any more answers the next request.
    pub async fn take<T, P, F>(
        &self,
        key: Key,
        method: &http::Method,
        caller: Caller,
        may_pull: impl FnOnce() -> bool + Send + 'static,
        pull: P,
    ) -> Result<Taken<T>, SpoolError>
    where
        T: Send + 'static,
        P: FnOnce(Intake) -> F + Send + 'static,
        F: Future<Output = Taken<T>> + Send + 'static,
    {
        let queue = self.shared.queue(&key);
        let turn = queue.turn.clone().lock_owned().await;
        let foreign = self.turn_among_processes(&key).await;
        let (spool, method) = (self.clone(), method.to_string());
        let (give, given) = oneshot::channel();
        self.shared.in_background(async move {
            let taken = async {
                let recipient = Recipient {
                    queue,
                    caller,
                    suspect: None,
                };
                let (found, _foreign) = spool.find(recipient, &key, foreign).await?;
                let recipient = match found {
                    Found::Message(claim) => return Ok(Taken::Message(claim)),
                    Found::Paused(why) => return Err(why),
                    Found::Nothing(recipient) => recipient,
                };
                if !may_pull() {
                    return Err(SpoolError::Stopping);
                }
                let (intent, draft) = spool.begin(key, method).await?;
                let intake = Intake::new(spool.shared.clone(), recipient.clone(), intent, draft);
                if give.is_closed() {
                    // Nothing has been sent yet, and nobody waits for it.
                    intake.discard().await;
                    return Err(SpoolError::Stopping);
                }
                let taken = pull(intake).await;
                if let (Taken::Empty(_), Some(suspect)) = (&taken, recipient.suspect) {
                    recipient.queue.pauses.no_next(&recipient.caller, suspect);
                }
                Ok(taken)
            }
            .await;
            drop(turn);
            // A caller that is gone leaves the claim to be dropped, and the message to the next one.
            let _ = give.send(taken);
        });
        given.await.unwrap_or(Err(SpoolError::Broken))
    }

    /// Waits for the turn of this queue among processes on the same directory.
    async fn turn_among_processes(&self, key: &Key) -> io::Result<Option<File>> {
        let Some(directory) = &self.shared.directory else {
            return Ok(None);
        };
        loop {
            let (directory, key) = (directory.clone(), key.clone());
            let turn = off_thread(move || directory.turn(&key)).await.flatten();
            if let Some(turn) = turn? {
                return Ok(Some(turn));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The oldest message for a recipient, and the turn that it was looked for in.
    async fn find(
        &self,
        recipient: Recipient,
        key: &Key,
        turn: io::Result<Option<File>>,
    ) -> Result<(Found, Option<File>), SpoolError> {
        recipient.queue.await_leases().await;
        let (found, turn) = match turn {
            Ok(turn) => (self.oldest(&recipient.queue, key, None).await, turn),
            Err(error) => (Err(error), None),
        };
        let found = match found {
            Ok(found) => found,
            // What memory has, since the disk would not take it, need not wait for the disk.
            Err(error) => match self.oldest_in_memory(key, None) {
                Some(message) => Some(message),
                None => return Err(SpoolError::Unusable(error)),
            },
        };
        let Some(oldest) = found else {
            return Ok((Found::Nothing(recipient), turn));
        };
        let found = self.offer(recipient, key, oldest).await;
        Ok((found.map_err(SpoolError::Unusable)?, turn))
    }

    /// What the oldest message is for a recipient, after deliveries that failed.
    async fn offer(&self, mut recipient: Recipient, key: &Key, oldest: Content) -> io::Result<Found> {
        let shared = &self.shared;
        let (stamp, attempts) = oldest.state(shared);
        match recipient.queue.pauses.offer(&recipient.caller, stamp, attempts) {
            Offer::Message => Ok(shared.redelivery(recipient, oldest)),
            Offer::Paused(left, failures) => {
                oldest.release(shared);
                let caller = recipient.caller;
                Ok(Found::Paused(SpoolError::Paused {
                    caller,
                    failures,
                    left,
                }))
            }
            Offer::Next => {
                oldest.release(shared);
                recipient.suspect = Some(stamp);
                Ok(match self.oldest(&recipient.queue, key, Some(stamp)).await? {
                    Some(next) => shared.redelivery(recipient, next),
                    None => Found::Nothing(recipient),
                })
            }
        }
    }

    /// The oldest message that no caller has, newer than `after`.
    async fn oldest(&self, queue: &Queue, key: &Key, after: Option<Stamp>) -> io::Result<Option<Content>> {
        let shared = &self.shared;
        let began = Instant::now();
        let in_memory = shared.memory.oldest(key, after);
        while let Some(directory) = &shared.directory {
            let mut own = queue.own();
            own.extend(shared.memory.stamps(key));
            let (directory, key) = (directory.clone(), key.clone());
            let search = move || {
                let mut incidents = Vec::new();
                let is_own = |stamp| own.contains(&stamp);
                let found = directory.oldest(&key, (after, in_memory), is_own, &mut incidents);
                (found, incidents)
            };
            let (found, incidents) = off_thread(search).await?;
            shared.tell(incidents);
            match found? {
                Oldest::Message(held) => return Ok(Some(Content::File(held))),
                Oldest::Foreign if began.elapsed() < shared.settle + FOREIGN => {
                    tokio::time::sleep(LOOK).await;
                }
                Oldest::Foreign | Oldest::Nothing => break,
            }
        }
        Ok(self.oldest_in_memory(key, after))
    }

    fn oldest_in_memory(&self, key: &Key, after: Option<Stamp>) -> Option<Content> {
        self.shared.memory.lease_oldest(key, after).map(Content::Memory)
    }

    /// Writes down that a pull is about to be sent, where there is room for what it may bring.
    async fn begin(&self, key: Key, method: String) -> Result<(Intent, Option<Draft>), SpoolError> {
        let shared = self.shared.clone();
        let begun = off_thread(move || {
            let Holding { messages, bytes, .. } = shared.holding()?;
            let is_spool_full = shared.directory.is_some() && bytes >= shared.bounds.bytes;
            if messages >= shared.bounds.messages || is_spool_full || shared.memory.is_full() {
                return Ok(Err(SpoolError::Full { messages, bytes }));
            }
            let directory = shared.directory.as_ref();
            let last = directory.map(|directory| directory.last(&key)).transpose()?;
            let intent = Intent {
                pulled: shared.stamp(last.flatten()),
                key,
                method,
            };
            let begin = |directory: &Directory| match directory.begin(&intent) {
                // Retained messages are the first to go.
                Err(error) if is_disk_full(&error) && directory.free(ROOM)? => directory.begin(&intent),
                begun => begun,
            };
            let draft = directory.map(begin).transpose()?;
            shared.changed.notify_one();
            Ok(Ok((intent, draft)))
        });
        begun.await.flatten().map_err(SpoolError::Unusable)?
    }
}

impl Shared {
    fn redelivery(self: &Arc<Self>, recipient: Recipient, content: Content) -> Found {
        self.metrics.spool.redeliveries.inc();
        Found::Message(Box::new(Claim::new(self, recipient, content, true)))
    }

    /// A stamp that no message of this process has, and later than `last`.
    fn stamp(&self, last: Option<Stamp>) -> Stamp {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::now(last.max(*newest));
        *newest = Some(stamp);
        stamp
    }
}
