//! The spool: what a pull takes off Cisco's queue is kept until somebody has it. A pull cannot be asked
//! again, so its answer is read to its end whatever becomes of the caller, written down before its first
//! byte goes out, and offered again, oldest first, until a caller has all of it.
//!
//! At least once, then: what a caller read and then forgot cannot be known, and what may have been lost
//! before it was written down is reported.

mod claim;
mod directory;
mod file;
mod holding;
mod inspect;
mod intake;
mod key;
mod lease;
mod memory;
mod queue;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::directory::{Directory, Incident};
use self::memory::Memory;
use self::queue::Queue;
use crate::config;
use crate::telemetry::metrics::Metrics;

pub use self::claim::{Claim, MessageBody};
pub use self::directory::Listed;
pub use self::file::State;
pub use self::holding::Holding;
pub use self::inspect::{InspectError, Inspection};
pub use self::intake::{Intake, Unkept};
pub use self::key::Key;
pub use self::queue::{SpoolError, Taken};
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
            Some(path) => Some(Directory::open(path, config.keep).map_err(unusable(path))?),
            None => None,
        };
        let shared = Arc::new(Shared {
            memory: Memory::new(config.memory),
            bounds: Bounds {
                messages: config.messages,
                bytes: config.bytes,
            },
            keep: config.keep,
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
}

impl Shared {
    fn queue(&self, key: &Key) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(key) {
            return queue.clone();
        }
        // Below a path that ends in `*` callers may name any number of them.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || queue.is_in_use());
        queues.entry(key.clone()).or_default().clone()
    }

    /// Runs something to its end, whatever becomes of whoever began it; a stop waits for it.
    fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(self.tasks.track_future(task));
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
        directory.tidy(SystemTime::now())?;
        let held = directory.held()?.len();
        if held > 0 {
            tracing::warn!(held, "pulled messages wait in the spool for the next pull");
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
                    "a pull that an end of bondgate cut off had brought its message: the next pull gets it"
                ),
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
