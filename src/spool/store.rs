//! The messages of all queues: a folder for each queue, a file for each message. Nothing is cached, so that two processes
//! may share a directory, as they do in a hand-over. Without a directory, messages are in memory under the same names.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::error::SpoolError;
use super::folders::{QueueLock, folders, lock_folder, message_name};
use super::format::{self, Content, FormatError, Intent};
use super::id::{MessageId, QueueId};
use super::lost_message::report_lost;
use super::memory::Memory;
use super::message_file::{FileName, LockedFile, MessageBody, MessageState, list};
use super::moved_from;
use super::retention::{self, Retention};
use super::unknown_files::{Search, Unknown, UnknownFiles};
use super::unusable_paths::UnusablePaths;
use crate::config;
use crate::platform::files;
use crate::problems::spool as problems;
use crate::telemetry::metrics::Metrics;

/// The messages of all queues. Every function may wait for the disk.
pub(super) struct Store {
    /// The spool's directory.
    pub(super) root: PathBuf,
    /// The messages without a directory.
    pub(super) memory: Option<Memory>,
    pub(super) retention: Retention,
    metrics: Arc<Metrics>,
    pub(super) unusable: UnusablePaths,
    pub(super) unknown: UnknownFiles,
}

/// A message in the spool. While it exists, no other process works on its file.
pub(super) struct Message {
    pub(super) name: FileName,
    pub(super) content: Arc<Content>,
    /// Its file; none in memory.
    pub(super) file: Option<LockedFile>,
}

/// The result of a search for the oldest message.
pub(super) enum Oldest {
    Message(Message),
    /// Another process works on an older one.
    LockedElsewhere,
    None,
}

/// What is freed at once on a full disk.
const FREED: u64 = 16 << 20;

impl Store {
    /// Opens the store, and recovers what a killed process left behind in its directory.
    pub(super) fn open(config: &config::Spool, metrics: Arc<Metrics>) -> io::Result<Self> {
        let store = Self {
            root: config.directory.clone().unwrap_or_default(),
            memory: config.directory.is_none().then(|| Memory::new(config.memory)),
            retention: Retention::new(config.keep, config.keep_bytes),
            metrics,
            unusable: UnusablePaths::default(),
            unknown: UnknownFiles::default(),
        };
        if !store.is_in_memory() {
            store.open_directory()?;
        }
        Ok(store)
    }

    fn open_directory(&self) -> io::Result<()> {
        match files::create_private_directory(&self.root) {
            // Pulls are refused until it is writable, without a restart.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            created => created?,
        }
        if files::is_on_read_only_disk(&self.root) {
            return Ok(());
        }
        self.unknown.search_only(&self.root, Search::Undelivered)?;
        for folder in self.folders()? {
            // Without the lock, another process recovers them, or is about to pull.
            if let Some(_lock) = lock_folder(&folder)? {
                let names = self.list(&folder)?.into_iter();
                for name in names.filter(|name| name.state == MessageState::Pulling) {
                    self.open_message(&folder, name)?;
                }
            }
        }
        if let Err(error) = self.tidy(SystemTime::now()) {
            tracing::warn!(%error, "retained messages cannot be listed; check the owner of the spool's folders");
        }
        Ok(())
    }

    pub(super) fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(super) fn folder(&self, queue: &QueueId) -> PathBuf {
        self.root.join(queue.folder())
    }

