//! Removes what is no longer needed: messages that were retained for long enough, and the folders of empty queues.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::folders::{LOCK_FILE, folders, lock_folder};
use super::message_file::list;
use super::moved_from::{self, MovedFrom};
use super::retention;
use super::store::Store;

impl Store {
    /// Removes what is retained for too long, and the folders of empty queues.
    pub(super) fn tidy(&self, now: SystemTime) -> io::Result<()> {
        if self.is_in_memory() {
            return Ok(());
        }
        let folders = folders(&self.root)?;
        self.retention.tidy(&folders, now)?;
        for folder in folders {
            if !list(&folder)?.is_empty() {
                continue;
            }
            let retained = retention::folder_in(&folder);
            // Each removal fails if anything is left in the folder.
            let _ = fs::remove_dir(&retained);
            let is_removed = retained.symlink_metadata().is_err();
            if is_removed && let Some(lock) = lock_folder(&folder)? {
                // A message may have been moved there before the lock, and another version may need the file `moved`.
                if is_without_messages(&folder)? {
                    MovedFrom::remove(&folder)?;
                    let removed = fs::remove_file(folder.join(LOCK_FILE));
                    // Older versions of Windows remove the file only when its last handle is closed.
                    drop(lock);
                    let _ = removed.and_then(|()| fs::remove_dir(&folder));
                }
            }
        }
        Ok(())
    }
}

/// Whether a queue's folder holds only files about the queue.
fn is_without_messages(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name != LOCK_FILE && !moved_from::is_name(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}
