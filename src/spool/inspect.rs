//! The spool's directory for people, beside a running daemon or without one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::SystemTime;

use super::folders::{folders, message_name};
use super::format::{self, FormatError, Intent};
use super::id::QueueId;
use super::message_file::{FileName, LockedFile, MessageState, list};
use super::moved_from;
use super::retention;
use super::unknown_files::{self, Search, Unknown};
use crate::platform::files;

/// A message as `bondgate spool list` shows it.
#[derive(Debug)]
pub struct Listed {
    /// Its name: the queue's folder and digits.
    pub name: String,
    /// When it was pulled, its failed deliveries and its state.
    pub file: FileName,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// Whether a process works on it.
    pub is_locked: bool,
    /// The pull, or why that cannot be read.
    pub intent: Result<Intent, String>,
    /// The queue that it was pulled from, if it was moved to another one.
    pub moved_from: Option<QueueId>,
    /// Whether a later bondgate wrote it. Such a file is left alone.
    pub is_later: bool,
    /// When it was delivered, or became a dead letter.
    pub changed: SystemTime,
    queue: PathBuf,
    folder: PathBuf,
}

/// A file of bondgate that this version does not know, as `bondgate spool list` shows it.
#[derive(Debug)]
pub struct ListedUnknown {
    /// Its name: its path in the spool's directory.
    pub name: String,
    /// What is not known of it.
    pub unknown: Unknown,
    /// Its size in bytes.
    pub bytes: u64,
    path: PathBuf,
}

/// A command cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It does not fit the message that it names, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The operating system reports an error.
    #[error("the spool's directory cannot be read or changed")]
    Io(#[from] io::Error),
}

impl Listed {
    /// All messages in the spool's directory, the oldest first.
    pub fn list(directory: &Path) -> Result<Vec<Self>, InspectError> {
        let mut listed: Vec<Self> = Vec::new();
        for queue in folders(directory)? {
            for folder in [retention::folder_in(&queue), queue.clone()] {
                let names = list(&folder)?.into_iter();
                // A file that goes away meanwhile is left out.
                listed.extend(names.flat_map(|name| Self::new(&queue, &folder, name)));
            }
        }
        listed.sort_by_key(|listed| listed.file.id);
        Ok(listed)
    }

    /// The message of this name, or of the digits at its end.
    pub fn find(directory: &Path, name: &str) -> Result<Self, InspectError> {
        let mut found = Self::list(directory)?;
        found.retain(|listed| listed.name == name || listed.file.id.digits() == name);
        match found.len() {
            0 => Err(unknown(name)),
            1 => Ok(found.remove(0)),
            _ => Err(InspectError::Refused(format!(
                "{name:?} names several messages; write the whole name that `bondgate spool list` shows"
            ))),
        }
    }

    /// Whether it is a dead letter or a delivered message of this version, which can be put back into its queue.
    #[must_use]
    pub fn is_requeueable(&self) -> bool {
        let is_set_aside = matches!(
            self.file.state,
            MessageState::DeadLetter | MessageState::Delivered
        );
        is_set_aside && !self.is_later
    }

    fn new(queue: &Path, folder: &Path, name: FileName) -> io::Result<Self> {
        let file = File::open(name.in_folder(folder))?;
        let metadata = file.metadata()?;
        let mut intent = Intent::read(&file);
        let mut moved_from = None;
        if let Ok(intent) = &mut intent
            && let Ok(Some(now)) = moved_from::queue_in(queue, &intent.queue)
            && now != intent.queue
        {
            moved_from = Some(std::mem::replace(&mut intent.queue, now));
        }
        Ok(Self {
            moved_from,
            name: message_name(queue, name.id),
            file: name,
            bytes: metadata.len(),
            is_locked: !files::try_lock(&file).unwrap_or(true),
            is_later: matches!(intent, Err(FormatError::Later(_))),
            intent: intent.map_err(|error| error.to_string()),
            changed: metadata.modified()?,
            queue: queue.to_owned(),
            folder: folder.to_owned(),
        })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.in_folder(&self.folder)
    }

    fn lock(&self) -> Result<LockedFile, InspectError> {
        match LockedFile::open(&self.folder, self.file)? {
            Some(file) => Ok(file),
            None if self.path().exists() => Err(InspectError::Refused(format!(
                "{} is being delivered now; try again in a few seconds",
                self.name
            ))),
            None => Err(unknown(&self.name)),
        }
    }

