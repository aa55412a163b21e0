//! The file of one message: its name, which tells its state, and its lock, which tells whose it is.

use rustix::fs::FallocateFlags;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Intent, Record, Stamp};

/// How far a message has come; a file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for, and not here yet.
    Pulling,
    /// Here, and with no caller yet.
    Held,
    /// Delivered, and retained for a while.
    Delivered,
    /// Not to be delivered: its deliveries failed, and the next message was delivered.
    DeadLetter,
    /// Asked for and perhaps taken off the queue, but never here.
    Lost,
    /// Damaged, for a person to look at.
    Corrupt,
}

/// The name of a message's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) stamp: Stamp,
    /// Deliveries that failed.
    pub(super) attempts: u32,
    pub(super) state: State,
}

/// The file of a pull that is under way, and its lock.
#[derive(Debug)]
pub(super) struct Draft {
    folder: PathBuf,
    name: Name,
    file: Arc<File>,
}

/// A whole message, and the lock that makes it ours.
pub(super) struct Held {
    pub(super) folder: PathBuf,
    pub(super) name: Name,
    pub(super) file: Arc<File>,
    pub(super) record: Record,
}

/// Room that is taken before a pull is sent: most messages fit in it, so that a disk that fills up
/// meanwhile takes none of them.
const RESERVED: u64 = 1 << 20;
/// How much of a file is kept whose message did not come whole.
const LOST_KEPT: u64 = 16 << 10;

const STATES: [(State, &str); 6] = [
    (State::Pulling, "pull"),
    (State::Held, "msg"),
    (State::Delivered, "done"),
    (State::DeadLetter, "dead"),
    (State::Lost, "lost"),
    (State::Corrupt, "bad"),
];

impl State {
    fn extension(self) -> &'static str {
        let found = STATES.iter().find(|(state, _)| *state == self);
        found.map_or("", |(_, extension)| extension)
    }
}

impl Name {
    fn parse(text: &OsStr) -> Option<Self> {
        let text = text.to_str()?;
        let mut parts = text.split('.');
        let (stamp, attempts, extension) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (state, _) = STATES.iter().find(|(_, known)| *known == extension)?;
        let name = Self {
            stamp: Stamp::parse(stamp)?,
            attempts: attempts.parse().ok()?,
            state: *state,
        };
        // One that we would write otherwise is not of our making.
        (name.to_string() == text).then_some(name)
    }

    pub(super) fn in_folder(self, folder: &Path) -> PathBuf {
        folder.join(self.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, extension) = (self.stamp.digits(), self.state.extension());
        write!(f, "{digits}.{}.{extension}", self.attempts)
    }
}

impl Draft {
    /// Writes down that a pull is about to be sent; when this returns, no crash forgets it.
    pub(super) fn begin(folder: &Path, intent: &Intent) -> io::Result<Self> {
        let name = Name {
            stamp: intent.pulled,
            attempts: 0,
            state: State::Pulling,
        };
        let path = name.in_folder(folder);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = (|| {
            if !try_lock(&file)? {
                // Whoever looks at it just now would take it for one that a kill left behind.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let line = intent.line();
            file.write_all_at(&line, 0)?;
            match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED) {
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
            file.sync_all()?;
            sync(folder)
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            folder: folder.to_owned(),
            name,
            file: Arc::new(file),
        })
    }

    /// The file, to write after the intent's line.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Makes a message of what was written, `length` bytes in all; when this returns, no crash loses it: one
    /// that forgets the new name leaves a pull that is whole, which [recovery](super::directory) knows.
    pub(super) fn finish(self, length: u64, record: Record) -> Result<Held, (Self, io::Error)> {
        let finished = (|| {
            // Gives back what was reserved and not used.
            self.file.set_len(length)?;
            self.file.sync_all()?;
            rename(&self.folder, self.name, 0, State::Held)
        })();
        if let Err(error) = finished {
            return Err((self, error));
        }
        let name = Name {
            state: State::Held,
            ..self.name
        };
        Ok(Held {
            folder: self.folder,
            name,
            file: self.file,
            record,
        })
    }

    /// Gives everything back that the file holds beyond the intent.
    pub(super) fn shrink(&self, to: u64) -> io::Result<()> {
        self.file.set_len(to)
    }

    /// The pull brought no message.
    pub(super) fn discard(&self) -> io::Result<()> {
        fs::remove_file(self.name.in_folder(&self.folder))
    }

    /// The pull may have taken a message that never came.
    pub(super) fn lose(&self) -> io::Result<()> {
        lose(&self.folder, self.name, &self.file)
    }
}

impl Held {
    /// Counts a delivery that failed; how many there were.
    pub(super) fn fail(self) -> io::Result<u32> {
        let attempts = self.name.attempts.saturating_add(1);
        rename(&self.folder, self.name, attempts, State::Held)?;
        Ok(attempts)
    }
}

/// The messages of a folder, the oldest first; what has another name is none.
pub(super) fn names(folder: &Path) -> io::Result<Vec<Name>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link or a pipe is none of ours, whatever it is called.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(Name::parse(&entry.file_name()));
        }
    }
    names.sort_by_key(|name| (name.stamp, name.attempts));
    Ok(names)
}

pub(super) fn rename(folder: &Path, name: Name, attempts: u32, state: State) -> io::Result<PathBuf> {
    let to = Name {
        attempts,
        state,
        ..name
    }
    .in_folder(folder);
    fs::rename(name.in_folder(folder), &to)?;
    Ok(to)
}

/// Whether we have a file's lock now.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Marks a file as that of a message which is perhaps lost. Its beginning stays, which may tell whose it was;
/// the rest would only fill the disk.
pub(super) fn lose(folder: &Path, name: Name, file: &File) -> io::Result<()> {
    rename(folder, name, 0, State::Lost)?;
    let length = file.metadata()?.len();
    file.set_len(length.min(LOST_KEPT))
}

/// Makes names that were given or taken in a folder last.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
