//! The check whether a running daemon's configuration still requests each queue that holds undelivered messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::blocking::off_thread;
use super::requested::{RequestedQueues, UndeliveredQueue};
use super::spool_state::{Spool, SpoolState};
use crate::config;

/// How long the watch waits for a check.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

impl Spool {
    /// Sets the upstreams that listeners serve, at the start and after a reload.
    pub fn set_upstreams(&self, upstreams: Vec<config::Upstream>) {
        let unrequested = &self.shared.unrequested;
        *unrequested.upstreams.lock() = Some(upstreams.into());
        unrequested.changed.notify_one();
    }
}

impl SpoolState {
    /// Checks whether each queue with undelivered messages can be requested, and publishes those that cannot.
    pub(super) async fn check_queues(self: &Arc<Self>) {
        if self.unrequested.is_checking.swap(true, Ordering::Acquire) {
            return;
        }
        let shared = self.clone();
        let check = off_thread(move || {
            shared.find_unrequested();
            shared.unrequested.is_checking.store(false, Ordering::Release);
            Ok(())
        });
        let _ = tokio::time::timeout(LONGEST_CHECK, check).await;
    }

    pub(super) fn find_unrequested(&self) {
        let Some(upstreams) = self.unrequested.upstreams.lock().clone() else {
            return;
        };
        let requested = RequestedQueues::of(&*upstreams);
        let held = self.undelivered_queues().into_iter();
        let found = held.filter_map(|held| {
            let directory = (!self.store.is_in_memory()).then_some(&*self.store.root);
            requested.problem(&held, directory).map(|problem| (held, problem))
        });
        let found: Vec<_> = found.collect();
        let is_changed = !found.is_empty() || !self.unrequested.found.lock().is_empty();
        *self.unrequested.found.lock() = found;
        if is_changed {
            self.publish();
        }
    }

    /// The queues with undelivered messages that no connection has.
    fn undelivered_queues(&self) -> Vec<UndeliveredQueue> {
        let mut held = self.store.undelivered_queues();
        for UndeliveredQueue { queue, messages } in &mut held {
            let known = self.queues.lock().get(queue).cloned();
            *messages -= known.map_or(0, |known| known.in_progress().len()).min(*messages);
        }
        held.retain(|held| held.messages > 0);
        held
    }

    /// Forgets the queues that are empty by now. Waits for the disk.
    pub(super) fn check_unrequested(&self) {
        if self.unrequested.found.lock().is_empty() {
            return;
        }
        let found = self.unrequested.found.lock().clone();
        let held: Vec<_> = found
            .into_iter()
            .map(|(held, _)| held.queue)
            .filter(|queue| self.store.holds_undelivered(queue))
            .collect();
        let is_held = |queue: &UndeliveredQueue| held.contains(&queue.queue);
        self.unrequested.found.lock().retain(|(queue, _)| is_held(queue));
    }
}
