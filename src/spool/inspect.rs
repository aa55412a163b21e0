//! The spool's directory for people, beside a running daemon or without one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::directory::{folders, message_name};
use super::file::{FileName, LockedFile, State, list};
use super::format::{self, FormatError, Intent};
use super::id::MessageId;
use super::retention;
use crate::platform::files;

/// A directory to inspect.
pub struct Inspection {
    root: PathBuf,
}

/// A message as `bondgate spool list` shows it.
#[derive(Debug)]
pub struct Listed {
    /// Its name: the queue's folder and digits.
    pub name: String,
    /// When it was pulled.
    pub pulled: MessageId,
    /// Its state.
    pub state: State,
    /// Failed deliveries.
    pub failures: u32,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// Whether a process works on it.
    pub is_locked: bool,
    /// The pull, or why that cannot be read.
    pub intent: Result<Intent, String>,
    /// Whether a later bondgate wrote it. Such a file is left alone.
    pub is_later: bool,
    /// When it was delivered, or became a dead letter.
    pub changed: SystemTime,
    queue: PathBuf,
    folder: PathBuf,
    file_name: FileName,
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
    /// Whether it is a dead letter or a delivered message, which can be put back into its queue.
    #[must_use]
    pub fn is_requeueable(&self) -> bool {
        matches!(self.state, State::DeadLetter | State::Delivered)
    }

    fn new(queue: &Path, folder: &Path, file_name: FileName) -> io::Result<Self> {
        let file = File::open(file_name.in_folder(folder))?;
        let metadata = file.metadata()?;
        let intent = Intent::read(&file);
        Ok(Self {
            name: message_name(queue, file_name.id),
            pulled: file_name.id,
            state: file_name.state,
            failures: file_name.failures,
            bytes: metadata.len(),
            is_locked: !files::try_lock(&file).unwrap_or(true),
            is_later: matches!(intent, Err(FormatError::Later(_))),
            intent: intent.map_err(|error| error.to_string()),
            changed: metadata.modified()?,
            queue: queue.to_owned(),
            folder: folder.to_owned(),
            file_name,
        })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file_name.in_folder(&self.folder)
    }

    fn lock(&self) -> Result<LockedFile, InspectError> {
        match LockedFile::open(&self.folder, self.file_name)? {
            Some(file) => Ok(file),
            None if self.path().exists() => Err(InspectError::Refused(format!(
                "{} is being delivered now; try again in a few seconds",
                self.name
            ))),
            None => Err(unknown(&self.name)),
        }
    }
}

impl Inspection {
    /// Inspects a directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let root = directory.to_owned();
        Self { root }
    }

    /// All messages, the oldest first.
    pub fn list(&self) -> Result<Vec<Listed>, InspectError> {
        let mut listed = Vec::new();
        for queue in folders(&self.root)? {
            for folder in [retention::folder_in(&queue), queue.clone()] {
                // A link would lead out of the spool.
                if folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                    let names = list(&folder)?.into_iter();
                    // A file that goes away meanwhile is left out.
                    listed.extend(names.flat_map(|name| Listed::new(&queue, &folder, name)));
                }
            }
        }
        listed.sort_by_key(|listed| listed.pulled);
        Ok(listed)
    }

    /// The message of this name, or of the digits at its end.
    pub fn find(&self, name: &str) -> Result<Listed, InspectError> {
        let mut found = self.list()?;
        found.retain(|listed| listed.name == name || listed.pulled.digits() == name);
        match found.len() {
            0 => Err(unknown(name)),
            1 => Ok(found.remove(0)),
            _ => Err(InspectError::Refused(format!(
                "{name:?} names several messages; write the whole name that `bondgate spool list` shows"
            ))),
        }
    }

    /// Writes a message's body, or the whole file where it holds no whole message. Returns whether it is whole.
    pub fn show(&self, listed: &Listed, out: &mut impl Write) -> Result<bool, InspectError> {
        let mut file = File::open(listed.path())?;
        let (offset, length, is_whole) = match format::read(&file, listed.bytes) {
            Ok(parsed) => (parsed.body.offset, parsed.body.length, true),
            Err(FormatError::Io(error)) => return Err(error.into()),
            Err(_) => (0, listed.bytes, false),
        };
        file.seek(SeekFrom::Start(offset))?;
        io::copy(&mut file.take(length), out)?;
        out.flush()?;
        Ok(is_whole)
    }

    /// Puts a dead letter or a delivered message back into its queue, before newer messages.
    pub fn requeue(&self, listed: &Listed) -> Result<(), InspectError> {
        if !listed.is_requeueable() {
            return Err(InspectError::Refused(format!(
                "{} is already in the queue, being pulled, lost or damaged; only dead letters and delivered messages can \
                 be requeued",
                listed.name
            )));
        }
        let file = listed.lock()?;
        format::read(&file.file, file.length()?).map_err(|error| match error {
            FormatError::Io(error) => InspectError::Io(error),
            error => InspectError::Refused(format!("{} cannot be requeued: {error}", listed.name)),
        })?;
        let ready = FileName {
            failures: 0,
            state: State::Ready,
            ..listed.file_name
        };
        fs::rename(file.path(), ready.in_folder(&listed.queue))?;
        files::sync_directory(&listed.queue)?;
        Ok(())
    }

    /// Removes a message for good.
    pub fn discard(&self, listed: &Listed) -> Result<(), InspectError> {
        Ok(listed.lock()?.remove()?)
    }
}

fn unknown(name: &str) -> InspectError {
    InspectError::Refused(format!(
        "there is no message {name:?}; `bondgate spool list` names all"
    ))
}
