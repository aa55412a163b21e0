//! Delivered messages, retained so that they can be requeued. They are in a subfolder of each queue that no pull reads,
//! bounded in time and in bytes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::format::{FormatError, Intent};
use super::message_file::{FileName, LockedFile, MessageState, list};
use crate::platform::files;

/// How long and how much is retained.
pub(super) struct Retention {
    /// The time after the delivery; zero retains nothing.
    keep: Duration,
    /// The bytes of all queues.
    limit: u64,
    /// The retained bytes: counted by the last [`tidy`](Self::tidy), and added to since then.
    bytes: AtomicU64,
}

struct Retained {
    path: PathBuf,
    delivered: SystemTime,
    bytes: u64,
}

/// The subfolder of a queue's retained messages.
pub(super) fn folder_in(queue: &Path) -> PathBuf {
    queue.join("retained")
}

/// Whether a file is in such a subfolder.
pub(super) fn is_retained(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("retained"))
}

impl Retention {
    pub(super) fn new(keep: Duration, limit: u64) -> Self {
        Self {
            keep,
            limit,
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Takes a delivered message out of its queue. One that cannot be retained is removed, or it would be delivered
    /// again.
    pub(super) fn take(&self, delivered: &LockedFile) -> io::Result<()> {
        if self.keep.is_zero() || self.limit == 0 {
            return delivered.remove();
        }
        if let Err(error) = self.retain(delivered) {
            delivered.remove()?;
            tracing::warn!(%error, "delivered message removed and not retained; check the spool's disk");
        }
        Ok(())
    }

    fn retain(&self, delivered: &LockedFile) -> io::Result<()> {
        delivered.file.set_modified(SystemTime::now())?;
        let folder = folder_in(&delivered.folder);
        let name = FileName {
            state: MessageState::Delivered,
            ..delivered.name
        };
        let (from, to) = (delivered.path(), name.in_folder(&folder));
        let renamed = match files::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::create_private_directory(&folder)?;
                files::rename(&from, &to)
            }
            renamed => renamed,
        };
        match renamed {
            // The first version of Landlock does not allow a move to another directory.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(&from, &to).inspect_err(|_| drop(fs::remove_file(&to)))?;
                files::remove(&from)?;
            }
            renamed => renamed?,
        }
        self.bytes.fetch_add(delivered.length()?, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the messages whose time is over, and the oldest ones beyond the limit.
    pub(super) fn tidy(&self, queues: &[PathBuf], now: SystemTime) -> io::Result<()> {
        self.remove_oldest(queues, |message, all, left| {
            // A tenth more than necessary, so that not every delivery exceeds the limit again.
            let is_beyond_limit = all > self.limit && left > self.limit / 10 * 9;
            let due = message.delivered.checked_add(self.keep);
            is_beyond_limit || due.is_some_and(|due| due <= now)
        })?;
        Ok(())
    }

    /// Frees disk space. Returns whether there was anything to remove.
    pub(super) fn free(&self, queues: &[PathBuf], bytes: u64) -> io::Result<bool> {
        self.remove_oldest(queues, |_, all, left| left > all.saturating_sub(bytes))
    }

    /// Removes the oldest messages while a condition holds for the message, all bytes and those that are left. Returns
    /// whether any was removed.
    fn remove_oldest(
        &self,
        queues: &[PathBuf],
        is_over: impl Fn(&Retained, u64, u64) -> bool,
    ) -> io::Result<bool> {
        let mut retained = retained(queues)?;
        retained.sort_unstable_by_key(|message| message.delivered);
        let all = retained.iter().map(|message| message.bytes).sum();
        let mut left = all;
        for message in &retained {
            if !is_over(message, all, left) {
                break;
            }
            remove(&message.path)?;
            left -= message.bytes;
        }
        self.bytes.store(left, Ordering::Relaxed);
        Ok(left < all)
    }
}

fn retained(queues: &[PathBuf]) -> io::Result<Vec<Retained>> {
    let mut retained = Vec::new();
    for folder in queues.iter().map(|queue| folder_in(queue)) {
        for name in list(&folder)? {
            let path = name.in_folder(&folder);
            // It may have been requeued meanwhile.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            retained.push(Retained {
                path,
                delivered: metadata.modified()?,
                bytes: metadata.len(),
            });
        }
    }
    Ok(retained)
}

/// Removes a file, unless a later bondgate wrote it.
fn remove(path: &Path) -> io::Result<()> {
    if let Ok(file) = File::open(path)
        && matches!(Intent::read(file), Err(FormatError::Later(_)))
    {
        return Ok(());
    }
    match files::remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
