//! What fails in the spool, and since when: for the status, the metrics, the log and the callers.

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use super::check::check;
use super::id::QueueId;
use super::spool_state::{Counted, Spool, SpoolState};
use super::sweep::OVERDUE;
use super::totals::Totals;
use crate::platform::files;
use crate::platform::shell::close_directory;
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

    /// Why a request waits for its queue; `None` while its queue is not known.
    #[must_use]
    pub fn why_waiting(&self, queue: Option<&QueueId>) -> Problem {
        let locked = self.shared.locked.lock();
        queue
            .filter(|queue| locked.contains(queue))
            .map_or_else(problems::pull_waits, problems::locked)
    }
}

impl SpoolState {
    /// Records that the directory cannot be used. Returns the cause. Waits for the disk.
    ///
    /// A failure that a count has, too, ends when a count succeeds; another one when a pull can be written.
    pub(super) fn disk_failed(&self, error: &io::Error) -> Problem {
        let problem = self.cause(error);
        if self.count().is_ok() {
            *self.write_failure.lock() = Some(problem.clone());
            self.publish();
        }
        problem
    }

    /// Records that a pull could be written.
    pub(super) fn disk_works(&self) {
        if self.write_failure.lock().take().is_some() {
            self.publish();
        }
    }

    /// Checks whether the directory still cannot be written. What [`check`] does not find lasts until a pull can be
    /// written. Waits for the disk.
    pub(super) fn check_write_failure(&self) {
        if self.write_failure.lock().is_none() {
            return;
        }
        let unusable = problems::unusable("").code();
        let found = self.disk_problem();
        let mut known = self.write_failure.lock();
        let is_to_replace = |known: &Problem| found.is_some() || known.code() != unusable;
        if known.as_ref().is_some_and(is_to_replace) {
            *known = found;
        }
    }

    /// Forgets the locks of other processes that have ended. Waits for the disk.
    pub(super) fn check_locks(&self) {
        let known = self.locked.lock().clone();
        for queue in known.iter().filter(|queue| !self.store.is_locked(queue)) {
            self.set_locked(queue, false);
        }
    }

    /// Why the directory cannot be used: what `bondgate check` would report, or else this error.
    pub(super) fn cause(&self, error: &io::Error) -> Problem {
        self.disk_problem().unwrap_or_else(|| problems::unusable(error))
    }

    /// What `bondgate check` would report of the directory.
    pub(super) fn disk_problem(&self) -> Option<Problem> {
        let root = &self.store.root;
        if self.store.is_in_memory() {
            None
        } else if !root.is_dir() {
            Some(problems::directory_missing(root.display()))
        } else {
            let open = machine::spool_open_to_others("", "").code();
            check(root).into_iter().find(|problem| problem.code() != open)
        }
    }

    /// Whether every user of this machine may write in the directory.
    pub(super) fn is_open_to_others(&self) -> bool {
        !self.store.is_in_memory() && files::is_writable_by_others(&self.store.root)
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

    /// Publishes what fails, by what is known of the disk, the last count and the callers. Logs each change. Does not
    /// wait for the disk.
    pub(super) fn publish(&self) {
        let _publishing = self.publishing.lock();
        let callers: BTreeSet<_> = self
            .queues
            .lock()
            .values()
            .flat_map(|queue| queue.failed_deliveries.at_fault())
            .collect();
        let mut found = self.store.unusable.problems();
        found.extend(self.unrequested.problems());
        let unknown = self.store.unknown.problem();
        let mut add = |problem, subject| found.push(Lasting::new(problem, subject));
        for caller in callers {
            add(problems::caller_at_fault(&caller), caller.to_string());
        }
        for queue in &*self.locked.lock() {
            add(problems::locked(queue), queue.to_string());
        }
        let write_failure = self.write_failure.lock().clone();
        let sweep_failure = self.sweep_failure.lock().clone();
        let counted = self.counted.lock();
        let failure = write_failure
            .or_else(|| counted.failure.clone())
            .or(sweep_failure);
        for problem in failure
            .into_iter()
            .chain(unknown)
            .chain(self.problems_of(&counted))
        {
            add(problem, String::new());
        }
        drop(counted);
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

    /// The problems that a count shows.
    fn problems_of(&self, counted: &Counted) -> Vec<Problem> {
        let Counted { totals, .. } = counted;
        let root = self.store.root.display();
        let oldest = totals
            .oldest
            .filter(|oldest| oldest.time() + OVERDUE <= SystemTime::now());
        let percent = self.percent(totals);
        let is_nearly_full = percent >= NEARLY_FULL_PERCENT;
        let number = |count: usize, problem: fn(usize) -> Problem| (count > 0).then(|| problem(count));
        let found = [
            counted
                .is_open_to_others
                .then(|| machine::spool_open_to_others(root, close_directory(&self.store.root))),
            self.full(totals)
                .or_else(|| is_nearly_full.then(|| problems::nearly_full(percent, totals.messages))),
            oldest.map(|oldest| problems::messages_overdue(totals.messages, oldest)),
            number(totals.failing, problems::messages_failing),
            number(totals.set_aside, problems::dead_letters),
            number(totals.perhaps_lost, problems::messages_lost),
            number(totals.damaged, problems::files_damaged),
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
