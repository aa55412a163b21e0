//! Messages in a directory: a folder for each queue, a file for each message. Nothing is cached, so that two processes
//! may share a directory, as they do in a hand-over.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::blocking::lock;
use super::file::{FileName, LockedFile, State, list};
use super::format::{self, FormatError, Intent};
use super::holding::Holding;
use super::id::{MessageId, QueueId};
use super::message::{Message, report_lost};
use super::retention::{self, Retention};
use crate::platform::files;
use crate::telemetry::metrics::Metrics;

/// The spool's directory.
pub(super) struct Directory {
    pub(super) root: PathBuf,
    pub(super) retention: Retention,
    metrics: Arc<Metrics>,
    /// Unusable files that were reported.
    reported: Mutex<HashSet<PathBuf>>,
}

/// A search for the oldest message of a queue.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) queue: &'a QueueId,
    /// Only newer messages.
    pub(super) after: Option<MessageId>,
    /// Messages that this process is delivering, which are left out.
    pub(super) in_progress: &'a [MessageId],
    /// Whether messages that another process works on are left out too.
    pub(super) skips_locked: bool,
}

/// The result of a search for the oldest message.
pub(super) enum Oldest {
    Message(Arc<Message>),
    /// Another process works on an older one.
    LockedElsewhere,
    None,
}

/// The lock of a queue among processes: a locked file, and none in memory.
pub(super) type QueueLock = Option<File>;

/// The file that is locked, in a queue's folder.
const LOCK_FILE: &str = "turn";
/// What is freed at once on a full disk.
const FREED: u64 = 16 << 20;
/// Unusable files that are reported one by one.
const MOST_REPORTED: usize = 100;

impl Directory {
    /// Opens a directory, and creates it if necessary.
    pub(super) fn open(root: &Path, retention: Retention, metrics: Arc<Metrics>) -> io::Result<Self> {
        match files::create_private_directory(root) {
            // Pulls are refused until it is writable, without a restart.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            created => created?,
        }
        if files::is_writable_by_others(root) {
            tracing::warn!(
                path = %root.display(),
                "every user of this machine may write in the spool's directory, and remove or replace messages; run \
                 chmod o-w on it, or set spool.directory to a directory in it, which bondgate creates for itself"
            );
        }
        Ok(Self {
            root: root.to_owned(),
            retention,
            metrics,
            reported: Mutex::default(),
        })
    }

    /// Recovers what a killed process left behind, and removes what is retained for too long.
    pub(super) fn recover(&self) -> io::Result<()> {
        if files::is_on_read_only_disk(&self.root) {
            tracing::error!(
                path = %self.root.display(),
                "the spool's directory is on a read-only disk: nothing is pulled until it is writable"
            );
            return Ok(());
        }
        for folder in folders(&self.root)? {
            // Without the lock, another process recovers them, or is about to pull.
            if let Some(_lock) = lock_folder(&folder)? {
                for name in list(&folder)?.into_iter().filter(FileName::is_pulling) {
                    self.open_message(&folder, name)?;
                }
            }
        }
        if let Err(error) = self.tidy(SystemTime::now()) {
            tracing::warn!(%error, "retained messages cannot be listed; check the owner of the spool's folders");
        }
        Ok(())
    }

    fn folder(&self, queue: &QueueId) -> PathBuf {
        self.root.join(queue.folder())
    }

    /// Locks a queue among processes; `None` while another has it locked.
    pub(super) fn lock_queue(&self, queue: &QueueId) -> io::Result<Option<QueueLock>> {
        let folder = self.folder(queue);
        if !folder.is_dir() {
            files::create_private_directory(&folder)?;
            files::sync_directory(&self.root)?;
        }
        lock_folder(&folder)
    }

    /// The oldest message of a locked queue, recovered if a killed process left its pull behind.
    pub(super) fn oldest(&self, search: &Search<'_>) -> io::Result<Oldest> {
        let folder = self.folder(search.queue);
        let names = list(&folder)?.into_iter();
        for name in names.filter(|name| (name.is_pulling() || name.is_ready()) && search.covers(name.id)) {
            match self.open_message(&folder, name)? {
                Oldest::LockedElsewhere if search.skips_locked => {}
                Oldest::None => {}
                found => return Ok(found),
            }
        }
        Ok(Oldest::None)
    }

