//! Messages in memory, where there is no directory. They are lost when the process ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file::FileName;
use super::format::Content;

/// The messages of all queues.
pub(super) struct Memory {
    /// By the folder and the name that their files would have.
    messages: Mutex<BTreeMap<(PathBuf, FileName), Arc<Content>>>,
    /// A permit for each byte of `spool.memory`.
    free: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            messages: Mutex::default(),
            free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
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
        let names = messages.keys().filter(|(queue, _)| queue == folder);
        names.map(|(_, name)| *name).collect()
    }

    pub(super) fn find(&self, folder: &Path, name: FileName) -> Option<Arc<Content>> {
        self.messages.lock().get(&(folder.to_owned(), name)).cloned()
    }

    pub(super) fn insert(&self, folder: &Path, name: FileName, content: Arc<Content>) {
        self.messages.lock().insert((folder.to_owned(), name), content);
    }

    pub(super) fn rename(&self, folder: &Path, from: FileName, to: FileName) {
        let mut messages = self.messages.lock();
        if let Some(content) = messages.remove(&(folder.to_owned(), from)) {
            messages.insert((folder.to_owned(), to), content);
        }
    }

    pub(super) fn remove(&self, folder: &Path, name: FileName) {
        self.messages.lock().remove(&(folder.to_owned(), name));
    }
}
