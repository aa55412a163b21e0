//! Messages in a directory: a folder a queue, a file a message, its state in its name. The directory
//! is the truth, and nothing of it is remembered: two processes may share one, as a hand-over has it.
//!
//! Whoever is at work on a file holds its lock, which ends with the process whatever ends it. So a file
//! of a pull under way that nobody holds is one that a kill cut off.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::file::{Draft, Held, Name, State, deliver, lose, names, rename, sync, try_lock};
use super::holding::Holding;
use super::key::Key;
use super::record::{self, Intent, RecordError, Stamp};

/// A spool's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// How long a delivered message stays.
    keep: Duration,
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

/// Whoever has its lock has the turn of its folder.
const TURN: &str = "turn";
const WRITTEN_BY_OTHERS: u32 = 0o002;

impl Directory {
    /// Opens a directory, and makes it where it is not there.
    pub(super) fn open(root: &Path, keep: Duration) -> io::Result<Self> {
        match make(root) {
            // Whoever mends that need not start anew.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            made => made?,
        }
        if fs::metadata(root).is_ok_and(|about| about.mode() & WRITTEN_BY_OTHERS != 0) {
            tracing::warn!(
                path = %root.display(),
                "anybody on this machine may write in the spool's directory, and so remove messages or put their                  own in place; take that away (chmod o-w), or name a directory in it, which bondgate makes for itself"
            );
        }
        Ok(Self {
            root: root.to_owned(),
            keep,
        })
    }

    /// A directory that is there, or not, to be looked at.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            keep: Duration::ZERO,
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
        turn(&folder)
    }

    /// Counts what is held, of all queues.
    pub(super) fn add_to(&self, holding: &mut Holding) -> io::Result<()> {
        self.each(|folder, name| {
            // What goes away meanwhile is not there.
            if let Ok(about) = fs::metadata(name.in_folder(folder)) {
                holding.add(name.state, name.stamp, about.len());
            }
        })
    }

    /// Each message that is to be delivered: its folder's name, its stamp, and its file.
    pub(super) fn held(&self) -> io::Result<Vec<(String, Stamp, PathBuf)>> {
        let mut held = Vec::new();
        self.each(|folder, name| {
            if name.state == State::Held {
                let path = name.in_folder(folder);
                held.push((folder_name(folder).into_owned(), name.stamp, path));
            }
        })?;
        Ok(held)
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
        self.recover_in(&folder, incidents)?;
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
                // Delivered just now, or back under another name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Oldest::Foreign),
                Err(error) => return Err(error),
            };
            if !try_lock(&file)? {
                if is_own(name.stamp) {
                    continue;
                }
                return Ok(Oldest::Foreign);
            }
            if !is_still(&path, &file) {
                return Ok(Oldest::Foreign);
            }
            let read = record::read(&file, file.metadata()?.len()).and_then(|record| {
                let is_in_place = record.intent.key == *key && record.intent.pulled == name.stamp;
                is_in_place.then_some(record).ok_or(RecordError::Misplaced)
            });
            match read {
                Ok(record) => {
                    let folder = folder.clone();
                    return Ok(Oldest::Message(Box::new(Held {
                        folder,
                        name,
                        file: Arc::new(file),
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
            // Another process that has the turn is there to judge them, and may be about to pull.
            if let Some(_turn) = turn(&folder)? {
                self.recover_in(&folder, incidents)?;
            }
        }
        Ok(())
    }

    /// A pull or a delivery that nobody is at work on any more was cut off by a kill.
    fn recover_in(&self, folder: &Path, incidents: &mut Vec<Incident>) -> io::Result<()> {
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
                deliver(folder, name, &file, !self.keep.is_zero())?;
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
                    let intent = intent_at(&path);
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

    /// Removes what was delivered longer ago than it is kept, and queues in which nothing is left; when there
    /// is something to remove next.
    pub(super) fn tidy(&self, now: SystemTime) -> io::Result<Option<SystemTime>> {
        let mut next: Option<SystemTime> = None;
        for folder in self.folders()? {
            let names = names(&folder)?;
            for name in names.iter().filter(|name| name.state == State::Delivered) {
                let path = name.in_folder(&folder);
                let Ok(delivered) = fs::metadata(&path).and_then(|about| about.modified()) else {
                    continue;
                };
                let Some(due) = delivered.checked_add(self.keep) else {
                    continue;
                };
                if due <= now {
                    fs::remove_file(path)?;
                } else {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            if names.is_empty()
                && let Some(_turn) = turn(&folder)?
            {
                // Not while anything is there; what came meanwhile came by another turn, or stays.
                let _ = fs::remove_file(folder.join(TURN)).and_then(|()| fs::remove_dir(&folder));
            }
        }
        Ok(next)
    }

    /// Everything that is there, the oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.each(|folder, name| {
            let path = name.in_folder(folder);
            // What goes away meanwhile is not there.
            let Ok(file) = File::open(&path) else { return };
            let Ok(about) = file.metadata() else { return };
            listed.push(Listed {
                id: format!("{}/{}", folder_name(folder), name.stamp.digits()),
                pulled: name.stamp,
                state: name.state,
                attempts: name.attempts,
                bytes: about.len(),
                is_busy: !try_lock(&file).unwrap_or(true),
                intent: record::read_intent(&file),
                path,
            });
        })?;
        listed.sort_by_key(|listed| listed.pulled);
        Ok(listed)
    }

    fn each(&self, mut act: impl FnMut(&Path, Name)) -> io::Result<()> {
        for folder in self.folders()? {
            for name in names(&folder)? {
                act(&folder, name);
            }
        }
        Ok(())
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            // A volume of its own has a lost+found, which is for nobody else to read.
            let is_ours = entry.file_name().to_str().is_some_and(Key::is_folder);
            if is_ours && entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

/// The turn of a folder among processes; nothing while another has it.
fn turn(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(TURN);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(&path) {
        // An empty folder was removed just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let is_ours = try_lock(&file)? && is_still(&path, &file);
    Ok(is_ours.then_some(file))
}

/// What a file says of its pull.
pub(super) fn intent_at(path: &Path) -> Option<Intent> {
    File::open(path).ok().and_then(record::read_intent)
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
