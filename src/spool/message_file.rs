//! The file of one message. Its name holds the message's state; its lock belongs to the process that works on it, so an
//! unlocked file of a pull was left by a process that was killed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, Intent};
use super::id::MessageId;
use crate::platform::files;

/// The state of a message: the extension of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageState {
    /// Its pull is in progress.
    Pulling,
    /// Ready to be delivered.
    Ready,
    /// Delivered, and retained for a while.
    Delivered,
    /// Not to be delivered: its deliveries failed, and the next message was delivered.
    DeadLetter,
    /// Its pull was sent, and no whole response came.
    Lost,
    /// Its file is damaged.
    Damaged,
}

/// The name of a message's file. Orders the messages of a queue, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// The time of its pull.
    pub id: MessageId,
    /// Failed deliveries.
    pub failures: u32,
    /// Its state.
    pub state: MessageState,
}

/// A message's file, which this process alone works on.
#[derive(Clone)]
pub(super) struct LockedFile {
    pub(super) folder: PathBuf,
    pub(super) name: FileName,
    pub(super) file: Arc<File>,
}

/// The body of a message: a part of a file, and what follows it.
#[derive(Debug)]
pub struct MessageBody {
    /// A file at the position where the body begins, and how many bytes of it belong to the body.
    pub file: Option<(File, u64)>,
    /// What follows; all of a small body.
    pub rest: Bytes,
}

/// Disk space that is reserved before a pull is sent: a message of up to this size cannot meet a full disk.
pub(super) const RESERVED: u64 = 2 << 20;
/// How much remains of the file of a lost message. Its beginning may show whose it was.
const LOST_REST: u64 = 16 << 10;

const STATES: [(MessageState, &str); 6] = [
    (MessageState::Pulling, "pull"),
    (MessageState::Ready, "msg"),
    (MessageState::Delivered, "done"),
    (MessageState::DeadLetter, "dead"),
    (MessageState::Lost, "lost"),
    (MessageState::Damaged, "bad"),
];

impl FileName {
    /// The name of a message without failed deliveries.
    pub(super) fn new(id: MessageId, state: MessageState) -> Self {
        Self {
            id,
            failures: 0,
            state,
        }
    }

    pub(super) fn parse(text: &OsStr) -> Option<Self> {
        let text = text.to_str()?;
        let mut parts = text.splitn(3, '.');
        let (id, failures, extension) = (parts.next()?, parts.next()?, parts.next()?);
        let (state, _) = STATES.iter().find(|(_, known)| *known == extension)?;
        let name = Self {
            id: MessageId::parse(id)?,
            failures: failures.parse().ok()?,
            state: *state,
        };
        // Another spelling of the same name is not bondgate's.
        (name.to_string() == text).then_some(name)
    }

    /// The extension of a name that would be a message's, if this version knew that state.
    pub(super) fn parse_state(text: &OsStr) -> Option<&str> {
        let mut parts = text.to_str()?.splitn(3, '.');
        let (id, failures, extension) = (parts.next()?, parts.next()?, parts.next()?);
        let is_known = STATES.iter().any(|(_, known)| *known == extension);
        let is_message = MessageId::parse(id).is_some() && failures.parse::<u32>().is_ok();
        (is_message && !is_known && !extension.is_empty()).then_some(extension)
    }

    pub(super) fn in_folder(self, folder: &Path) -> PathBuf {
        folder.join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = STATES.iter().find(|(state, _)| *state == self.state);
        let extension = state.map_or("", |(_, extension)| extension);
        write!(f, "{}.{}.{extension}", self.id.digits(), self.failures)
    }
}

impl LockedFile {
    /// Writes down that a pull is about to be sent, and reserves disk space. It survives a crash from when this returns.
    pub(super) fn create(folder: &Path, intent: &Intent) -> io::Result<Self> {
        let name = FileName::new(intent.id, MessageState::Pulling);
        let path = name.in_folder(folder);
        let file = files::create_private(&path)?;
        let written = (|| {
            if !files::try_lock(&file)? {
                return Err(ErrorKind::WouldBlock.into());
            }
            (&file).write_all(&intent.line())?;
            files::reserve(&file, RESERVED)?;
            file.sync_all()?;
            files::sync_directory(folder)
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self::locked(folder, name, file))
    }

    /// Opens and locks a file. `None` if another process works on it, or has just renamed or removed it.
    pub(super) fn open(folder: &Path, name: FileName) -> io::Result<Option<Self>> {
        let path = name.in_folder(folder);
        let file = match files::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let is_locked = files::try_lock(&file)? && files::is_at(&file, &path);
        Ok(is_locked.then(|| Self::locked(folder, name, file)))
    }

    fn locked(folder: &Path, name: FileName, file: File) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
            file: Arc::new(file),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.name.in_folder(&self.folder)
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether it holds a whole message. Read by a handle of its own: a body may still be read by this one.
    pub(super) fn is_whole(&self) -> bool {
        let length = self.length().unwrap_or_default();
        File::open(self.path()).is_ok_and(|file| format::read(file, length).is_ok())
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (&*self.file).seek(SeekFrom::Start(offset))?;
        (&*self.file).write_all(bytes)
    }

    /// A part of the file, which must not be read or written elsewhere any more, and what follows it.
    pub(super) fn body(&self, offset: u64, length: u64, rest: Bytes) -> io::Result<MessageBody> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        let file = Some((file, length));
        Ok(MessageBody { file, rest })
    }

    /// Gives the message another state.
    pub(super) fn rename(&self, name: FileName) -> io::Result<Self> {
        files::rename(&self.path(), &name.in_folder(&self.folder))?;
        Ok(Self { name, ..self.clone() })
    }

    pub(super) fn set_state(&self, state: MessageState) -> io::Result<Self> {
        self.rename(FileName { state, ..self.name })
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        files::remove(&self.path())
    }

    /// Marks the message as lost and gives disk space back. Fails only where the message is not marked.
    pub(super) fn lose(&self) -> io::Result<()> {
        let lost = self.set_state(MessageState::Lost)?;
        if let Err(error) = lost.shorten() {
            tracing::warn!(%error, "file of a lost message cannot be shortened");
        }
        Ok(())
    }

    fn shorten(&self) -> io::Result<()> {
        let mut rest = Vec::new();
        File::open(self.path())?.take(LOST_REST).read_to_end(&mut rest)?;
        // The reserved space reads as zeros.
        let length = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        self.file.set_len(length as u64)
    }
}

impl MessageBody {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, length)| *length) + self.rest.len() as u64
    }
}

/// The messages in a folder, the oldest first. Everything with another name is ignored.
pub(super) fn list(folder: &Path) -> io::Result<Vec<FileName>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        // It would lead out of the spool.
        _ if folder.is_symlink() => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link or a pipe is not bondgate's.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(FileName::parse(&entry.file_name()));
        }
    }
    names.sort_unstable();
    Ok(names)
}
