//! Messages in memory, where there is no directory: bounded in bytes, and lost when the process ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::blocking::lock;
use super::directory::Search;
use super::file::State;
use super::holding::Holding;
use super::id::{MessageId, QueueId};
use super::message::Message;

/// The messages of all queues.
pub(super) struct Memory {
    /// A permit for each byte of `spool.memory`.
    free: Arc<Semaphore>,
    queues: Mutex<HashMap<QueueId, Vec<Entry>>>,
}

struct Entry {
    message: Arc<Message>,
    is_dead_letter: bool,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            queues: Mutex::default(),
        }
    }

    /// A share of the memory, or `None` if so much is not free.
    pub(super) fn share(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.free.clone().try_acquire_many_owned(bytes).ok()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// The number of messages.
    pub(super) fn len(&self) -> usize {
        lock(&self.queues).values().map(Vec::len).sum()
    }

    pub(super) fn insert(&self, message: Arc<Message>) {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(message.intent.queue.clone()).or_default();
        queue.push(Entry {
            message,
            is_dead_letter: false,
        });
    }

    pub(super) fn remove(&self, message: &Message) {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get_mut(&message.intent.queue) {
            queue.retain(|entry| entry.message.id() != message.id());
        }
        queues.retain(|_, queue| !queue.is_empty());
    }

    /// The oldest message. No command reaches a dead letter in memory: it is offered again where it leaves no memory for
    /// others.
    pub(super) fn oldest(&self, search: &Search<'_>) -> Option<Arc<Message>> {
        let queues = lock(&self.queues);
        let queue = queues.get(search.queue)?;
        let mut covered = queue.iter().filter(|entry| search.covers(entry.message.id()));
        let ready = covered.clone().find(|entry| !entry.is_dead_letter);
        let oldest = ready.or_else(|| covered.find(|_| self.is_full()));
        oldest.map(|entry| entry.message.clone())
    }

    /// Makes a dead letter of a message. Returns whether there is such a message.
    pub(super) fn make_dead_letter(&self, queue: &QueueId, id: MessageId) -> bool {
        let mut queues = lock(&self.queues);
        let mut entries = queues.get_mut(queue).into_iter().flatten();
        let entry = entries.find(|entry| entry.message.id() == id);
        entry.map(|entry| entry.is_dead_letter = true).is_some()
    }

    pub(super) fn count(&self) -> Holding {
        let mut holding = Holding::default();
        for Entry {
            message,
            is_dead_letter,
        } in lock(&self.queues).values().flatten()
        {
            let state = if *is_dead_letter {
                State::DeadLetter
            } else {
                State::Ready
            };
            holding.add(state, message.id(), message.failures(), message.body.length);
        }
        holding
    }

    /// The messages of each queue that are ready to be delivered.
    pub(super) fn ready(&self) -> Vec<(String, Vec<MessageId>)> {
        let queues = lock(&self.queues);
        let ready = queues.iter().map(|(queue, entries)| {
            let ready = entries.iter().filter(|entry| !entry.is_dead_letter);
            (queue.to_string(), ready.map(|entry| entry.message.id()).collect())
        });
        ready.collect()
    }
}