    pub(super) fn folders(&self) -> io::Result<Vec<PathBuf>> {
        match &self.memory {
            Some(memory) => Ok(memory.folders()),
            None => folders(&self.root),
        }
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<FileName>> {
        match &self.memory {
            Some(memory) => Ok(memory.list(folder)),
            None => list(folder),
        }
    }

    /// Locks a queue among processes; `None` while another has it locked.
    pub(super) fn lock_queue(&self, queue: &QueueId) -> Result<Option<QueueLock>, SpoolError> {
        if self.is_in_memory() {
            return Ok(Some(None));
        }
        let folder = self.folder(queue);
        // Messages behind it would not be found again.
        for folder in [&folder, &retention::folder_in(&folder)] {
            if folder.is_symlink() {
                return Err(self.unusable.add_link(folder));
            }
        }
        if !folder.is_dir() {
            files::create_private_directory(&folder)?;
            files::sync_directory(&self.root)?;
        }
        Ok(lock_folder(&folder)?)
    }

    /// Whether another process, or a pull of this one, has a queue locked.
    pub(super) fn is_locked(&self, queue: &QueueId) -> bool {
        let folder = self.folder(queue);
        folder.is_dir() && matches!(lock_folder(&folder), Ok(None))
    }

    /// The oldest message of a locked queue, recovered if a killed process left its pull behind.
    ///
    /// `bondgate spool requeue` cannot reach a dead letter in memory. So a dead letter is delivered if no other message
    /// is left and the memory is full.
    pub(super) fn oldest(
        &self,
        queue: &QueueId,
        is_wanted: impl Fn(MessageId) -> bool,
        skips_locked: bool,
    ) -> io::Result<Oldest> {
        let folder = self.folder(queue);
        let mut names = self.list(&folder)?;
        names.retain(|name| is_wanted(name.id));
        let is_full = self.memory.as_ref().is_some_and(Memory::is_full);
        let waiting = |name: &&FileName| matches!(name.state, MessageState::Pulling | MessageState::Ready);
        let dead = |name: &&FileName| is_full && name.state == MessageState::DeadLetter;
        for name in names.iter().filter(waiting).chain(names.iter().filter(dead)) {
            match self.open_message(&folder, *name)? {
                Oldest::LockedElsewhere if skips_locked => {}
                Oldest::None => {}
                found => return Ok(found),
            }
        }
        Ok(Oldest::None)
    }

    /// Opens the file of a message. The pull of a killed process becomes a message if it is whole, or is lost. `None` for a
    /// file that holds no message, which is reported.
    fn open_message(&self, folder: &Path, name: FileName) -> io::Result<Oldest> {
        if let Some(memory) = &self.memory {
            let content = memory.find(folder, name.id);
            return Ok(content.map_or(Oldest::None, |content| Oldest::message(name, content, None)));
        }
        let file = match LockedFile::open(folder, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.unusable.add_file(&name.in_folder(folder), &error.into());
                return Ok(Oldest::None);
            }
            opened => opened?,
        };
        let Some(mut file) = file else {
            return Ok(Oldest::LockedElsewhere);
        };
        let is_pull = name.state == MessageState::Pulling;
        let read =
            format::read(&*file.file, file.length()?).and_then(|content| in_place(content, folder, name));
        match read {
            Ok(content) => {
                if is_pull {
                    file.file.sync_all()?;
                    file = file.set_state(MessageState::Ready)?;
                    files::sync_directory(folder)?;
                    tracing::warn!(
                        queue = %content.intent.queue,
                        pulled = %name.id,
                        "pulled message recovered after a crash or a disk error, it will be redelivered"
                    );
                }
                return Ok(Oldest::message(file.name, Arc::new(content), Some(file)));
            }
            Err(FormatError::Io(error)) => return Err(error),
            Err(FormatError::Unplaced(error)) => {
                let file = moved_from::path(folder);
                self.unusable.add_file(&file, &error.into());
            }
            Err(FormatError::Later(format)) => {
                if self.unknown.add(file.path(), Unknown::Format(format)) {
                    self.unusable.set_new();
                }
            }
            Err(_) if is_pull => {
                let intent = File::open(file.path())
                    .ok()
                    .and_then(|file| Intent::read(file).ok());
                file.lose()?;
                let reason = "bondgate or the machine was killed";
                report_lost(&self.metrics, name.id, intent.as_ref(), reason);
            }
            Err(error) => {
                let path = file.set_state(MessageState::Damaged)?.path();
                self.metrics.spool.corrupt.inc();
                let problem = problems::files_damaged(1).code();
                tracing::error!(path = %path.display(), problem, %error, "spool file is damaged and is not delivered");
            }
        }
        Ok(Oldest::None)
    }

