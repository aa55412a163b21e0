//! The spool: what a pull takes off Cisco's queue is held until a caller has it. A pull cannot be repeated, so its
//! response is read to its end whatever becomes of the caller, written down before its first byte goes out, and
//! delivered again, oldest first, until a caller has all of it.
//!
//! Messages are delivered at least once. What a caller read and then lost cannot be known here: delivered messages are
//! retained for a while, so that an operator can requeue them. What may have been lost before it was written down is
//! reported.

mod claim;
mod directory;
mod file;
mod holding;
mod inspect;
mod intake;
mod key;
mod lease;
mod memory;
mod pause;
mod queue;
mod record;
mod retained;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::claim::DeadLetter;
use self::directory::{Directory, Incident};
use self::file::Held;
use self::memory::Memory;
use self::pause::FAILURES;
use self::queue::Queue;
use self::retained::Retention;
use crate::config;
use crate::telemetry::metrics::Metrics;

pub use self::claim::{Claim, MessageBody};
pub use self::directory::Listed;
pub use self::file::State;
pub use self::holding::Holding;
pub use self::inspect::{InspectError, Inspection};
pub use self::intake::{Intake, Unkept};
pub use self::key::Key;
pub use self::queue::{Caller, SpoolError, Taken};
pub use self::record::{Head, Intent, Stamp};

/// The messages that were pulled and that no caller has; cheap to clone.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Option<Directory>,
    memory: Arc<Memory>,
    bounds: Bounds,
    keep: Duration,
    settle: Duration,
    pauses: Arc<[Duration]>,
    /// Messages whose delivery has failed five times or more, as of the last look.
    failing: AtomicUsize,
    /// Files of a later format that were reported.
    reported: Mutex<HashSet<PathBuf>>,
    queues: Mutex<HashMap<Key, Arc<Queue>>>,
    newest: Mutex<Option<Stamp>>,
    runtime: OnceLock<Handle>,
    tasks: TaskTracker,
    /// Something may come of age.
    changed: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy)]
struct Bounds {
    messages: usize,
    bytes: u64,
}

/// The spool's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the spool's directory {path} cannot be used; it has to be there, or its parent writable")]
pub struct OpenError {
    path: String,
    source: io::Error,
}

impl Spool {
    /// Opens the spool, and reports what an earlier end left behind.
    pub fn open(config: &config::Spool, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let unusable = |path: &Path| {
            let path = path.display().to_string();
            move |source| OpenError { path, source }
        };
        let directory = match &config.directory {
            Some(path) => {
                let retention = Retention::new(config.keep, config.keep_bytes);
                Some(Directory::open(path, retention).map_err(unusable(path))?)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            memory: Memory::new(config.memory),
            bounds: Bounds {
                messages: config.messages,
                bytes: config.bytes,
            },
            keep: config.keep,
            settle: config.settle,
            pauses: config.pauses.clone().into(),
            failing: AtomicUsize::new(0),
            reported: Mutex::default(),
            queues: Mutex::default(),
            newest: Mutex::default(),
            runtime: OnceLock::new(),
            tasks: TaskTracker::new(),
            changed: Notify::new(),
            metrics,
            directory,
        });
        if let Some(directory) = &shared.directory {
            shared.judge(directory).map_err(unusable(directory.root()))?;
        }
        Ok(Self { shared })
    }

    /// Begins: pulls run from now on within `runtime`, whoever asks for them.
    pub fn start(&self, runtime: Handle) {
        // A second start changes nothing.
        let _ = self.shared.runtime.set(runtime);
    }

    /// Resolves when no pull is under way and everything that is known is written down.
    pub async fn settled(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Messages that are lost when the process ends: those in memory.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.shared.memory.count()
    }

    /// How long a connection has to be silent after a message for the message to count as delivered.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.shared.settle
    }

    /// What keeps messages from being delivered, a line each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let callers: BTreeSet<_> = queues
            .values()
            .flat_map(|queue| queue.pauses.at_fault())
            .collect();
        drop(queues);
        let mut troubles: Vec<_> = callers.iter().map(|caller| at_fault(caller)).collect();
        let failing = self.shared.failing.load(Ordering::Relaxed);
        if failing > 0 {
            troubles.push(failing_messages(failing));
        }
        troubles
    }
}

/// What is wrong with a caller that takes no message.
fn at_fault(caller: &str) -> String {
    format!(
        "caller {caller} takes no pulled message: its connections were reset during several messages; look at the \
         caller's own log, and restart it; the messages stay in the queue, and other callers can pull them"
    )
}

fn failing_messages(count: usize) -> String {
    format!(
        "pulled messages that failed delivery five times or more and stay in the queue: {count}; `bondgate spool list` \
         names them; look at the log of the caller that pulls them"
    )
}

