//! What the spool holds, in numbers, and the alarm about what it holds for too long.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use super::file::State;
use super::key::Key;
use super::pause::FAILURES;
use super::record::Stamp;
use super::writer::off_thread;
use super::{Shared, Spool};

/// What is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Messages that no caller has for certain.
    pub messages: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the oldest of them was pulled.
    pub oldest: Option<Stamp>,
    /// Of these, messages whose delivery has failed five times or more.
    pub failing: usize,
    /// Dead letters: `bondgate spool requeue --dead-letters` puts them back into their queue.
    pub set_aside: usize,
    /// The size of the delivered messages that are retained, in bytes.
    pub retained_bytes: u64,
    /// Pulls whose message may be lost.
    pub perhaps_lost: usize,
    /// Damaged files.
    pub damaged: usize,
}

/// How long a message may wait before somebody should hear of it.
const ALARM: Duration = Duration::from_secs(3600);
/// The least time between two looks.
const REST: Duration = Duration::from_secs(1);
/// The most, where something is kept: further than that a clock may be set.
const DAY: Duration = Duration::from_secs(86_400);
/// The least time between two looks for messages that wait for too long: what comes of age meanwhile is told
/// together.
const GATHER: Duration = Duration::from_secs(60);

/// How long somebody who asks waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages that somebody has heard of.
type Told = HashSet<(String, Stamp)>;

/// What a look at all that is held found.
#[derive(Debug, PartialEq)]
pub(super) struct Look {
    /// When to look again, where there is a reason to.
    pub(super) next: Option<Duration>,
    pub(super) overdue: Vec<Overdue>,
}

/// Messages of one queue that wait for too long.
#[derive(Debug, PartialEq)]
pub(super) struct Overdue {
    queue: Option<Key>,
    pub(super) messages: usize,
    oldest: Stamp,
}

impl Holding {
    pub(super) fn add(&mut self, state: State, pulled: Stamp, attempts: u32, bytes: u64) {
        match state {
            State::Held => {
                self.messages += 1;
                self.failing += usize::from(attempts >= FAILURES);
                self.bytes += bytes;
                self.oldest = Some(self.oldest.map_or(pulled, |oldest| oldest.min(pulled)));
            }
            State::DeadLetter => self.set_aside += 1,
            State::Lost => self.perhaps_lost += 1,
            State::Corrupt => self.damaged += 1,
            State::Pulling | State::Delivered => {}
        }
    }
}

impl Spool {
    /// What is held now; notes it among the metrics.
    pub async fn holding(&self) -> io::Result<Holding> {
        let shared = self.shared.clone();
        let holding = tokio::time::timeout(PATIENCE, off_thread(move || shared.holding()));
        let holding = holding.await.map_err(io::Error::from)?.flatten()?;
        let gauge = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let numbers = &self.shared.metrics.spool;
        numbers.messages.set(gauge(holding.messages as u64));
        numbers.bytes.set(gauge(holding.bytes));
        numbers.oldest.set(holding.oldest.map_or(0.0, Stamp::seconds));
        numbers.failing.set(gauge(holding.failing as u64));
        numbers.retained_bytes.set(gauge(holding.retained_bytes));
        Ok(holding)
    }

    /// Warns of each message that waits for an hour, once, and removes what was delivered when its time is
    /// over. Does nothing while nothing is held.
    pub async fn watch(self) {
        let soon = match (&self.shared.directory, self.shared.keep) {
            (Some(_), keep) if !keep.is_zero() => keep.clamp(REST, ALARM),
            _ => ALARM,
        };
        let mut told = Told::new();
        loop {
            let shared = self.shared.clone();
            let looked = off_thread(move || {
                let look = shared.look(&mut told, SystemTime::now());
                (look, told)
            });
            let Ok((look, kept)) = looked.await else { return };
            told = kept;
            let mut next = match look {
                Ok(look) => {
                    look.overdue.iter().for_each(Overdue::tell);
                    look.next.map(|after| Instant::now() + after)
                }
                Err(error) => {
                    tracing::warn!(%error, "the spool's directory cannot be looked through");
                    Some(Instant::now() + ALARM)
                }
            };
            loop {
                // What came since the last look is due later than all before it, or within `soon`.
                let due = async {
                    match next {
                        Some(next) => tokio::time::sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = due => break,
                    () = self.shared.changed.notified() => {
                        let after = if self.shared.retains_too_much() { REST } else { soon };
                        let at = Instant::now() + after;
                        next = Some(next.map_or(at, |next| next.min(at)));
                    }
                }
            }
        }
    }
}

impl Shared {
    /// What is held now; waits for the disk.
    pub(super) fn holding(&self) -> io::Result<Holding> {
        let mut holding = Holding::default();
        if let Some(directory) = &self.directory {
            directory.add_to(&mut holding)?;
            holding.retained_bytes = directory.retention().bytes();
        }
        self.memory.add_to(&mut holding);
        self.failing.store(holding.failing, Ordering::Relaxed);
        Ok(holding)
    }

    /// Removes what is over, and finds what waits for too long and was not told.
    pub(super) fn look(&self, told: &mut Told, now: SystemTime) -> io::Result<Look> {
        let mut waiting: BTreeMap<String, (Option<Key>, Vec<Stamp>)> = BTreeMap::new();
        let mut removal = None;
        if let Some(directory) = &self.directory {
            removal = directory.tidy(now)?;
            for (folder, stamp, path) in directory.held()? {
                let queue = waiting.entry(folder).or_default();
                if queue.0.is_none() {
                    queue.0 = super::directory::intent_at(&path).map(|intent| intent.key);
                }
                queue.1.push(stamp);
            }
        }
        for intent in self.memory.held() {
            let queue = waiting.entry(intent.key.folder()).or_default();
            queue.1.push(intent.pulled);
            queue.0.get_or_insert(intent.key);
        }
        let mut alarm: Option<SystemTime> = None;
        let mut overdue = Vec::new();
        let mut still = Told::new();
        for (folder, (queue, stamps)) in waiting {
            let mut untold = Vec::new();
            for stamp in stamps {
                let due = stamp.time() + ALARM;
                if due > now {
                    alarm = Some(alarm.map_or(due, |alarm| alarm.min(due)));
                    continue;
                }
                let id = (folder.clone(), stamp);
                if !told.contains(&id) {
                    untold.push(stamp);
                }
                still.insert(id);
            }
            overdue.extend(untold.iter().min().map(|&oldest| Overdue {
                queue,
                messages: untold.len(),
                oldest,
            }));
        }
        *told = still;
        let until = |due: SystemTime| due.duration_since(now).unwrap_or_default();
        // Messages that are due within a hundredth of the time are removed together.
        let rest = (self.keep / 100).clamp(REST, DAY);
        let removal = removal.map(|due| until(due).clamp(rest, DAY));
        let alarm = alarm.map(|due| until(due).max(GATHER));
        Ok(Look {
            next: removal.into_iter().chain(alarm).min(),
            overdue,
        })
    }
}

impl Overdue {
    fn tell(&self) {
        tracing::warn!(
            queue = self.queue.as_ref().map(tracing::field::display),
            messages = self.messages,
            oldest = %self.oldest,
            "pulled messages have waited for an hour: no caller pulls, or deliveries fail; `bondgate spool list` names them"
        );
    }
}
