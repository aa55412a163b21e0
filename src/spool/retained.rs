//! Delivered messages, retained for a while so that they can be requeued: a caller may lose a message that it has
//! read. They are in a folder of each queue that no pull reads, bounded in time and in bytes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::file::{Name, State, names};
use super::record::{self, RecordError};

/// The rules by which delivered messages are retained.
#[derive(Debug)]
pub(super) struct Retention {
    /// How long a message is retained after its delivery; not at all where it is zero.
    keep: Duration,
    /// Bytes that may be retained, of all queues.
    limit: u64,
    /// Bytes that are retained, as of the last look and what came since.
    bytes: AtomicU64,
}

/// A retained message.
struct Retained {
    path: PathBuf,
    delivered: SystemTime,
    bytes: u64,
}

/// The folder of a queue's retained messages.
const FOLDER: &str = "retained";

pub(super) fn folder_in(queue: &Path) -> PathBuf {
    queue.join(FOLDER)
}

impl Retention {
    pub(super) fn new(keep: Duration, limit: u64) -> Self {
        Self {
            keep,
            limit,
            bytes: AtomicU64::new(0),
        }
    }

    /// Takes the file of a delivered message out of its queue. Where it cannot be retained it is removed, since it would
    /// be delivered again.
    pub(super) fn take(&self, queue: &Path, name: Name, file: &File) -> io::Result<()> {
        let path = name.in_folder(queue);
        if self.keep.is_zero() || self.limit == 0 {
            return fs::remove_file(path);
        }
        match self.retain(queue, name, file) {
            Ok(()) => Ok(()),
            Err(error) => {
                fs::remove_file(path)?;
                tracing::warn!(%error, "delivered message was removed and not retained (spool.keep); check the spool's disk");
                Ok(())
            }
        }
    }

    fn retain(&self, queue: &Path, name: Name, file: &File) -> io::Result<()> {
        // Its time counts from the delivery.
        file.set_modified(SystemTime::now())?;
        let folder = folder_in(queue);
        let (from, to) = (
            name.in_folder(queue),
            Name {
                state: State::Delivered,
                ..name
            }
            .in_folder(&folder),
        );
        let renamed = match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                fs::rename(&from, &to)
            }
            renamed => renamed,
        };
        match renamed {
            // The first version of Landlock lets no file change its directory.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(&from, &to).inspect_err(|_| drop(fs::remove_file(&to)))?;
                fs::remove_file(&from)?;
            }
            renamed => renamed?,
        }
        self.bytes.fetch_add(file.metadata()?.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that are retained.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether more is retained than may be.
    pub(super) fn is_over_limit(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Removes what has been retained for long enough, and the oldest of what is beyond the limit. Returns when the
    /// next one is due.
    pub(super) fn tidy(&self, queues: &[PathBuf], now: SystemTime) -> io::Result<Option<SystemTime>> {
        let mut retained = list(queues)?;
        let is_due = |message: &Retained| self.due(message).is_some_and(|due| due <= now);
        let (due, kept): (Vec<_>, Vec<_>) = retained.drain(..).partition(is_due);
        for message in due {
            remove(&message.path)?;
        }
        let bytes = kept.iter().map(|message| message.bytes).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        let next = kept.iter().filter_map(|message| self.due(message)).min();
        if bytes > self.limit {
            // Some more than necessary, so that not every delivery comes here.
            self.remove_oldest(kept, bytes - self.limit / 10 * 9)?;
        }
        Ok(next)
    }

    /// Makes room on a full disk. Returns whether there was anything to remove.
    pub(super) fn free(&self, queues: &[PathBuf], bytes: u64) -> io::Result<bool> {
        let retained = list(queues)?;
        let is_any = !retained.is_empty();
        self.remove_oldest(retained, bytes)?;
        Ok(is_any)
    }

    fn remove_oldest(&self, mut retained: Vec<Retained>, bytes: u64) -> io::Result<()> {
        retained.sort_unstable_by_key(|message| message.delivered);
        let mut freed = 0;
        for message in retained {
            if freed >= bytes {
                break;
            }
            remove(&message.path)?;
            freed += message.bytes;
        }
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                Some(bytes.saturating_sub(freed))
            });
        Ok(())
    }

    fn due(&self, message: &Retained) -> Option<SystemTime> {
        message.delivered.checked_add(self.keep)
    }
}

fn list(queues: &[PathBuf]) -> io::Result<Vec<Retained>> {
    let mut retained = Vec::new();
    for queue in queues {
        let folder = folder_in(queue);
        // A link would lead out of the spool.
        if !folder.symlink_metadata().is_ok_and(|about| about.is_dir()) {
            continue;
        }
        for name in names(&folder)? {
            let path = name.in_folder(&folder);
            // One that was requeued meanwhile is not there.
            let Ok(about) = fs::metadata(&path) else { continue };
            retained.push(Retained {
                path,
                delivered: about.modified()?,
                bytes: about.len(),
            });
        }
    }
    Ok(retained)
}

fn remove(path: &Path) -> io::Result<()> {
    let intent = File::open(path).map(record::read_intent);
    if matches!(intent, Ok(Err(RecordError::Later(_)))) {
        return Ok(());
    }
    match fs::remove_file(path) {
        // Requeued, or removed by another process.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
