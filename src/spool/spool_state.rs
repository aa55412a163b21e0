//! [`Spool`], and its state in this process, which its parts share.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::blocking::off_thread;
use super::error::{OpenError, SpoolError};
use super::id::{MessageId, QueueId};
use super::queue::Queue;
use super::store::Store;
use super::totals::Totals;
use super::unrequested_queues::UnrequestedQueues;
use crate::config;
use crate::problems::Problem;
use crate::telemetry::LastingProblems;
use crate::telemetry::metrics::Metrics;

/// The pulled messages that are not delivered; cheap to clone.
#[derive(Clone)]
pub struct Spool {
    pub(super) shared: Arc<SpoolState>,
}

pub(super) struct SpoolState {
    pub(super) store: Store,
    pub(super) config: config::Spool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queues: Mutex<HashMap<QueueId, Arc<Queue>>>,
    newest: Mutex<Option<MessageId>>,
    /// The last count.
    pub(super) counted: Mutex<Counted>,
    /// Why the directory cannot be written. Ends when a pull can be written.
    pub(super) write_failure: Mutex<Option<Problem>>,
    /// Why the last sweep could not remove what is retained for too long.
    pub(super) sweep_failure: Mutex<Option<Problem>>,
    /// The queues that another process keeps locked.
    pub(super) locked: Mutex<HashSet<QueueId>>,
    /// What is published of these.
    pub(super) problems: LastingProblems,
    /// Held by the one thread that publishes.
    pub(super) publishing: Mutex<()>,
    pub(super) unrequested: UnrequestedQueues,
    runtime: OnceLock<Handle>,
    tasks: TaskTracker,
}

/// The last count of the messages.
#[derive(Default)]
pub(super) struct Counted {
    begun: Option<Instant>,
    /// Of the last count that succeeded.
    pub(super) totals: Totals,
    /// Why the last one failed.
    pub(super) failure: Option<Problem>,
    /// Whether every user of this machine may write in the directory.
    pub(super) is_open_to_others: bool,
}

/// How long a count serves for the check whether the spool is full: it reads the directory of every queue.
const RECENT: Duration = Duration::from_secs(1);
/// How long a request for the numbers waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

impl Spool {
    /// Opens the spool, and recovers what a killed process left behind.
    pub fn open(config: &config::Spool, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let shared = SpoolState {
            store: Store::open(config, metrics.clone())?,
            config: config.clone(),
            problems: LastingProblems::default(),
            metrics,
            queues: Mutex::default(),
            newest: Mutex::default(),
            counted: Mutex::default(),
            write_failure: Mutex::default(),
            sweep_failure: Mutex::default(),
            locked: Mutex::default(),
            publishing: Mutex::default(),
            unrequested: UnrequestedQueues::default(),
            runtime: OnceLock::new(),
            tasks: TaskTracker::new(),
        };
        let bytes = match &config.directory {
            Some(_) => config.bytes,
            None => config.memory,
        };
        shared.metrics.spool.set_limits(config.messages as u64, bytes);
        *shared.write_failure.lock() = shared.disk_problem();
        shared.report_held();
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Runs pulls in this runtime from now on.
    pub fn start(&self, runtime: Handle) {
        // A second start changes nothing.
        let _ = self.shared.runtime.set(runtime);
    }

    /// Resolves when no pull is in progress.
    pub async fn settled(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// How long a connection has to be silent after a message for the message to count as delivered.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.shared.config.settle
    }

    /// Counts what the spool holds, and publishes it as metrics.
    pub async fn totals(&self) -> io::Result<Totals> {
        let shared = self.shared.clone();
        let count = off_thread(move || shared.count());
        let totals = tokio::time::timeout(PATIENCE, count)
            .await
            .map_err(io::Error::from)??;
        let gauge = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let metrics = &self.shared.metrics.spool;
        metrics.messages.set(gauge(totals.messages as u64));
        metrics.bytes.set(gauge(totals.bytes));
        metrics.oldest.set(totals.oldest.map_or(0.0, MessageId::seconds));
        metrics.failing.set(gauge(totals.failing as u64));
        metrics.retained_bytes.set(gauge(totals.retained_bytes));
        Ok(totals)
    }
}

impl SpoolState {
    pub(super) fn queue(&self, id: &QueueId) -> Arc<Queue> {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get(id) {
            return queue.clone();
        }
        // Under a rule that ends in `*`, callers may name any number of queues.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || queue.is_in_use());
        let queue = Arc::new(Queue::new(self.config.pauses.clone().into()));
        queues.insert(id.clone(), queue.clone());
        queue
    }

    /// Runs a task to its end, even if the request that began it is gone; a stop waits for it.
    pub(super) fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(self.tasks.track_future(task));
        }
    }

    /// An id that no message of this process has, and greater than `last`.
    pub(super) fn new_id(&self, last: Option<MessageId>) -> MessageId {
        let mut newest = self.newest.lock();
        let id = MessageId::now(last.max(*newest));
        *newest = Some(id);
        id
    }

    /// Counts all messages, which reads every queue's directory, and publishes what fails.
    pub(super) fn count(&self) -> io::Result<Totals> {
        let begun = Instant::now();
        self.store.unusable.check();
        self.store.unknown.check();
        self.check_unrequested();
        let counted = self.store.count();
        let failure = counted.as_ref().err().map(|error| self.cause(error));
        let is_open_to_others = self.is_open_to_others();
        self.record_count(begun, counted.as_ref().ok(), failure, is_open_to_others);
        counted
    }

    /// Records a count, unless one that began later is recorded already.
    pub(super) fn record_count(
        &self,
        begun: Instant,
        totals: Option<&Totals>,
        failure: Option<Problem>,
        is_open_to_others: bool,
    ) {
        let mut last = self.counted.lock();
        if last.begun.is_none_or(|last| last <= begun) {
            *last = Counted {
                begun: Some(begun),
                totals: totals.copied().unwrap_or(last.totals),
                failure,
                is_open_to_others,
            };
        }
        drop(last);
        self.publish();
    }

    /// Adds a new message to the last count.
    pub(super) fn add_to_count(&self, bytes: u64) {
        let totals = &mut self.counted.lock().totals;
        totals.messages += 1;
        totals.bytes += bytes;
    }

    /// Fails where no more may be pulled.
    pub(super) fn check_bounds(&self) -> Result<(), SpoolError> {
        let (is_recent, totals) = {
            let last = self.counted.lock();
            let is_recent = last.begun.is_some_and(|begun| begun.elapsed() < RECENT);
            (is_recent && last.failure.is_none(), last.totals)
        };
        if is_recent && self.full(&totals).is_none() {
            return Ok(());
        }
        let totals = self.count()?;
        self.full(&totals)
            .map_or(Ok(()), |full| Err(SpoolError::Full(full)))
    }

    /// Failing messages, as of the last count.
    pub(super) fn failing(&self) -> usize {
        self.counted.lock().totals.failing
    }

    fn report_held(&self) {
        let Ok(totals) = self.count() else { return };
        if totals.messages > 0 {
            tracing::warn!(
                held = totals.messages,
                "pulled messages wait in the spool for the next pull"
            );
        }
    }
}
