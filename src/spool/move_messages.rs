//! Moves the messages of a queue to another one, beside a running daemon or without one.
//!
//! Both queues are locked meanwhile, and each message's file, as by the process that delivers it. The file `moved` is
//! durable before the first message follows, and one rename moves each message: a crash leaves it in one of the two queues,
//! and running the same command again completes the move.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folders::{QueueLock, folders, lock_folder, message_name};
use super::format::Intent;
use super::id::{MessageId, QueueId};
use super::inspect::InspectError;
use super::message_file::{FileName, LockedFile, MessageState, list};
use super::moved_from::{MovedFrom, queue_in};
use super::requested::{RequestedQueues, queue_of_folder};
use super::retention;
use crate::platform::files;

/// A move of all messages of one queue to another.
pub struct Move {
    directory: PathBuf,
    from: QueueId,
    to: QueueId,
}

/// What a move did.
#[derive(Debug, Default)]
pub struct MoveOutcome {
    /// Messages that wait for a caller, and dead letters.
    pub undelivered: usize,
    /// Delivered messages, which can be requeued.
    pub delivered: usize,
    /// The names of files that were left, and why.
    pub left: Vec<(String, &'static str)>,
}

/// How often a lock is tried that a daemon holds during a pull.
const TRIES: u32 = 300;
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(10);

impl Move {
    /// Finds the two queues: each named by its folder, or in words as `bondgate spool list` shows it. `to` must hold
    /// messages or be requested by a consuming rule; the latter is checked only if `requested` is given.
    pub fn find(
        directory: &Path,
        from: &str,
        to: &str,
        requested: Option<&RequestedQueues>,
    ) -> Result<Self, InspectError> {
        let known: Vec<_> = folders(directory)?
            .iter()
            .filter_map(|folder| queue_of_folder(folder))
            .collect();
        let named = |text: &str| {
            known
                .iter()
                .find(|queue| queue.folder() == text || queue.to_string() == text)
        };
        let Some(from) = named(from).cloned() else {
            check_readable(directory, from)?;
            return Err(InspectError::Refused(unknown(from, &known)));
        };
        let candidates = requested.map(|requested| requested.candidates(&from));
        let candidate = candidates.iter().flatten().find(|queue| queue.folder() == to);
        let Some(to) = named(to).or(candidate).cloned().or_else(|| QueueId::parse(to)) else {
            let all = [known, candidates.unwrap_or_default()].concat();
            return Err(InspectError::Refused(unknown(to, &all)));
        };
        let is_requested = requested.is_none_or(|requested| requested.include(&to));
        if !is_requested && !known.contains(&to) {
            let reason = format!("no consuming rule of the configuration requests {to}");
            return Err(InspectError::Refused(
                reason + &choice(&candidates.unwrap_or_default()),
            ));
        }
        if from == to {
            return Err(InspectError::Refused(format!(
                "both names are the queue {to}; name two queues"
            )));
        }
        let directory = directory.to_owned();
        Ok(Self { directory, from, to })
    }

    /// The queue that is emptied, and the one that gets its messages.
    #[must_use]
    pub fn queues(&self) -> (&QueueId, &QueueId) {
        (&self.from, &self.to)
    }

    /// Moves the messages.
    pub fn run(&self) -> Result<MoveOutcome, InspectError> {
        let [from, to] = [&self.from, &self.to].map(|queue| self.directory.join(queue.folder()));
        let from_retained = retention::folder_in(&from);
        if movable(&from)?.is_empty() && movable(&from_retained)?.is_empty() {
            let reason = format!("{} holds no messages: there is nothing to move", self.from);
            return Err(InspectError::Refused(reason));
        }
        for folder in [&to, &retention::folder_in(&to)] {
            if folder.is_symlink() {
                let reason = format!(
                    "{} is a symbolic link; replace it by a directory",
                    folder.display()
                );
                return Err(InspectError::Refused(reason));
            }
        }
        let _locks = [self.lock(&from, &self.from)?, self.lock(&to, &self.to)?];
        MovedFrom::add(&self.from, &from, &self.to, &to)?;
        let to_retained = retention::folder_in(&to);
        let taken = list(&to)?.into_iter().chain(list(&to_retained)?);
        let taken: HashSet<_> = taken.map(|name| name.id).collect();
        let mut outcome = MoveOutcome::default();
        self.move_folder(&from, (&from, &to), &taken, &mut outcome)?;
        self.move_folder(&from, (&from_retained, &to_retained), &taken, &mut outcome)?;
        Ok(outcome)
    }