    /// Writes its body, or the whole file where it holds no whole message. Returns whether it is whole.
    pub fn show(&self, out: &mut impl Write) -> Result<bool, InspectError> {
        show(&self.path(), self.bytes, out)
    }

    /// Puts a dead letter or a delivered message back into its queue, before newer messages.
    pub fn requeue(&self) -> Result<(), InspectError> {
        if let (true, Err(reason)) = (self.is_later, &self.intent) {
            return Err(InspectError::Refused(format!(
                "{} cannot be requeued: {reason}",
                self.name
            )));
        }
        if !self.is_requeueable() {
            return Err(InspectError::Refused(format!(
                "{} is already in the queue, being pulled, lost or damaged; only dead letters and delivered messages can \
                 be requeued",
                self.name
            )));
        }
        let file = self.lock()?;
        format::read(&*file.file, file.length()?).map_err(|error| match error {
            FormatError::Io(error) => InspectError::Io(error),
            error => InspectError::Refused(format!("{} cannot be requeued: {error}", self.name)),
        })?;
        let ready = FileName::new(self.file.id, MessageState::Ready);
        files::rename(&file.path(), &ready.in_folder(&self.queue))?;
        files::sync_directory(&self.queue)?;
        Ok(())
    }

    /// Removes it for good.
    pub fn discard(&self) -> Result<(), InspectError> {
        Ok(self.lock()?.remove()?)
    }
}

impl ListedUnknown {
    /// All files in the spool's directory that are bondgate's, and no message that [`Listed`] shows.
    pub fn list(directory: &Path) -> Result<Vec<Self>, InspectError> {
        let mut found = unknown_files::find(directory, Search::All)?;
        found.retain(|file| !file.is_message);
        let listed = found.into_iter().flat_map(|file| {
            Ok::<_, io::Error>(Self {
                name: name_in(directory, &file.path),
                bytes: fs::metadata(&file.path)?.len(),
                unknown: file.unknown,
                path: file.path,
            })
        });
        Ok(listed.collect())
    }

    /// The file of this name.
    pub fn find(directory: &Path, name: &str) -> Result<Option<Self>, InspectError> {
        Ok(Self::list(directory)?.into_iter().find(|file| file.name == name))
    }

    /// Writes its body, or the whole file where it holds no whole message. Returns whether it is whole.
    pub fn show(&self, out: &mut impl Write) -> Result<bool, InspectError> {
        show(&self.path, self.bytes, out)
    }

    /// Refuses to requeue it.
    pub fn requeue(&self) -> Result<(), InspectError> {
        Err(InspectError::Refused(format!(
            "{} cannot be requeued: {}; run the bondgate that wrote it, or a newer one",
            self.name, self.unknown
        )))
    }

    /// Removes it for good.
    pub fn discard(&self) -> Result<(), InspectError> {
        let file = File::open(&self.path)?;
        if !files::try_lock(&file)? || !files::is_at(&file, &self.path) {
            return Err(InspectError::Refused(format!(
                "another process works on {}; try again in a few seconds",
                self.name
            )));
        }
        Ok(files::remove(&self.path)?)
    }
}

fn show(path: &Path, bytes: u64, out: &mut impl Write) -> Result<bool, InspectError> {
    let mut file = File::open(path)?;
    let (offset, length, is_whole) = match format::read(&file, bytes) {
        Ok(content) => (content.offset, content.length, true),
        Err(FormatError::Io(error)) => return Err(error.into()),
        Err(_) => (0, bytes, false),
    };
    file.seek(SeekFrom::Start(offset))?;
    io::copy(&mut file.take(length), out)?;
    out.flush()?;
    Ok(is_whole)
}

/// A file's path in the spool's directory, with slashes on every system, as in the names of messages.
fn name_in(directory: &Path, file: &Path) -> String {
    let path = file.strip_prefix(directory).unwrap_or(file);
    unknown_files::printable(path).replace(MAIN_SEPARATOR, "/")
}

fn unknown(name: &str) -> InspectError {
    InspectError::Refused(format!(
        "there is no message {name:?}; `bondgate spool list` names all"
    ))
}