impl Shared {
    fn queue(&self, key: &Key) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(key) {
            return queue.clone();
        }
        // Below a path that ends in `*` callers may name any number of them.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || queue.is_in_use());
        let queue = queues.entry(key.clone());
        queue
            .or_insert_with(|| Arc::new(Queue::new(self.pauses.clone())))
            .clone()
    }

    /// Runs something to its end, whatever becomes of whoever began it; a stop waits for it.
    fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(self.tasks.track_future(task));
        }
    }

    /// Counts the messages that are failing, where a delivery may have changed that: one that failed so often in all, or
    /// was successful.
    fn count_failing(&self, failures: Option<u32>) {
        let may_have_changed = match failures {
            Some(failures) => failures >= FAILURES,
            None => self.failing.load(Ordering::Relaxed) > 0,
        };
        if may_have_changed {
            // What cannot be counted stays as it was.
            let _ = self.holding();
        }
    }

    fn retains_too_much(&self) -> bool {
        let directory = self.directory.as_ref();
        directory.is_some_and(|directory| directory.retention().is_over_limit())
    }

    /// Takes a delivered message out of its queue.
    fn note_delivered(&self, held: &Held) -> io::Result<()> {
        match &self.directory {
            Some(directory) => directory.delivered(held),
            None => Ok(()),
        }
    }

    /// Makes a dead letter of a message, unless a caller has it just now.
    fn set_aside(&self, intent: &Intent) -> Option<DeadLetter> {
        if self.memory.set_aside(&intent.key, intent.pulled) {
            return Some(DeadLetter::Memory);
        }
        match self.directory.as_ref()?.set_aside(&intent.key, intent.pulled) {
            Ok(name) => name.map(DeadLetter::File),
            Err(error) => {
                tracing::error!(
                    queue = %intent.key,
                    pulled = %intent.pulled,
                    %error,
                    "message cannot be made a dead letter and stays in the queue; check the spool's disk"
                );
                None
            }
        }
    }

    /// Makes room on a disk that is full, of which retained messages are the first to go. Returns whether something may
    /// have changed.
    async fn makes_room(&self, error: &io::Error) -> bool {
        match &self.directory {
            Some(directory) if is_disk_full(error) => {
                let directory = directory.clone();
                let freed = writer::off_thread(move || directory.free(ROOM)).await.flatten();
                freed.unwrap_or_default()
            }
            _ => false,
        }
    }

    /// Looks after what an earlier end left behind.
    fn judge(&self, directory: &Directory) -> io::Result<()> {
        if is_read_only(directory.root()) {
            tracing::error!(
                path = %directory.root().display(),
                "the spool's directory is on a disk that is read-only: nothing is pulled until it can be written"
            );
            return Ok(());
        }
        let mut incidents = Vec::new();
        let recovered = directory.recover(&mut incidents);
        self.tell(incidents);
        recovered?;
        if let Err(error) = directory.tidy(SystemTime::now()) {
            tracing::warn!(%error, "retained messages cannot be looked through; check the owner of the spool's folders");
        }
        let held = directory.held()?.len();
        if held > 0 {
            tracing::warn!(held, "pulled messages wait in the spool for the next pull");
        }
        let failing = self.holding()?.failing;
        if failing > 0 {
            tracing::error!("{}", failing_messages(failing));
        }
        Ok(())
    }

    fn tell(&self, incidents: Vec<Incident>) {
        for incident in incidents {
            match incident {
                Incident::Lost { pulled, intent } => {
                    let why = "bondgate or the machine ended before its answer was written down";
                    tell_lost(&self.metrics, pulled, intent.as_ref(), why);
                }
                Incident::Saved(intent) => tracing::warn!(
                    queue = %intent.key,
                    pulled = %intent.pulled,
                    "pulled message recovered after a crash, it will be redelivered"
                ),
                Incident::Unusable { path, error } => {
                    let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
                    if reported.len() < MOST_REPORTED && reported.insert(path.clone()) {
                        tracing::error!(
                            path = %path.display(),
                            "message in the spool cannot be delivered and is left as it is: {error}; a file that may not be \
                             opened wants chown to bondgate's user"
                        );
                    }
                }
                Incident::Corrupt { path, error } => {
                    self.metrics.spool.corrupt.inc();
                    tracing::error!(
                        path = %path.display(),
                        %error,
                        "a file in the spool's directory is damaged and is put aside"
                    );
                }
            }
        }
    }
}

/// What is freed at once on a full disk.
const ROOM: u64 = 16 << 20;
/// Files of a later format that are reported one by one.
const MOST_REPORTED: usize = 100;

/// Whether a disk, or what this process may write on it, is full.
fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether a directory, or the place where it would be, is on a disk that takes nothing.
fn is_read_only(directory: &Path) -> bool {
    let mut places = directory.ancestors();
    let there = places.find(|place| place.exists());
    there.is_some_and(|there| {
        rustix::fs::access(there, rustix::fs::Access::WRITE_OK) == Err(rustix::io::Errno::ROFS)
    })
}

/// Reports a pull whose message may be lost: there is no way to ask for it again.
fn tell_lost(metrics: &Metrics, pulled: Stamp, intent: Option<&Intent>, why: &str) {
    metrics.spool.perhaps_lost.inc();
    tracing::error!(
        queue = intent.map(|intent| tracing::field::display(&intent.key)),
        method = intent.map(|intent| &intent.method),
        %pulled,
        "a message may be lost: it was asked for, and its answer never came whole ({why}); look for it at Cisco"
    );
}
