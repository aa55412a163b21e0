//! Messages in a directory: one folder per queue, one file per message, with its state in its name. Nothing of it is
//! cached, so that two processes may share a directory, as they do in a hand-over.
//!
//! A process that works on a file holds its lock, which ends with the process whatever ends it. So the file of a pull
//! that is not locked was left by a process that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::file::{Draft, Held, Name, State, lose, names, rename, sync, try_lock};
use super::holding::Holding;
use super::key::Key;
use super::record::{self, Intent, RecordError, Stamp};
use super::retained::{self, Retention};

/// A spool's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
    retention: Arc<Retention>,
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
    /// A file cannot be used, and is left as it is: a later bondgate wrote it, or it may not be opened.
    Unusable { path: PathBuf, error: RecordError },
}

/// A message for `bondgate spool list`.
#[derive(Debug)]
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
    /// What was asked, or why that cannot be read.
    pub intent: Result<Intent, String>,
    /// Whether a later bondgate wrote it: it is left where it is.
    pub is_later: bool,
    /// When its state last changed: when it was delivered, or became a dead letter.
    pub changed: SystemTime,
    /// Its file.
    pub path: PathBuf,
    /// The folder of its queue.
    pub(super) queue: PathBuf,
}

impl Listed {
    /// Whether it is a dead letter or a retained message, which can be put back into its queue.
    #[must_use]
    pub fn is_requeueable(&self) -> bool {
        matches!(self.state, State::DeadLetter | State::Delivered)
    }
}

/// Whoever has its lock has the turn of its folder.
const TURN: &str = "turn";
const WRITTEN_BY_OTHERS: u32 = 0o002;

impl Directory {
    /// Opens a directory, and makes it where it is not there.
    pub(super) fn open(root: &Path, retention: Retention) -> io::Result<Self> {
        match make(root) {
            // Whoever mends that need not start anew.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            made => made?,
        }
        if fs::metadata(root).is_ok_and(|about| about.mode() & WRITTEN_BY_OTHERS != 0) {
            tracing::warn!(
                path = %root.display(),
                "every user of this machine may write in the spool's directory, and so remove or replace messages; \
                 run chmod o-w on it, or set spool.directory to a directory in it, which bondgate creates for itself"
            );
        }
        Ok(Self {
            root: root.to_owned(),
            retention: Arc::new(retention),
        })
    }