    /// Moves the messages of a folder: a queue's, or that of its retained messages. `taken` are the ids in the other queue.
    fn move_folder(
        &self,
        queue: &Path,
        (from, to): (&Path, &Path),
        taken: &HashSet<MessageId>,
        outcome: &mut MoveOutcome,
    ) -> Result<(), InspectError> {
        let names = movable(from)?;
        if names.is_empty() {
            return Ok(());
        }
        self.create(to)?;
        for name in names {
            let moved = match self.check(queue, from, name)? {
                Ok(_) if taken.contains(&name.id) => Some(
                    "was pulled in the same microsecond as a message of the other queue; deliver or discard that one",
                ),
                Ok(file) => {
                    files::rename(&file.path(), &name.in_folder(to))?;
                    None
                }
                Err(reason) => Some(reason),
            };
            match moved {
                None if name.state == MessageState::Delivered => outcome.delivered += 1,
                None => outcome.undelivered += 1,
                Some(reason) => outcome.left.push((message_name(queue, name.id), reason)),
            }
        }
        // The new names first: a message must not be in neither folder.
        files::sync_directory(to)?;
        files::sync_directory(from)?;
        Ok(())
    }

    /// The file of a message that can be moved, which no other process works on then; or why it is left.
    fn check(
        &self,
        queue: &Path,
        folder: &Path,
        name: FileName,
    ) -> io::Result<Result<LockedFile, &'static str>> {
        match name.state {
            MessageState::Ready | MessageState::DeadLetter | MessageState::Delivered => {}
            MessageState::Pulling => {
                return Ok(Err(
                    "is being pulled, or its pull was interrupted; start bondgate, then try again",
                ));
            }
            MessageState::Lost | MessageState::Damaged => return Ok(Err("is no message")),
        }
        let Some(file) = LockedFile::open(folder, name)? else {
            return Ok(Err("is being delivered; try again in a few seconds"));
        };
        let intent = Intent::read(&*file.file);
        let is_own = match &intent {
            Ok(intent) => queue_in(queue, &intent.queue)?.as_ref() == Some(&self.from),
            Err(_) => false,
        };
        Ok(is_own
            .then_some(file)
            .ok_or("is damaged, misplaced or a later version's"))
    }

    /// Locks a queue as a daemon does, so that nothing is pulled into it and its folder is not removed.
    fn lock(&self, folder: &Path, queue: &QueueId) -> Result<QueueLock, InspectError> {
        for _ in 0..TRIES {
            self.create(folder)?;
            if let Some(lock) = lock_folder(folder)? {
                lock.iter()
                    .try_for_each(|lock| files::give_to_owner_of(lock, &self.directory))?;
                return Ok(lock);
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(InspectError::Refused(format!(
            "a message of {queue} is being pulled now; try again when that has ended"
        )))
    }

    /// Creates a folder for the owner of the spool's directory: the command may be run by root. One that an interrupted move
    /// has left to root is given to that owner too.
    fn create(&self, folder: &Path) -> io::Result<()> {
        if !folder.is_dir() {
            files::create_private_directory(folder)?;
            folder.parent().map_or(Ok(()), files::sync_directory)?;
        }
        files::give_to_owner_of(&files::open_directory(folder)?, &self.directory)
    }
}

/// The messages of a folder. What is lost or damaged is reported where it is, and delivered by no queue.
fn movable(folder: &Path) -> io::Result<Vec<FileName>> {
    let mut names = list(folder)?;
    names.retain(|name| !matches!(name.state, MessageState::Lost | MessageState::Damaged));
    Ok(names)
}

/// Fails if the queue of a name exists, and this user may not read its messages.
fn check_readable(directory: &Path, name: &str) -> io::Result<()> {
    let folder = QueueId::parse(name).map_or_else(|| name.to_owned(), |queue| queue.folder());
    if QueueId::is_folder(&folder) {
        let folder = directory.join(folder);
        for name in list(&folder)? {
            fs::File::open(name.in_folder(&folder))?;
        }
    }
    Ok(())
}

fn unknown(name: &str, known: &[QueueId]) -> String {
    format!("there is no queue {name:?}{}", choice(known))
}

fn choice(queues: &[QueueId]) -> String {
    if queues.is_empty() {
        return "; `bondgate spool list` shows the queues".to_owned();
    }
    let queues: Vec<_> = queues
        .iter()
        .map(|queue| format!("{} ({queue})", queue.folder()))
        .collect();
    format!("; name one of {}", queues.join(", "))
}
