//! A spool's directory as a person looks at it, whether a daemon is at work there or not.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::directory::{Directory, Listed};
use super::record::{self, RecordError};

/// A directory to look at.
pub struct Inspection(Directory);

/// What was asked cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no such message.
    #[error("there is no message {0:?}; `bondgate spool list` names all")]
    Unknown(String),
    /// Several are called so.
    #[error("{0:?} names several messages; write the whole name as `bondgate spool list` has it")]
    Ambiguous(String),
    /// A daemon is at work on it.
    #[error("{0} is being delivered now; try again in a few seconds")]
    Busy(String),
    /// It is not one that could be put back.
    #[error(
        "{0} is already in the queue, being pulled, lost or damaged; only dead letters and delivered messages can be requeued"
    )]
    NotRequeueable(String),
    /// Its file is no whole message.
    #[error("{id} cannot be requeued: {why}")]
    NotWhole {
        /// The message.
        id: String,
        /// What is wrong with its file.
        why: String,
    },
    /// The system refuses.
    #[error("the spool's directory cannot be read or changed")]
    Io(#[from] io::Error),
}

impl Inspection {
    /// Looks at a directory; one that is not there holds nothing.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(Directory::at(directory))
    }

    /// All that is held, the oldest first.
    pub fn list(&self) -> Result<Vec<Listed>, InspectError> {
        match self.0.list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    /// The message of that name, or of the digits at its end.
    pub fn find(&self, id: &str) -> Result<Listed, InspectError> {
        let mut found = self.list()?;
        found.retain(|listed| {
            let digits = listed.id.split('/').next_back();
            listed.id == id || digits == Some(id)
        });
        match found.len() {
            0 => Err(InspectError::Unknown(id.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(InspectError::Ambiguous(id.to_owned())),
        }
    }

    /// Writes a message's body as it came; of one that is not whole, what there is behind its first line.
    /// Whether it was whole.
    pub fn show(&self, listed: &Listed, out: &mut impl Write) -> Result<bool, InspectError> {
        let mut file = File::open(&listed.path)?;
        let (offset, length, is_whole) = match record::read(&file, listed.bytes) {
            Ok(record) => (record.offset, record.length, true),
            Err(RecordError::Io(error)) => return Err(error.into()),
            Err(_) => (0, listed.bytes, false),
        };
        file.seek(SeekFrom::Start(offset))?;
        io::copy(&mut file.take(length), out)?;
        out.flush()?;
        Ok(is_whole)
    }

    /// Puts a dead letter or a retained message back into its queue, where it comes before newer messages.
    pub fn requeue(&self, listed: &Listed) -> Result<(), InspectError> {
        if !listed.is_requeueable() {
            return Err(InspectError::NotRequeueable(listed.id.clone()));
        }
        match Directory::requeue(listed) {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(InspectError::Busy(listed.id.clone())),
            Err(RecordError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(InspectError::Unknown(listed.id.clone()))
            }
            Err(RecordError::Io(error)) => Err(error.into()),
            Err(error) => Err(InspectError::NotWhole {
                id: listed.id.clone(),
                why: error.to_string(),
            }),
        }
    }

    /// Removes a message for good.
    pub fn discard(&self, listed: &Listed) -> Result<(), InspectError> {
        let file = File::open(&listed.path)?;
        if !super::file::try_lock(&file)? {
            return Err(InspectError::Busy(listed.id.clone()));
        }
        match fs::remove_file(&listed.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(InspectError::Unknown(listed.id.clone()))
            }
            removed => Ok(removed?),
        }
    }
}
