//! The folders of queues: their names, those of their messages, and the lock of each among processes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::id::{MessageId, QueueId};
use crate::platform::files;

/// The lock of a queue among processes: a locked file, and none in memory.
pub(super) type QueueLock = Option<File>;

/// The file that is locked, in a queue's folder.
pub(super) const LOCK_FILE: &str = "turn";

/// The folders of queues. Everything with another name, such as lost+found, is ignored.
pub(super) fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let is_queue = entry.file_name().to_str().is_some_and(QueueId::is_folder);
        if is_queue && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Locks a queue by its folder; `None` while another process has it locked.
pub(super) fn lock_folder(folder: &Path) -> io::Result<Option<QueueLock>> {
    let path = folder.join(LOCK_FILE);
    let file = match files::open_lock_file(&path) {
        // The folder was empty and has just been removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let is_locked = files::try_lock(&file)? && files::is_at(&file, &path);
    Ok(is_locked.then_some(Some(file)))
}

/// The name of a message for people: its queue's folder and the digits of its id.
pub(super) fn message_name(queue: &Path, id: MessageId) -> String {
    format!("{}/{}", folder_name(queue), id.digits())
}

pub(super) fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
