//! Messages in a directory: a folder a queue, a file a message, its state in its name. The directory
//! is the truth, and nothing of it is remembered: two processes may share one, as a hand-over has it.
//!
//! Whoever is at work on a file holds its lock, which ends with the process whatever ends it. So a file
//! of a pull under way that nobody holds is one that a kill cut off.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::file::{Draft, Held, State, lose, names, rename, sync, try_lock};
use super::key::Key;
use super::record::{self, Intent, RecordError, Stamp};

/// A spool's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// What a search for the oldest message finds.
pub(super) enum Oldest {
    Message(Box<Held>),
    Nothing,
    /// Another process is at work on an older one.
    Foreign,
}

/// Something that people should hear of.
#[derive(Debug)]
pub(super) enum Incident {
    /// A pull was cut off: its message may be lost.
    Lost { pulled: Stamp, intent: Option<Intent> },
    /// A pull was cut off after its message was whole.
    Saved(Intent),
    /// A file was damaged.
    Corrupt { path: PathBuf, error: RecordError },
}

/// A message for `bondgate spool list`.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is called: folder and digits.
    pub id: String,
    /// When it was pulled.
    pub pulled: Stamp,
    /// How far it has come.
    pub state: State,
    /// Deliveries that failed.
    pub attempts: u32,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// Whether a process is at work on it.
    pub is_busy: bool,
    /// What was asked, where that can be read.
    pub intent: Option<Intent>,
    /// Its file.
    pub path: PathBuf,
}

impl Directory {
    /// Opens a directory, and makes it where it is not there.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        make(root)?;
        Ok(Self::at(root))
    }

    /// A directory that is there, or not.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The turn of a queue among processes; nothing while another has it.
    pub(super) fn turn(&self, key: &Key) -> io::Result<Option<File>> {
        let folder = self.root.join(key.folder());
        if !folder.is_dir() {
            make(&folder)?;
            sync(&self.root)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("turn"))?;
        Ok(try_lock(&file)?.then_some(file))
    }

    /// Messages and bytes that are held, of all queues.
    pub(super) fn usage(&self) -> io::Result<(usize, u64)> {
        let mut usage = (0, 0);
        for folder in self.folders()? {
            for name in names(&folder)? {
                if name.state != State::Delivered
                    && let Ok(about) = fs::metadata(name.in_folder(&folder))
                {
                    usage = (usage.0 + 1, usage.1 + about.len());
                }
            }
        }
        Ok(usage)
    }

    /// The last stamp that was given out in a queue.
    pub(super) fn last(&self, key: &Key) -> io::Result<Option<Stamp>> {
        let names = names(&self.root.join(key.folder()))?;
        Ok(names.last().map(|name| name.stamp))
    }

    /// Writes down that a pull is about to be sent; when this returns, no crash forgets it.
    pub(super) fn begin(&self, intent: &Intent) -> io::Result<Draft> {
        Draft::begin(&self.root.join(intent.key.folder()), intent)
    }

    /// The oldest message of a queue that nobody has, older than `before`; `is_own` tells which stamps
    /// this process is at work on. Files that a kill left behind are judged on the way.
    pub(super) fn oldest(
        &self,
        key: &Key,
        before: Option<Stamp>,
        is_own: impl Fn(Stamp) -> bool,
        incidents: &mut Vec<Incident>,
    ) -> io::Result<Oldest> {
        let folder = self.root.join(key.folder());
        recover(&folder, incidents)?;
        for name in names(&folder)? {
            if before.is_some_and(|before| name.stamp > before) {
                break;
            }
            match name.state {
                State::Held => {}
                State::Pulling if !is_own(name.stamp) => return Ok(Oldest::Foreign),
                _ => continue,
            }
            let path = name.in_folder(&folder);
            let file = match open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !try_lock(&file)? {
                if is_own(name.stamp) {
                    continue;
                }
                return Ok(Oldest::Foreign);
            }
            if !is_still(&path, &file) {
                continue;
            }
            match record::read(&file, file.metadata()?.len()) {
                Ok(record) => {
                    let folder = folder.clone();
                    return Ok(Oldest::Message(Box::new(Held {
                        folder,
                        name,
                        file,
                        record,
                    })));
                }
                Err(RecordError::Io(error)) => return Err(error),
                Err(error) => {
                    let path = rename(&folder, name, name.attempts, State::Corrupt)?;
                    incidents.push(Incident::Corrupt { path, error });
                }
            }
        }
        Ok(Oldest::Nothing)
    }

    /// Judges the files that a kill left behind, in all queues.
    pub(super) fn recover(&self, incidents: &mut Vec<Incident>) -> io::Result<()> {
        for folder in self.folders()? {
            recover(&folder, incidents)?;
        }
        Ok(())
    }

    /// Removes what was delivered longer ago than `keep`.
    pub(super) fn tidy(&self, keep: Duration) -> io::Result<()> {
        for folder in self.folders()? {
            for name in names(&folder)? {
                let age = SystemTime::now().duration_since(name.stamp.time());
                if name.state == State::Delivered && age.is_ok_and(|age| age > keep) {
                    let _ = fs::remove_file(name.in_folder(&folder));
                }
            }
        }
        Ok(())
    }

    /// Everything that is there, the oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for folder in self.folders()? {
            for name in names(&folder)? {
                let path = name.in_folder(&folder);
                // What goes away meanwhile is not there.
                let Ok(file) = File::open(&path) else { continue };
                let Ok(about) = file.metadata() else { continue };
                listed.push(Listed {
                    id: format!("{}/{}", folder_name(&folder), name.stamp.digits()),
                    pulled: name.stamp,
                    state: name.state,
                    attempts: name.attempts,
                    bytes: about.len(),
                    is_busy: !try_lock(&file)?,
                    intent: record::read_intent(&file),
                    path,
                });
            }
        }
        listed.sort_by_key(|listed| listed.pulled);
        Ok(listed)
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

/// A pull or a delivery that nobody is at work on any more was cut off by a kill.
fn recover(folder: &Path, incidents: &mut Vec<Incident>) -> io::Result<()> {
    for name in names(folder)? {
        if !matches!(name.state, State::Pulling | State::Sent) {
            continue;
        }
        let path = name.in_folder(folder);
        let Ok(file) = open(&path) else { continue };
        if !try_lock(&file)? || !is_still(&path, &file) {
            continue;
        }
        if name.state == State::Sent {
            // A caller had it for seconds, and did not take that back.
            rename(folder, name, name.attempts, State::Delivered)?;
            continue;
        }
        match record::read(&file, file.metadata()?.len()) {
            Ok(record) => {
                file.sync_all()?;
                rename(folder, name, 0, State::Held)?;
                sync(folder)?;
                incidents.push(Incident::Saved(record.intent));
            }
            Err(RecordError::Io(error)) => return Err(error),
            Err(_) => {
                let intent = open(&path).ok().and_then(record::read_intent);
                lose(folder, name, &file)?;
                incidents.push(Incident::Lost {
                    pulled: name.stamp,
                    intent,
                });
            }
        }
    }
    Ok(())
}

fn folder_name(folder: &Path) -> std::borrow::Cow<'_, str> {
    folder.file_name().unwrap_or_default().to_string_lossy()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Whether a file is still the one of that name: it may have been renamed or removed before we had its
/// lock.
fn is_still(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
        _ => false,
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
