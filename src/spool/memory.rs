//! Messages in memory: all of them where there is no directory, and those that a disk would not take
//! where there is one. Bounded, and gone with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::file::{Draft, State};
use super::holding::Holding;
use super::key::Key;
use super::record::{Head, Intent, Stamp};

/// The messages in memory, of all queues.
pub(super) struct Memory {
    bound: u64,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    bytes: u64,
    queues: HashMap<Key, VecDeque<Entry>>,
}

struct Entry {
    message: Arc<Message>,
    attempts: u32,
    is_leased: bool,
    is_dead_letter: bool,
}

/// A message in memory.
pub(super) struct Message {
    pub(super) intent: Intent,
    pub(super) head: Head,
    pub(super) body: Bytes,
    /// The file that tells of its pull, where a disk took that and no more.
    draft: Option<Draft>,
    _share: Share,
}

/// Room in memory, given back when dropped.
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(bound: u64) -> Arc<Self> {
        Arc::new(Self {
            bound,
            shared: Mutex::default(),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a message that begins.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            memory: self.clone(),
            bytes: 0,
        }
    }

    /// Messages that no caller has.
    pub(super) fn count(&self) -> usize {
        self.shared().queues.values().map(VecDeque::len).sum()
    }

    /// Counts what is held.
    pub(super) fn add_to(&self, holding: &mut Holding) {
        for entry in self.shared().queues.values().flatten() {
            let state = if entry.is_dead_letter {
                State::DeadLetter
            } else {
                State::Held
            };
            let message = &entry.message;
            let bytes = message.body.len() as u64;
            holding.add(state, message.intent.pulled, entry.attempts, bytes);
        }
    }

    /// Each message that is to be delivered.
    pub(super) fn held(&self) -> Vec<Intent> {
        let shared = self.shared();
        let held = shared
            .queues
            .values()
            .flatten()
            .filter(|entry| !entry.is_dead_letter);
        held.map(|entry| entry.message.intent.clone()).collect()
    }

    /// Bytes that it may hold.
    pub(super) fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.shared().bytes >= self.bound
    }

    /// Takes a new message in, leased to whoever pulled it.
    pub(super) fn insert(
        &self,
        intent: Intent,
        head: Head,
        body: Bytes,
        draft: Option<Draft>,
        share: Share,
    ) -> Arc<Message> {
        let message = Arc::new(Message {
            intent,
            head,
            body,
            draft,
            _share: share,
        });
        let entry = Entry {
            message: message.clone(),
            attempts: 0,
            is_leased: true,
            is_dead_letter: false,
        };
        let mut shared = self.shared();
        let queue = shared.queues.entry(message.intent.key.clone()).or_default();
        queue.push_back(entry);
        message
    }

    /// The messages of a queue, whoever has them.
    pub(super) fn stamps(&self, key: &Key) -> Vec<Stamp> {
        let shared = self.shared();
        let queue = shared.queues.get(key).into_iter().flatten();
        queue.map(|entry| entry.message.intent.pulled).collect()
    }

    /// The oldest message of a queue that no caller has, newer than `after`.
    pub(super) fn oldest(&self, key: &Key, after: Option<Stamp>) -> Option<Stamp> {
        let mut shared = self.shared();
        let oldest = shared.oldest(key, after, self.bound)?;
        Some(oldest.message.intent.pulled)
    }

    /// Leases the oldest message of a queue that no caller has, newer than `after`.
    pub(super) fn lease_oldest(&self, key: &Key, after: Option<Stamp>) -> Option<Arc<Message>> {
        let mut shared = self.shared();
        let oldest = shared.oldest(key, after, self.bound)?;
        oldest.is_leased = true;
        Some(oldest.message.clone())
    }

    /// How many deliveries of a message failed.
    pub(super) fn attempts(&self, message: &Message) -> u32 {
        let mut shared = self.shared();
        let entry = shared.find(&message.intent.key, message.intent.pulled);
        entry.map_or(0, |entry| entry.attempts)
    }

    /// Ends a lease: nothing was sent, or, where `is_failed`, not to its end. Returns how many deliveries failed.
    pub(super) fn release(&self, message: &Message, is_failed: bool) -> u32 {
        let mut shared = self.shared();
        let Some(entry) = shared.find(&message.intent.key, message.intent.pulled) else {
            return 0;
        };
        entry.is_leased = false;
        entry.attempts = entry.attempts.saturating_add(u32::from(is_failed));
        entry.attempts
    }

    /// Makes a dead letter of a message, unless a caller has it just now. Returns whether it is one.
    pub(super) fn set_aside(&self, key: &Key, stamp: Stamp) -> bool {
        let mut shared = self.shared();
        let entry = shared.find(key, stamp).filter(|entry| !entry.is_leased);
        entry.is_some_and(|entry| {
            entry.is_dead_letter = true;
            true
        })
    }

    /// Forgets a message that a caller has.
    pub(super) fn delivered(&self, message: &Message) {
        let Intent { key, pulled, .. } = &message.intent;
        let mut shared = self.shared();
        if let Some(queue) = shared.queues.get_mut(key) {
            queue.retain(|entry| entry.message.intent.pulled != *pulled);
        }
        shared.queues.retain(|_, queue| !queue.is_empty());
        drop(shared);
        if let Some(draft) = &message.draft {
            let _ = draft.discard();
        }
    }
}

impl Shared {
    /// No command reaches a dead letter in memory: where it leaves no room for others, it is offered again.
    fn oldest(&mut self, key: &Key, after: Option<Stamp>, bound: u64) -> Option<&mut Entry> {
        let is_full = self.bytes >= bound;
        let queue = self.queues.get_mut(key)?;
        let is_free =
            |entry: &Entry| !entry.is_leased && after.is_none_or(|after| entry.message.intent.pulled > after);
        let at = queue
            .iter()
            .position(|entry| is_free(entry) && !entry.is_dead_letter)
            .or_else(|| queue.iter().position(|entry| is_free(entry) && is_full))?;
        queue.get_mut(at)
    }

    fn find(&mut self, key: &Key, stamp: Stamp) -> Option<&mut Entry> {
        let queue = self.queues.get_mut(key)?;
        queue
            .iter_mut()
            .find(|entry| entry.message.intent.pulled == stamp)
    }
}

impl Share {
    /// Takes so much more; whether it was there.
    pub(super) fn grow(&mut self, by: u64) -> bool {
        let mut shared = self.memory.shared();
        if shared.bytes + by > self.memory.bound {
            return false;
        }
        shared.bytes += by;
        self.bytes += by;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.shared().bytes -= self.bytes;
    }
}
