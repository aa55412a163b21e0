//! One queue, as this process works on it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::blocking::lock;
use super::id::MessageId;
use super::lease::{Lease, Leased, lease};
use super::pause::Pauses;

/// What this process does in a queue.
pub(super) struct Queue {
    /// Held by the one request that looks for a message, or pulls one.
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
    leases: Mutex<Vec<Lease>>,
    pub(super) pauses: Pauses,
}

/// Who asks for a message: the name that goes with a caller's key, or else its address.
pub type Caller = Arc<str>;

/// A caller that is served.
#[derive(Clone)]
pub(super) struct Recipient {
    pub(super) queue: Arc<Queue>,
    pub(super) caller: Caller,
    /// The older message that this caller failed to take, where the delivery of the next one is to show whether that
    /// message or the caller is at fault.
    pub(super) suspect: Option<MessageId>,
}

/// How long a connection may take to confirm that its caller is connected.
const CONFIRMATION: Duration = Duration::from_secs(1);

impl Queue {
    pub(super) fn new(pauses: Arc<[Duration]>) -> Self {
        Self {
            lock: Arc::default(),
            leases: Mutex::default(),
            pauses: Pauses::new(pauses),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Lease>> {
        let mut leases = lock(&self.leases);
        leases.retain(|lease| !lease.is_over());
        leases
    }

    pub(super) fn lease(&self, message: MessageId) -> Leased {
        let (lease, leased) = lease(message);
        self.leases().push(lease);
        leased
    }

    /// The messages that are on connections of this process.
    pub(super) fn in_progress(&self) -> Vec<MessageId> {
        self.leases().iter().map(|lease| lease.message).collect()
    }

    pub(super) fn is_in_use(&self) -> bool {
        !self.leases().is_empty() || !self.pauses.is_empty()
    }

    /// Waits until every message that is on a connection is confirmed there, or back in the queue.
    pub(super) async fn confirm_leases(&self) {
        let mut leases = self.leases().clone();
        for lease in &mut leases {
            lease.settled().await;
        }
        let deadline = Instant::now() + CONFIRMATION;
        for lease in &leases {
            if tokio::time::timeout_at(deadline, lease.confirmed())
                .await
                .is_err()
            {
                tracing::info!(
                    "connection does not confirm its caller in time, assuming that it is connected"
                );
            }
        }
        for lease in &mut leases {
            lease.settled().await;
        }
    }
}
