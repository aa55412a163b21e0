//! The file `moved` in a queue's folder: it lists the queues whose messages were moved there.
//!
//! A message's first line names the queue that it was pulled from, and its checksum covers that line. A move that rewrote the
//! line would copy the whole message, and a crash could leave none or two. So a moved message keeps its bytes, and one
//! rename takes it to its new folder. This file, durable before that, lists the queues whose messages belong there. A
//! message of any other queue is still taken for misplaced.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::id::QueueId;
use crate::platform::files;

/// The queue of a folder, and the queues whose messages were moved there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MovedFrom {
    pub(super) queue: QueueId,
    from: Vec<QueueId>,
}

/// The file, in a queue's folder.
pub(super) const MOVED_FILE: &str = "moved";

/// Its next content, while that is written.
const NEW_FILE: &str = "moved.new";

impl MovedFrom {
    /// Reads the file in a queue's folder; `None` where no message was moved there.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let file = path(folder);
        let read = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.and_then(|text| Ok(serde_json::from_slice(&text)?)),
        };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        read.map(Some).map_err(named)
    }

    pub(super) fn names(&self, queue: &QueueId) -> bool {
        self.from.contains(queue)
    }

    /// Adds a queue, and those whose messages were moved into it, to the file in the folder of `to`. Survives a crash from when
    /// this returns. The folder's lock is held.
    pub(super) fn add(from: &QueueId, from_folder: &Path, to: &QueueId, to_folder: &Path) -> io::Result<()> {
        let mut moved = Self::read(to_folder)?.unwrap_or_else(|| Self {
            queue: to.clone(),
            from: Vec::new(),
        });
        if moved.queue != *to {
            let reason = format!(
                "{} names another queue, {}",
                path(to_folder).display(),
                moved.queue
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let earlier = Self::read(from_folder)?.map(|moved| moved.from);
        for queue in earlier.into_iter().flatten().chain([from.clone()]) {
            if !moved.names(&queue) {
                moved.from.push(queue);
            }
        }
        let draft = to_folder.join(NEW_FILE);
        // Left by a crash.
        let _ = fs::remove_file(&draft);
        let mut file = files::create_private(&draft)?;
        serde_json::to_writer(&mut file, &moved)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        files::give_to_owner_of(&file, to_folder)?;
        files::rename(&draft, &path(to_folder))?;
        files::sync_directory(to_folder)
    }

    /// Removes the file from the folder of an empty queue.
    pub(super) fn remove(folder: &Path) -> io::Result<()> {
        let _ = fs::remove_file(folder.join(NEW_FILE));
        match files::remove(&path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Whether a path is that of such a file, and the file cannot be read.
pub(super) fn is_unreadable(file: &Path) -> bool {
    file.ends_with(MOVED_FILE)
        && file
            .parent()
            .is_some_and(|folder| MovedFrom::read(folder).is_err())
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(MOVED_FILE)
}

/// Whether a name in a queue's folder is that of such a file.
pub(super) fn is_name(name: &std::ffi::OsStr) -> bool {
    name == MOVED_FILE || name == NEW_FILE
}

/// The queue of a message in a folder: its own, or that of the folder if it was moved there. `None` where it is misplaced.
pub(super) fn queue_in(folder: &Path, own: &QueueId) -> io::Result<Option<QueueId>> {
    if folder.ends_with(own.folder()) {
        return Ok(Some(own.clone()));
    }
    let moved = MovedFrom::read(folder)?;
    let moved = moved.filter(|moved| moved.names(own) && folder.ends_with(moved.queue.folder()));
    Ok(moved.map(|moved| moved.queue))
}
