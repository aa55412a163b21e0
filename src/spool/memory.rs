//! Messages in memory: all of them where there is no directory, and those that a disk would not take
//! where there is one. Bounded, and gone with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::file::{ATTEMPTS, Draft, State};
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
    is_aside: bool,
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
            let state = if entry.is_aside { State::Aside } else { State::Held };
            holding.add(
                state,
                entry.message.intent.pulled,
                entry.message.body.len() as u64,
            );
        }
    }

    /// Each message that is to be delivered.
    pub(super) fn held(&self) -> Vec<Intent> {
        let shared = self.shared();
        let held = shared.queues.values().flatten().filter(|entry| !entry.is_aside);
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
            is_aside: false,
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

    /// The oldest message of a queue that nobody has.
    pub(super) fn oldest(&self, key: &Key) -> Option<Stamp> {
        let mut shared = self.shared();
        let oldest = shared.oldest(key, self.bound)?;
        Some(oldest.message.intent.pulled)
    }

    /// Leases the oldest message of a queue that nobody has.
    pub(super) fn lease_oldest(&self, key: &Key) -> Option<Arc<Message>> {
        let mut shared = self.shared();
        let oldest = shared.oldest(key, self.bound)?;
        oldest.is_leased = true;
        Some(oldest.message.clone())
    }

    /// Ends a lease: nothing was sent, or, where `is_failed`, not to its end; the state that follows.
    pub(super) fn release(&self, message: &Message, is_failed: bool) -> State {
        let mut shared = self.shared();
        let Some(entry) = shared.find(&message.intent.key, message.intent.pulled) else {
            return State::Delivered;
        };
        entry.is_leased = false;
        entry.attempts += u32::from(is_failed);
        entry.is_aside = entry.attempts >= ATTEMPTS;
        if entry.is_aside { State::Aside } else { State::Held }
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
    /// Nobody can look at what is set aside here: where it leaves no room for others, it is offered again.
    fn oldest(&mut self, key: &Key, bound: u64) -> Option<&mut Entry> {
        let is_full = self.bytes >= bound;
        let queue = self.queues.get_mut(key)?;
        let at = queue
            .iter()
            .position(|entry| !entry.is_leased && !entry.is_aside)
            .or_else(|| queue.iter().position(|entry| !entry.is_leased && is_full))?;
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
