//! The queues that requests can name in a configuration, and those that hold messages and none can.

use std::io;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::folders::{folder_name, folders};
use super::format::Intent;
use super::id::QueueId;
use super::message_file::{FileName, MessageState, list};
use super::moved_from;
use crate::config;
use crate::platform::shell::quoted;
use crate::problems::{Problem, spool as problems};

/// The queues that requests can name.
pub struct RequestedQueues(Vec<Requested>);

/// The queues of one upstream.
struct Requested {
    upstream: config::Upstream,
    /// `None` where it cannot be read now: it may be any.
    client_id: Option<String>,
}

/// A queue with undelivered messages.
#[derive(Clone)]
pub(super) struct UndeliveredQueue {
    pub(super) queue: QueueId,
    pub(super) messages: usize,
}

impl RequestedQueues {
    /// Those of the upstreams that listeners serve. Reads their client ids, and so may wait for the disk.
    pub fn of<'a>(upstreams: impl IntoIterator<Item = &'a config::Upstream>) -> Self {
        let requested = |upstream: &config::Upstream| {
            let id = upstream.client_id.load().ok();
            Requested {
                upstream: upstream.clone(),
                client_id: id.map(|id| id.expose_secret().to_owned()),
            }
        };
        Self(upstreams.into_iter().map(requested).collect())
    }

    /// Whether a request can name this queue.
    #[must_use]
    pub fn include(&self, queue: &QueueId) -> bool {
        self.0.iter().any(|requested| requested.includes(queue))
    }

    /// The queues that can take the messages of a queue: each that a rule names exactly, and those of its own route under a
    /// rule that ends in `*`.
    #[must_use]
    pub fn candidates(&self, queue: &QueueId) -> Vec<QueueId> {
        let mut candidates = Vec::new();
        for requested in &self.0 {
            let Some(client_id) = &requested.client_id else {
                continue;
            };
            let upstream = &requested.upstream;
            for rule in upstream.rules.named() {
                let path = match rule.path.prefix() {
                    None => Some(&**rule.path.text()),
                    Some(_) => requested.path(queue).filter(|path| rule.path.matches(path)),
                };
                if let Some(path) = path.filter(|path| upstream.rules.consume_at(path)) {
                    let candidate = QueueId::of(&upstream.url, client_id.clone(), path);
                    if !candidates.contains(&candidate) {
                        candidates.push(candidate);
                    }
                }
            }
        }
        candidates
    }

    /// The queue that replaces one that is no longer requested: the only candidate of those that have most in common with
    /// it. A second API of the configuration does not make it ambiguous which client id was replaced.
    fn replacement(&self, queue: &QueueId) -> Option<QueueId> {
        let common = |other: &QueueId| {
            [
                other.authority == queue.authority,
                other.client_id == queue.client_id,
                other.route == queue.route,
            ]
            .map(usize::from)
            .iter()
            .sum::<usize>()
        };
        let mut candidates = self.candidates(queue);
        let most = candidates.iter().map(&common).max()?;
        candidates.retain(|candidate| common(candidate) == most);
        match &candidates[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// The problem of a queue with undelivered messages, if no request can name it. Without a directory, messages are in memory.
    pub(super) fn problem(&self, held: &UndeliveredQueue, directory: Option<&Path>) -> Option<Problem> {
        let UndeliveredQueue { queue, messages } = held;
        if self.0.is_empty() || self.include(queue) {
            return None;
        }
        let remedy = match (directory, self.replacement(queue)) {
            (None, _) => {
                "configure it again before bondgate ends: without spool.directory, they cannot be moved"
                    .to_owned()
            }
            (Some(directory), Some(to)) => {
                let command = move_command(directory, queue, &to);
                let to = to.to_string().replace(char::is_control, "\u{fffd}");
                format!("if {to} replaces it, run `{command}`; or configure the old queue again")
            }
            (Some(directory), None) => {
                let directory = shell_directory(directory);
                format!(
                    "configure the old queue again, or move them: `bondgate spool move --directory {directory} {} QUEUE`, where QUEUE is \
                     like 'HOST/PATH for client ID'",
                    queue.folder()
                )
            }
        };
        // A client id may have been read with a line break.
        let queue = queue.to_string().replace(char::is_control, "\u{fffd}");
        Some(problems::queue_unrequested(messages, queue, remedy))
    }
}

impl Requested {
    /// The path in the rules that leads to a queue, if the queue is below the upstream's base path.
    fn path<'q>(&self, queue: &'q QueueId) -> Option<&'q str> {
        let base = self.upstream.url.path().trim_end_matches('/');
        queue
            .route
            .strip_prefix(base)
            .filter(|path| path.starts_with('/'))
    }

    fn includes(&self, queue: &QueueId) -> bool {
        let is_own = self.upstream.url.authority().as_str() == queue.authority;
        is_own
            && self.client_id.as_ref().is_none_or(|id| *id == queue.client_id)
            && self
                .path(queue)
                .is_some_and(|path| self.upstream.rules.consume_at(path))
    }
}

