//! The sweep: removes what is retained for too long, and warns of messages that wait for too long.

use std::io;
use std::time::{Duration, SystemTime};

use super::blocking::off_thread;
use super::spool_state::{Spool, SpoolState};

/// How long a message may wait before it is warned of.
const OVERDUE: Duration = Duration::from_secs(3600);
/// Between two sweeps.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

impl Spool {
    /// Sweeps at intervals, for ever.
    pub async fn watch(self) {
        let keep = self.shared.config.keep;
        let interval = if keep.is_zero() {
            LONGEST
        } else {
            (keep / 100).clamp(SHORTEST, LONGEST)
        };
        let mut last = SystemTime::UNIX_EPOCH;
        loop {
            let (shared, now) = (self.shared.clone(), SystemTime::now());
            match off_thread(move || shared.sweep(last, now)).await {
                Ok(_) => last = now,
                Err(error) => tracing::warn!(%error, "spool directory cannot be swept"),
            }
            tokio::time::sleep(interval).await;
        }
    }
}

impl SpoolState {
    /// Sweeps once. Returns how many messages became overdue since the last sweep.
    pub(super) fn sweep(&self, last: SystemTime, now: SystemTime) -> io::Result<usize> {
        self.store.tidy(now)?;
        let mut overdue = self.store.ready()?;
        overdue.retain(|(id, _)| {
            let due = id.time() + OVERDUE;
            last < due && due <= now
        });
        if let Some((oldest, name)) = overdue.iter().min() {
            tracing::warn!(
                messages = overdue.len(),
                %oldest,
                name,
                "pulled messages have waited for an hour: no caller pulls, or deliveries fail; `bondgate spool list` names \
                 them"
            );
        }
        Ok(overdue.len())
    }
}
