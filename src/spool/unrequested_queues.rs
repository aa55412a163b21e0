//! The queues that hold undelivered messages and that no request can name any more, in a running daemon.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::requested::UndeliveredQueue;
use crate::config;
use crate::problems::Problem;
use crate::telemetry::Lasting;

/// The queues that no request can name, as of the last check.
#[derive(Default)]
pub(super) struct UnrequestedQueues {
    /// The upstreams that listeners serve; `None` before the first configuration is applied.
    pub(super) upstreams: Mutex<Option<Arc<[config::Upstream]>>>,
    pub(super) found: Mutex<Vec<(UndeliveredQueue, Problem)>>,
    /// A check is under way, which may wait for the file of a client id.
    pub(super) is_checking: AtomicBool,
    /// Wakes the watch after a change of the upstreams.
    pub(super) changed: Notify,
}

impl UnrequestedQueues {
    pub(super) fn problems(&self) -> Vec<Lasting> {
        let lasting = |(held, problem): &(UndeliveredQueue, Problem)| {
            Lasting::new(problem.clone(), held.queue.to_string())
        };
        self.found.lock().iter().map(lasting).collect()
    }
}
