//! Where messages are: in the spool's directory, or in memory without one.

use std::io;

use super::directory::{Directory, Oldest, QueueLock, Search};
use super::holding::Holding;
use super::id::{MessageId, QueueId};
use super::memory::Memory;
use super::message::Message;

/// The messages of all queues. Every function may wait for the disk.
pub(super) enum Store {
    Directory(Directory),
    Memory(Memory),
}

impl Store {
    pub(super) fn directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Memory(_) => None,
        }
    }

    /// Locks a queue among processes; `None` while another has it locked.
    pub(super) fn lock_queue(&self, queue: &QueueId) -> io::Result<Option<QueueLock>> {
        match self {
            Self::Directory(directory) => directory.lock_queue(queue),
            Self::Memory(_) => Ok(Some(None)),
        }
    }

    /// The oldest message of a locked queue that a search covers.
    pub(super) fn oldest(&self, search: &Search<'_>) -> io::Result<Oldest> {
        match self {
            Self::Directory(directory) => directory.oldest(search),
            Self::Memory(memory) => Ok(memory.oldest(search).map_or(Oldest::None, Oldest::Message)),
        }
    }

    /// Takes a delivered message out of its queue.
    pub(super) fn deliver(&self, message: &Message) -> io::Result<()> {
        match self {
            Self::Directory(directory) => directory.deliver(message),
            Self::Memory(memory) => {
                memory.remove(message);
                Ok(())
            }
        }
    }

    /// Makes a dead letter of a message that is not in progress. Returns its name, which is empty in memory.
    pub(super) fn make_dead_letter(&self, queue: &QueueId, id: MessageId) -> io::Result<Option<String>> {
        match self {
            Self::Directory(directory) => directory.make_dead_letter(queue, id),
            Self::Memory(memory) => Ok(memory.make_dead_letter(queue, id).then(String::new)),
        }
    }

    pub(super) fn count(&self) -> io::Result<Holding> {
        match self {
            Self::Directory(directory) => directory.count(),
            Self::Memory(memory) => Ok(memory.count()),
        }
    }

    /// The messages of each queue that are ready to be delivered.
    pub(super) fn ready(&self) -> io::Result<Vec<(String, Vec<MessageId>)>> {
        match self {
            Self::Directory(directory) => directory.ready(),
            Self::Memory(memory) => Ok(memory.ready()),
        }
    }
}
