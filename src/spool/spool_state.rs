//! [`Spool`], and its state in this process, which its parts share.

use std::collections::{BTreeSet, HashMap};
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
use crate::config;
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
    /// The last count, and when it was made.
    counted: Mutex<Option<(Instant, Totals)>>,
    /// Why the directory cannot be used.
    trouble: Mutex<Option<String>>,
    runtime: OnceLock<Handle>,
    tasks: TaskTracker,
}

/// What is wrong with a caller that takes no message.
pub(super) const AT_FAULT: &str = "takes no pulled message: its connections were reset during several messages; look at \
                                   the caller's own log, and restart it; the messages stay in the queue, and other \
                                   callers can pull them";
/// Five is [`FAILING`](super::failed_deliveries::FAILING).
const FAILING_MESSAGES: &str = "pulled messages failed delivery five times or more and stay in the queue; `bondgate spool \
                                list` names them; look at the log of the caller that pulls them";
const UNUSABLE: &str = "the spool's directory cannot be used, and nothing is pulled; make it writable for bondgate's user, \
                        and free disk space, or raise the quota or file-size limit of bondgate's process (ulimit -f, \
                        LimitFSIZE=)";

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
            metrics,
            queues: Mutex::default(),
            newest: Mutex::default(),
            counted: Mutex::default(),
            trouble: Mutex::default(),
            runtime: OnceLock::new(),
            tasks: TaskTracker::new(),
        };
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

    /// The number of messages that are lost when the process ends: those in memory.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        let store = &self.shared.store;
        let held = store.is_in_memory().then(|| store.count().unwrap_or_default());
        held.map_or(0, |held| held.messages + held.set_aside)
    }

    /// How long a connection has to be silent after a message for the message to count as delivered.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.shared.config.settle
    }

    /// What keeps messages from being pulled or delivered, a line each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let shared = &self.shared;
        let callers: BTreeSet<_> = shared
            .queues
            .lock()
            .values()
            .flat_map(|queue| queue.failed_deliveries.at_fault())
            .collect();
        let at_fault = callers.iter().map(|caller| format!("caller {caller} {AT_FAULT}"));
        let mut troubles: Vec<_> = at_fault.collect();
        let failing = shared.failing();
        if failing > 0 {
            troubles.push(format!("{failing} {FAILING_MESSAGES}"));
        }
        troubles.extend(shared.trouble.lock().clone());
        troubles
    }

    /// Counts what the spool holds, and publishes it as metrics.
    pub async fn totals(&self) -> io::Result<Totals> {
        let shared = self.shared.clone();
        let totals = tokio::time::timeout(PATIENCE, off_thread(move || shared.count()));
        let totals = totals.await.map_err(io::Error::from)??;
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

    /// Counts all messages, which reads every queue's directory.
    pub(super) fn count(&self) -> io::Result<Totals> {
        let totals = self.store.count()?;
        *self.counted.lock() = Some((Instant::now(), totals));
        Ok(totals)
    }

    /// Adds a new message to the last count.
    pub(super) fn add_to_count(&self, bytes: u64) {
        if let Some((_, totals)) = &mut *self.counted.lock() {
            totals.messages += 1;
            totals.bytes += bytes;
        }
    }

    /// Fails where no more may be pulled.
    pub(super) fn check_bounds(&self) -> Result<(), SpoolError> {
        let recent = self.counted.lock().filter(|(at, _)| at.elapsed() < RECENT);
        if recent.is_some_and(|(_, totals)| !self.is_full(&totals)) {
            return Ok(());
        }
        let totals = self.count()?;
        let Totals { messages, bytes, .. } = totals;
        if self.is_full(&totals) {
            return Err(SpoolError::Full { messages, bytes });
        }
        Ok(())
    }

    fn is_full(&self, totals: &Totals) -> bool {
        let is_out_of_bytes = match &self.store.memory {
            Some(memory) => memory.is_full(),
            None => totals.bytes >= self.config.bytes,
        };
        is_out_of_bytes || totals.messages >= self.config.messages
    }

    /// Failing messages, as of the last count.
    pub(super) fn failing(&self) -> usize {
        self.counted.lock().map_or(0, |(_, totals)| totals.failing)
    }

    /// Reports that the directory cannot be used, or can be used again, where that is new.
    pub(super) fn report_disk(&self, error: Option<&io::Error>) {
        let mut trouble = self.trouble.lock();
        match error {
            Some(error) if trouble.is_none() => tracing::error!(%error, "{UNUSABLE}"),
            None if trouble.is_some() => tracing::info!("the spool's directory can be used again"),
            _ => {}
        }
        *trouble = error.map(|error| format!("{UNUSABLE} ({error})"));
    }

    fn report_held(&self) {
        let Ok(totals) = self.count() else { return };
        if totals.messages > 0 {
            tracing::warn!(
                held = totals.messages,
                "pulled messages wait in the spool for the next pull"
            );
        }
        if totals.failing > 0 {
            tracing::error!(failing = totals.failing, "{FAILING_MESSAGES}");
        }
    }
}
