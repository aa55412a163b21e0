//! The sweep: removes what is retained for too long, and warns of messages that wait for too long.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime};

use super::blocking::off_thread;
use super::id::MessageId;
use super::shared::{Shared, Spool};

/// How long a message may wait before it is warned of.
const OVERDUE: Duration = Duration::from_secs(3600);
/// Between two sweeps.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Messages of queues that were warned of.
pub(super) type Warned = HashSet<(String, MessageId)>;

impl Spool {
    /// Sweeps at intervals, for ever.
    pub async fn watch(self) {
        let keep = self.shared.config.keep;
        let interval = if keep.is_zero() {
            LONGEST
        } else {
            (keep / 100).clamp(SHORTEST, LONGEST)
        };
        let mut warned = Warned::new();
        loop {
            let shared = self.shared.clone();
            let swept = off_thread(move || {
                let swept = shared.sweep(&mut warned, SystemTime::now());
                Ok((swept, warned))
            });
            let Ok((swept, still_warned)) = swept.await else {
                return;
            };
            warned = still_warned;
            if let Err(error) = swept {
                tracing::warn!(%error, "spool directory cannot be swept");
            }
            tokio::time::sleep(interval).await;
        }
    }
}

impl Shared {
    /// Sweeps once. Returns how many messages of each queue are newly overdue.
    pub(super) fn sweep(&self, warned: &mut Warned, now: SystemTime) -> io::Result<Vec<usize>> {
        if let Some(directory) = self.store.directory() {
            directory.tidy(now)?;
        }
        let mut still_overdue = Warned::new();
        let mut counts = Vec::new();
        for (queue, ids) in self.store.ready()? {
            let overdue = ids.into_iter().filter(|id| id.time() + OVERDUE <= now);
            let overdue: Warned = overdue.map(|id| (queue.clone(), id)).collect();
            let new: Vec<_> = overdue.difference(warned).map(|(_, id)| *id).collect();
            if let Some(oldest) = new.iter().min() {
                tracing::warn!(
                    queue,
                    messages = new.len(),
                    %oldest,
                    "pulled messages have waited for an hour: no caller pulls, or deliveries fail; `bondgate spool list` \
                     names them"
                );
                counts.push(new.len());
            }
            still_overdue.extend(overdue);
        }
        *warned = still_overdue;
        Ok(counts)
    }
}