    /// Opens the file of a message. The pull of a killed process becomes a message if it is whole, or is lost. `None` for a
    /// file that holds no message, which is reported.
    fn open_message(&self, folder: &Path, name: FileName) -> io::Result<Oldest> {
        let file = match LockedFile::open(folder, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.report_unusable(name.in_folder(folder), &error.into());
                return Ok(Oldest::None);
            }
            opened => opened?,
        };
        let Some(mut file) = file else {
            return Ok(Oldest::LockedElsewhere);
        };
        let is_pull = name.is_pulling();
        let parsed = format::read(&file.file, file.length()?).and_then(|parsed| {
            let Intent { id, queue, .. } = &parsed.intent;
            let is_in_place = *id == name.id && queue.folder() == folder_name(folder);
            is_in_place.then_some(parsed).ok_or(FormatError::Misplaced)
        });
        match parsed {
            Ok(parsed) => {
                if is_pull {
                    file.file.sync_all()?;
                    file.make_ready()?;
                    files::sync_directory(folder)?;
                    tracing::warn!(
                        queue = %parsed.intent.queue,
                        pulled = %name.id,
                        "pulled message recovered after a crash, it will be redelivered"
                    );
                }
                return Ok(Oldest::Message(Arc::new(Message::new(parsed, Some(file), None))));
            }
            Err(FormatError::Io(error)) => return Err(error),
            Err(error @ FormatError::Later(_)) => self.report_unusable(file.path(), &error),
            Err(_) if is_pull => {
                let intent = file.intent().ok();
                file.lose()?;
                let reason = "bondgate or the machine was killed";
                report_lost(&self.metrics, name.id, intent.as_ref(), reason);
            }
            Err(error) => {
                let path = file.rename(State::Damaged, name.failures)?;
                self.metrics.spool.corrupt.inc();
                tracing::error!(path = %path.display(), %error, "spool file is damaged and is not delivered");
            }
        }
        Ok(Oldest::None)
    }

    fn report_unusable(&self, path: PathBuf, error: &FormatError) {
        let mut reported = lock(&self.reported);
        if reported.len() < MOST_REPORTED && !reported.contains(&path) {
            tracing::error!(
                path = %path.display(),
                %error,
                "spool file cannot be used and is left as it is; if permission is denied, chown it to bondgate's user"
            );
            reported.insert(path);
        }
    }

    /// The id of the newest message in a queue.
    pub(super) fn last_id(&self, queue: &QueueId) -> io::Result<Option<MessageId>> {
        Ok(list(&self.folder(queue))?.last().map(|name| name.id))
    }

    /// Writes down that a pull is about to be sent, and reserves disk space for what it brings.
    pub(super) fn begin(&self, intent: &Intent) -> io::Result<LockedFile> {
        let folder = self.folder(&intent.queue);
        self.with_space(|| LockedFile::create(&folder, intent))
    }

    /// Writes, and once more if the disk was full and removing retained messages freed space.
    pub(super) fn with_space<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error)
                if files::is_disk_full(&error) && self.retention.free(&folders(&self.root)?, FREED)? =>
            {
                write()
            }
            written => written,
        }
    }

    /// Takes a delivered message out of its queue.
    pub(super) fn deliver(&self, message: &Message) -> io::Result<()> {
        if let Some(file) = &message.file {
            self.retention.take(file)?;
        }
        if self.retention.is_over_limit()
            && let Err(error) = self.tidy(SystemTime::now())
        {
            tracing::warn!(%error, "retained messages cannot be removed; check the owner of the spool's folders");
        }
        Ok(())
    }

    /// Makes a dead letter of a message. Returns its name, or `None` if the message is being delivered or gone.
    pub(super) fn make_dead_letter(&self, queue: &QueueId, id: MessageId) -> io::Result<Option<String>> {
        let folder = self.folder(queue);
        let is_it = |name: &FileName| name.id == id && name.state == State::Ready;
        let Some(name) = list(&folder)?.into_iter().find(is_it) else {
            return Ok(None);
        };
        let Some(file) = LockedFile::open(&folder, name)? else {
            return Ok(None);
        };
        file.file.set_modified(SystemTime::now())?;
        file.rename(State::DeadLetter, name.failures)?;
        Ok(Some(message_name(&folder, id)))
    }

    /// Counts the messages of all queues.
    pub(super) fn count(&self) -> io::Result<Holding> {
        let mut holding = Holding {
            retained_bytes: self.retention.bytes(),
            ..Holding::default()
        };
        for folder in folders(&self.root)? {
            for name in list(&folder)? {
                // It may have gone meanwhile.
                if let Ok(metadata) = fs::metadata(name.in_folder(&folder)) {
                    holding.add(name.state, name.id, name.failures, metadata.len());
                }
            }
        }
        Ok(holding)
    }

    /// The messages of each queue that are ready to be delivered.
    pub(super) fn ready(&self) -> io::Result<Vec<(String, Vec<MessageId>)>> {
        let mut queues = Vec::new();
        for folder in folders(&self.root)? {
            let ready: Vec<_> = list(&folder)?.into_iter().filter(FileName::is_ready).collect();
            let Some(first) = ready.first() else { continue };
            let intent = File::open(first.in_folder(&folder)).map(Intent::read);
            let queue = match intent {
                Ok(Ok(intent)) => intent.queue.to_string(),
                _ => folder_name(&folder),
            };
            queues.push((queue, ready.iter().map(|name| name.id).collect()));
        }
        Ok(queues)
    }

    /// Removes what is retained for too long, and the folders of empty queues.
    pub(super) fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let folders = folders(&self.root)?;
        self.retention.tidy(&folders, now)?;
        for folder in folders {
            if !list(&folder)?.is_empty() {
                continue;
            }
            let retained = retention::folder_in(&folder);
            // Each removal fails if anything is left in the folder.
            let _ = fs::remove_dir(&retained);
            if !retained.exists()
                && let Some(_lock) = lock_folder(&folder)?
            {
                let _ = fs::remove_file(folder.join(LOCK_FILE)).and_then(|()| fs::remove_dir(&folder));
            }
        }
        Ok(())
    }
}

impl Search<'_> {
    pub(super) fn covers(&self, id: MessageId) -> bool {
        self.after.is_none_or(|after| id > after) && !self.in_progress.contains(&id)
    }
}

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

fn lock_folder(folder: &Path) -> io::Result<Option<QueueLock>> {
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

fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