    /// The id of the newest message in a queue.
    pub(super) fn last_id(&self, queue: &QueueId) -> io::Result<Option<MessageId>> {
        let names = self.list(&self.folder(queue))?;
        Ok(names.last().map(|name| name.id))
    }

    /// Writes down that a pull is about to be sent, and reserves disk space for what it brings.
    pub(super) fn begin(&self, intent: &Intent) -> io::Result<Option<LockedFile>> {
        if self.is_in_memory() {
            return Ok(None);
        }
        let folder = self.folder(&intent.queue);
        self.with_space(|| LockedFile::create(&folder, intent)).map(Some)
    }

    /// Makes a message of the response to a pull, whose file is complete.
    pub(super) fn add(&self, content: Content, file: Option<LockedFile>) -> Message {
        let name = FileName::new(content.intent.id, MessageState::Ready);
        let content = Arc::new(content);
        if let Some(memory) = &self.memory {
            memory.insert(&self.folder(&content.intent.queue), name, content.clone());
        }
        Message { name, content, file }
    }

    /// Writes, and once more if the disk was full and removing retained messages freed space.
    pub(super) fn with_space<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if files::is_disk_full(&error) && self.retention.free(&self.folders()?, FREED)? => {
                write()
            }
            written => written,
        }
    }

    /// Records a failed delivery of a message. Returns how many there were.
    pub(super) fn fail(&self, message: &Message) -> io::Result<u32> {
        let failures = message.name.failures.saturating_add(1);
        let name = FileName {
            failures,
            ..message.name
        };
        if let Some(file) = &message.file {
            file.rename(name)?;
        } else if let Some(memory) = &self.memory {
            memory.rename(&self.folder(&message.content.intent.queue), name);
        }
        Ok(failures)
    }

    /// Takes a delivered message out of its queue.
    pub(super) fn deliver(&self, message: &Message) -> io::Result<()> {
        if let Some(file) = &message.file {
            self.retention.take(file)?;
        } else if let Some(memory) = &self.memory {
            memory.remove(&self.folder(&message.content.intent.queue), message.name.id);
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
        let is_it = |name: &FileName| name.id == id && name.state == MessageState::Ready;
        let Some(name) = self.list(&folder)?.into_iter().find(is_it) else {
            return Ok(None);
        };
        if let Some(memory) = &self.memory {
            let state = MessageState::DeadLetter;
            if !memory.rename(&folder, FileName { state, ..name }) {
                return Ok(None);
            }
        } else {
            let Some(file) = LockedFile::open(&folder, name)? else {
                return Ok(None);
            };
            file.file.set_modified(SystemTime::now())?;
            file.set_state(MessageState::DeadLetter)?;
        }
        Ok(Some(message_name(&folder, id)))
    }
}

/// The content of a message in a folder, with the queue that it belongs to now.
fn in_place(mut content: Content, folder: &Path, name: FileName) -> Result<Content, FormatError> {
    let queue = moved_from::queue_in(folder, &content.intent.queue).map_err(FormatError::Unplaced)?;
    match queue {
        Some(queue) if content.intent.id == name.id => {
            content.intent.queue = queue;
            Ok(content)
        }
        _ => Err(FormatError::Damaged("it belongs to another message or queue")),
    }
}

impl Oldest {
    fn message(name: FileName, content: Arc<Content>, file: Option<LockedFile>) -> Self {
        Self::Message(Message { name, content, file })
    }
}

impl Message {
    pub(super) fn body(&self) -> io::Result<MessageBody> {
        let content = &self.content;
        if let (None, Some(file)) = (&content.small, &self.file) {
            return file.body(content.offset, content.length, Bytes::new());
        }
        let rest = content.small.clone().unwrap_or_default();
        Ok(MessageBody { file: None, rest })
    }
}
