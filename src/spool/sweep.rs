//! The sweep: removes what is retained for too long, searches for files of other versions, and checks which problems have
//! ended.

use std::io;
use std::time::{Duration, SystemTime};

use super::blocking::off_thread;
use super::spool_state::{Spool, SpoolState};

/// How long a message may wait before it is warned of.
pub(super) const OVERDUE: Duration = Duration::from_secs(3600);
/// Between two sweeps.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

impl Spool {
    /// Sweeps at intervals and after a change of the configuration, for ever.
    pub async fn watch(self) {
        let keep = self.shared.config.keep;
        let interval = if keep.is_zero() {
            LONGEST
        } else {
            (keep / 100).clamp(SHORTEST, LONGEST)
        };
        loop {
            let shared = self.shared.clone();
            // A failure is published.
            let _ = off_thread(move || shared.sweep(SystemTime::now())).await;
            self.shared.check_queues().await;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.shared.unrequested.changed.notified() => {}
            }
        }
    }
}

impl SpoolState {
    /// Sweeps once, and publishes what fails.
    pub(super) fn sweep(&self, now: SystemTime) -> io::Result<()> {
        self.check_write_failure();
        self.check_locks();
        let tidied = self.store.search_unknown().and_then(|()| self.store.tidy(now));
        let failure = tidied.as_ref().err().map(|error| self.cause(error));
        *self.sweep_failure.lock() = failure;
        let counted = self.count();
        tidied.and(counted.map(drop))
    }
}