/// The command that moves the messages of a queue, as a shell reads it.
fn move_command(directory: &Path, from: &QueueId, to: &QueueId) -> String {
    let to = to.to_string();
    format!(
        "bondgate spool move --directory {} {} {}",
        shell_directory(directory),
        from.folder(),
        quoted(Path::new(&to))
    )
}

fn shell_directory(directory: &Path) -> String {
    quoted(&std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()))
}

/// The queues in a directory that hold undelivered messages: ready ones and dead letters.
pub(super) fn undelivered_queues(directory: &Path) -> io::Result<Vec<UndeliveredQueue>> {
    Ok(folders(directory)?
        .iter()
        .filter_map(|folder| undelivered_queue(folder))
        .collect())
}

/// The queue of a folder, if that holds undelivered messages. Files of a later format are not counted.
fn undelivered_queue(folder: &Path) -> Option<UndeliveredQueue> {
    let mut queues = undelivered_in(folder);
    Some(UndeliveredQueue {
        queue: queues.next()?,
        messages: 1 + queues.count(),
    })
}

/// The queue of each undelivered message in a folder.
pub(super) fn undelivered_in(folder: &Path) -> impl Iterator<Item = QueueId> {
    let names = list(folder).unwrap_or_default().into_iter();
    let undelivered = |name: &FileName| matches!(name.state, MessageState::Ready | MessageState::DeadLetter);
    names
        .filter(undelivered)
        .filter_map(move |name| queue_of(folder, name))
}

/// The queue that a message in a folder belongs to; `None` where its first line cannot be read, or names another.
pub(super) fn queue_of(folder: &Path, name: FileName) -> Option<QueueId> {
    let intent = Intent::read(std::fs::File::open(name.in_folder(folder)).ok()?).ok()?;
    moved_from::queue_in(folder, &intent.queue).ok().flatten()
}

/// What `bondgate check` reports of the queues in a directory.
#[must_use]
pub fn check_queues(directory: &Path, requested: &RequestedQueues) -> Vec<Problem> {
    let held = undelivered_queues(directory).unwrap_or_default();
    held.iter()
        .filter_map(|held| requested.problem(held, Some(directory)))
        .collect()
}

/// The queue of a folder's name, where a message in the folder names it.
pub(super) fn queue_of_folder(folder: &Path) -> Option<QueueId> {
    if let Ok(Some(moved)) = moved_from::MovedFrom::read(folder) {
        return Some(moved.queue).filter(|queue| queue.folder() == folder_name(folder));
    }
    let retained = super::retention::folder_in(folder);
    [folder, &retained].into_iter().find_map(|place| {
        let names = list(place).ok()?.into_iter();
        names.rev().find_map(|name| {
            let intent = Intent::read(std::fs::File::open(name.in_folder(place)).ok()?).ok()?;
            Some(intent.queue).filter(|queue| queue.folder() == folder_name(folder))
        })
    })
}
