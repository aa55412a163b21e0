//! Messages in memory, where there is no directory. They are lost when the process ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::format::Content;
use super::id::MessageId;
use super::message_file::FileName;

/// Ties bytes to their share of the memory.
pub(super) fn with_share(bytes: Bytes, share: Option<OwnedSemaphorePermit>) -> Bytes {
    Bytes::from_owner(Passing { bytes, _share: share })
}

impl AsRef<[u8]> for Passing {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The messages of all queues.
pub(super) struct Memory {
    /// With the folder and the name that their files would have. By id, since another request may rename a message
    /// while it is delivered.
    messages: Mutex<BTreeMap<(PathBuf, MessageId), Held>>,
    /// A permit for each byte of `spool.memory`.
    free: Arc<Semaphore>,
    /// How many bytes must be free before a pull is sent, so that its message can be stored.
    reserve: usize,
}

/// Bytes that are not stored. Dropped, they give their share of the memory back.
struct Passing {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// The same as on disk, or half of a smaller memory.
const RESERVE: usize = 2 << 20;

type Held = (FileName, Arc<Content>);

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            messages: Mutex::default(),
            free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            reserve: RESERVE.min(bytes.div_ceil(2)),
        }
    }

    /// A share of the memory, or `None` if so much is not free.
    pub(super) fn share(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.free.clone().try_acquire_many_owned(bytes).ok()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.available_permits() < self.reserve
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> = self
            .messages
            .lock()
            .keys()
            .map(|(folder, _)| folder.clone())
            .collect();
        folders.dedup();
        folders
    }

    /// The messages in a folder, the oldest first.
    pub(super) fn list(&self, folder: &Path) -> Vec<FileName> {
        let messages = self.messages.lock();
        let in_folder = messages.iter().filter(|((queue, _), _)| queue == folder);
        in_folder.map(|(_, (name, _))| *name).collect()
    }

    pub(super) fn find(&self, folder: &Path, id: MessageId) -> Option<Arc<Content>> {
        let messages = self.messages.lock();
        messages
            .get(&(folder.to_owned(), id))
            .map(|(_, content)| content.clone())
    }

    pub(super) fn insert(&self, folder: &Path, name: FileName, content: Arc<Content>) {
        let key = (folder.to_owned(), name.id);
        self.messages.lock().insert(key, (name, content));
    }

    /// Gives a message another name. Returns whether it exists.
    pub(super) fn rename(&self, folder: &Path, to: FileName) -> bool {
        let mut messages = self.messages.lock();
        let message = messages.get_mut(&(folder.to_owned(), to.id));
        message.map(|(name, _)| *name = to).is_some()
    }

    pub(super) fn remove(&self, folder: &Path, id: MessageId) {
        self.messages.lock().remove(&(folder.to_owned(), id));
    }
}
