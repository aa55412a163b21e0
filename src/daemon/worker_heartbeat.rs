//! The workers' heartbeats, which the watchdog depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The heartbeats of all workers.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Vec<Arc<AtomicBool>>);

/// One worker's heartbeat. It runs on the worker's own runtime, so that a stalled worker has none.
#[derive(Debug)]
pub(super) struct Heartbeat(Arc<AtomicBool>);

impl Heartbeats {
    /// Adds a worker.
    pub(super) fn add(&mut self) -> Heartbeat {
        let has_beaten = Arc::new(AtomicBool::new(false));
        self.0.push(has_beaten.clone());
        Heartbeat(has_beaten)
    }

    /// Whether every worker has sent a heartbeat since the last check. Workers that have ended do not count.
    pub(super) fn check(&mut self) -> bool {
        self.0.retain(|has_beaten| Arc::strong_count(has_beaten) > 1);
        let beats = self
            .0
            .iter()
            .map(|has_beaten| has_beaten.swap(false, Ordering::Relaxed));
        beats.fold(true, |all, has_beaten| all & has_beaten)
    }
}

impl Heartbeat {
    /// Beats as long as it is polled.
    pub(super) async fn run(self, interval: Duration) {
        loop {
            self.0.store(true, Ordering::Relaxed);
            tokio::time::sleep(interval).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_worker_is_noticed_and_one_that_has_ended_is_not() {
        let mut heartbeats = Heartbeats::default();
        let interval = Duration::from_secs(1);
        let beating = tokio::spawn(heartbeats.add().run(interval));
        let ending = tokio::spawn(heartbeats.add().run(interval));
        tokio::time::sleep(interval).await;
        assert!(heartbeats.check());
        ending.abort();
        assert!(ending.await.is_err());
        tokio::time::sleep(interval * 2).await;
        assert!(heartbeats.check());

        let stalled = heartbeats.add();
        assert!(!heartbeats.check());
        drop(stalled);
        tokio::time::sleep(interval * 2).await;
        assert!(heartbeats.check());
        assert!(!heartbeats.check(), "no beat since the last check");
        beating.abort();
    }
}