    /// A directory that is there, or not, to be looked at.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            retention: Arc::new(Retention::new(Duration::ZERO, 0)),
        }
    }

    pub(super) fn retention(&self) -> &Retention {
        &self.retention
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
                holding.add(name.state, name.stamp, name.attempts, about.len());
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

    /// Makes room on a full disk, of which the delivered messages are the first to go. Returns whether there was any.
    pub(super) fn free(&self, bytes: u64) -> io::Result<bool> {
        self.retention.free(&self.folders()?, bytes)
    }

    /// Takes a delivered message out of its queue.
    pub(super) fn delivered(&self, held: &Held) -> io::Result<()> {
        self.retention.take(&held.folder, held.name, &held.file)
    }

    /// Makes a dead letter of a message, unless it is with a caller just now. Returns its name for people.
    pub(super) fn set_aside(&self, key: &Key, stamp: Stamp) -> io::Result<Option<String>> {
        let folder = self.root.join(key.folder());
        let name = names(&folder)?
            .into_iter()
            .find(|name| name.stamp == stamp && name.state == State::Held);
        let Some(name) = name else { return Ok(None) };
        let path = name.in_folder(&folder);
        let file = open(&path)?;
        if !try_lock(&file)? || !is_still(&path, &file) {
            return Ok(None);
        }
        file.set_modified(SystemTime::now())?;
        rename(&folder, name, name.attempts, State::DeadLetter)?;
        Ok(Some(id(&folder, stamp)))
    }

    /// The oldest message of a queue that no caller has, older than `before` and newer than `after`; `is_own` tells
    /// which stamps this process is at work on. Files that a killed process left behind are recovered on the way.
    pub(super) fn oldest(
        &self,
        key: &Key,
        (after, before): (Option<Stamp>, Option<Stamp>),
        is_own: impl Fn(Stamp) -> bool,
        incidents: &mut Vec<Incident>,
    ) -> io::Result<Oldest> {
        let folder = self.root.join(key.folder());
        Self::recover_in(&folder, incidents)?;
        for name in names(&folder)? {
            if before.is_some_and(|before| name.stamp > before) {
                break;
            }
            if after.is_some_and(|after| name.stamp <= after) {
                continue;
            }
            match name.state {
                State::Held => {}
                State::Pulling if !is_own(name.stamp) => {
                    match File::open(name.in_folder(&folder)).map(record::read_intent) {
                        Ok(Err(RecordError::Later(_))) => continue,
                        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                        _ => return Ok(Oldest::Foreign),
                    }
                }
                _ => continue,
            }
            let path = name.in_folder(&folder);
            let file = match open(&path) {
                Ok(file) => file,
                // Delivered just now, or back under another name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Oldest::Foreign),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let error = error.into();
                    incidents.push(Incident::Unusable { path, error });
                    continue;
                }
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
                Err(error @ RecordError::Later(_)) => incidents.push(Incident::Unusable { path, error }),
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
                Self::recover_in(&folder, incidents)?;
            }
        }
        Ok(())
    }

    /// A pull or a delivery that nobody is at work on any more was cut off by a kill.
    fn recover_in(folder: &Path, incidents: &mut Vec<Incident>) -> io::Result<()> {
        for name in names(folder)? {
            if name.state != State::Pulling {
                continue;
            }
            let path = name.in_folder(folder);
            let file = match open(&path) {
                Ok(file) => file,
                Err(error) => {
                    if error.kind() == io::ErrorKind::PermissionDenied {
                        let error = error.into();
                        incidents.push(Incident::Unusable { path, error });
                    }
                    continue;
                }
            };
            if !try_lock(&file)? || !is_still(&path, &file) {
                continue;
            }
            let intent = match record::read_intent(&file) {
                Err(error @ RecordError::Later(_)) => {
                    incidents.push(Incident::Unusable { path, error });
                    continue;
                }
                intent => intent.ok(),
            };
            (&file).rewind()?;
            match record::read(&file, file.metadata()?.len()) {
                Ok(record) => {
                    file.sync_all()?;
                    rename(folder, name, 0, State::Held)?;
                    sync(folder)?;
                    incidents.push(Incident::Saved(record.intent));
                }
                Err(RecordError::Io(error)) => return Err(error),
                Err(_) => {
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

    /// Removes delivered messages that were retained for long enough, and queues in which nothing is left. Returns when
    /// the next message is due.
    pub(super) fn tidy(&self, now: SystemTime) -> io::Result<Option<SystemTime>> {
        let folders = self.folders()?;
        let next = self.retention.tidy(&folders, now)?;
        for folder in folders {
            if !names(&folder)?.is_empty() {
                continue;
            }
            // It fails where any message is retained.
            let _ = fs::remove_dir(retained::folder_in(&folder));
            if !retained::folder_in(&folder).exists()
                && let Some(_turn) = turn(&folder)?
            {
                // It fails where anything else is there.
                let _ = fs::remove_file(folder.join(TURN)).and_then(|()| fs::remove_dir(&folder));
            }
        }
        Ok(next)
    }

    /// Everything that is there, the oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for queue in self.folders()? {
            for folder in [retained::folder_in(&queue), queue.clone()] {
                if !folder.symlink_metadata().is_ok_and(|about| about.is_dir()) {
                    continue;
                }
                for name in names(&folder)? {
                    // One that goes away meanwhile is not there.
                    listed.extend(listed_at(&queue, &folder, name));
                }
            }
        }
        listed.sort_by_key(|listed| listed.pulled);
        Ok(listed)
    }

    /// Puts a dead letter or a retained message back into its queue, at the place that it had. Nothing, where another
    /// process is at work on it.
    pub(super) fn requeue(listed: &Listed) -> Result<Option<()>, RecordError> {
        let file = open(&listed.path)?;
        if !try_lock(&file)? || !is_still(&listed.path, &file) {
            return Ok(None);
        }
        record::read(&file, file.metadata()?.len())?;
        let ready = Name {
            stamp: listed.pulled,
            attempts: 0,
            state: State::Held,
        };
        fs::rename(&listed.path, ready.in_folder(&listed.queue))?;
        sync(&listed.queue)?;
        Ok(Some(()))
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

fn listed_at(queue: &Path, folder: &Path, name: Name) -> Option<Listed> {
    let path = name.in_folder(folder);
    let file = File::open(&path).ok()?;
    let about = file.metadata().ok()?;
    let intent = record::read_intent(&file);
    Some(Listed {
        id: id(queue, name.stamp),
        pulled: name.stamp,
        state: name.state,
        attempts: name.attempts,
        bytes: about.len(),
        is_busy: !try_lock(&file).unwrap_or(true),
        is_later: matches!(intent, Err(RecordError::Later(_))),
        intent: intent.map_err(|error| error.to_string()),
        changed: about.modified().ok()?,
        path,
        queue: queue.to_owned(),
    })
}

/// What a file says of its pull.
pub(super) fn intent_at(path: &Path) -> Option<Intent> {
    record::read_intent(File::open(path).ok()?).ok()
}

/// What a message is called, for people: the folder of its queue and its digits.
pub(super) fn id(queue: &Path, stamp: Stamp) -> String {
    format!("{}/{}", folder_name(queue), stamp.digits())
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
