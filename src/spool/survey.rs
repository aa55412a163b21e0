//! What fails in the spool, and since when: for the status, the metrics, the log and the callers.

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use super::check::check;
use super::id::QueueId;
use super::spool_state::{Spool, SpoolState};
use super::sweep::OVERDUE;
use super::totals::Totals;
use crate::platform::files;
use crate::problems::{Problem, Severity, machine, spool as problems};
use crate::telemetry::Lasting;

/// The spool is nearly full from here on.
const NEARLY_FULL_PERCENT: u64 = 80;

impl Spool {
    /// What fails, and since when.
    #[must_use]
    pub fn problems(&self) -> Vec<Lasting> {
        self.shared.problems.get()
    }

    /// Why a request waits for its queue.
    #[must_use]
    pub fn why_waiting(&self) -> Problem {
        let locked = self.shared.locked.lock();
        locked
            .iter()
            .next()
            .map_or_else(problems::pull_waits, problems::locked)
    }
}

impl SpoolState {
    /// Records that the directory cannot be used. Returns the cause.
    pub(super) fn disk_failed(&self, error: &io::Error) -> Problem {
        let problem = self.disk_problem();
        let problem = problem.unwrap_or_else(|| problems::unusable(error));
        *self.disk.lock() = Some(problem.clone());
        self.publish();
        problem
    }

    /// Records that a pull could be written.
    pub(super) fn disk_works(&self) {
        if self.disk.lock().take().is_some() {
            self.publish();
        }
    }

    /// Looks whether what was wrong with the disk is still wrong. What only a pull meets lasts until a pull succeeds.
    pub(super) fn check_disk(&self) {
        let unusable = problems::unusable("").code();
        let found = self.disk_problem();
        let mut disk = self.disk.lock();
        if found.is_some() || disk.as_ref().is_some_and(|known| known.code() != unusable) {
            *disk = found;
        }
    }

    /// What `bondgate check` would report of the directory.
    fn disk_problem(&self) -> Option<Problem> {
        let root = &self.store.root;
        if self.store.is_in_memory() {
            None
        } else if !root.is_dir() {
            Some(problems::directory_missing(root.display()))
        } else {
            let open = machine::spool_open_to_others("").code();
            check(root).into_iter().find(|problem| problem.code() != open)
        }
    }

    /// Records whether another process keeps a queue locked.
    pub(super) fn set_locked(&self, queue: &QueueId, is_locked: bool) {
        let mut locked = self.locked.lock();
        let is_changed = if is_locked {
            locked.insert(queue.clone())
        } else {
            locked.remove(queue)
        };
        drop(locked);
        if is_changed {
            self.publish();
        }
    }

    /// Publishes what fails, by what is known of the disk, the last count and the callers. Logs each change.
    pub(super) fn publish(&self) {
        let counted = *self.counted.lock();
        let totals = counted.map(|(_, totals)| totals).unwrap_or_default();
        let callers: BTreeSet<_> = self
            .queues
            .lock()
            .values()
            .flat_map(|queue| queue.failed_deliveries.at_fault())
            .collect();
        let mut found = self.store.unusable.problems();
        let mut add = |problem, subject| found.push(Lasting::new(problem, subject));
        for caller in callers {
            add(problems::caller_at_fault(&caller), caller.to_string());
        }
        for queue in &*self.locked.lock() {
            add(problems::locked(queue), queue.to_string());
        }
        let disk = self.disk.lock().clone();
        for problem in disk.into_iter().chain(self.problems_of(&totals)) {
            add(problem, String::new());
        }
        let (new, over) = self.problems.replace(found);
        for Lasting { problem, .. } in new {
            let code = problem.code();
            match problem.entry().severity {
                Severity::Error => tracing::error!(problem = code, error = %problem, "spool problem"),
                Severity::Warning => tracing::warn!(problem = code, error = %problem, "spool problem"),
            }
        }
        for Lasting { problem, subject, .. } in over {
            tracing::info!(was = problem.code(), of = subject, "spool problem is over");
        }
    }

    /// The problems that numbers show.
    fn problems_of(&self, totals: &Totals) -> Vec<Problem> {
        let root = &self.store.root;
        let is_open = !self.store.is_in_memory() && files::is_writable_by_others(root);
        let oldest = totals
            .oldest
            .filter(|oldest| oldest.time() + OVERDUE <= SystemTime::now());
        let percent = self.percent(totals);
        let is_nearly_full = percent >= NEARLY_FULL_PERCENT;
        let counted = |count: usize, problem: fn(usize) -> Problem| (count > 0).then(|| problem(count));
        let found = [
            is_open.then(|| machine::spool_open_to_others(root.display())),
            self.full(totals)
                .or_else(|| is_nearly_full.then(|| problems::nearly_full(percent, totals.messages))),
            oldest.map(|oldest| problems::messages_overdue(totals.messages, oldest)),
            counted(totals.failing, problems::messages_failing),
            counted(totals.set_aside, problems::dead_letters),
            counted(totals.perhaps_lost, problems::messages_lost),
            counted(totals.damaged, problems::files_damaged),
        ];
        found.into_iter().flatten().collect()
    }

    /// Why no more may be pulled, if the spool is full.
    pub(super) fn full(&self, totals: &Totals) -> Option<Problem> {
        let Totals { messages, bytes, .. } = *totals;
        match &self.store.memory {
            Some(memory) if memory.is_full() => Some(problems::memory_full(messages, bytes)),
            None if bytes >= self.config.bytes => Some(problems::full(messages, bytes)),
            _ if messages >= self.config.messages => Some(problems::full(messages, bytes)),
            _ => None,
        }
    }

    fn percent(&self, totals: &Totals) -> u64 {
        let limit = match &self.store.memory {
            Some(_) => self.config.memory,
            None => self.config.bytes,
        };
        let part = |used: u64, limit: u64| used.saturating_mul(100) / limit.max(1);
        part(totals.bytes, limit).max(part(totals.messages as u64, self.config.messages as u64))
    }
}
