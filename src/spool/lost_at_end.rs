//! Reports the messages that are lost when the process ends: those in memory, or in a directory that does not outlive the pod.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::blocking::off_thread;
use super::folders::{folders, message_name};
use super::format::Intent;
use super::id::MessageId;
use super::memory::Memory;
use super::message_file::{FileName, MessageState, list};
use super::moved_from;
use super::spool_state::Spool;
use crate::problems::spool as problems;

/// A message that no caller has received.
struct Undelivered {
    name: String,
    id: MessageId,
    /// Its queue; none if its file cannot be read.
    queue: Option<String>,
}

/// How many messages are named; all are counted.
const NAMED: usize = 100;
/// How long the end of the process waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

impl Spool {
    /// Logs the messages that no caller has received, if they are lost with the process: in memory, or with
    /// `spool.persistent = false`. Returns whether there are any.
    pub async fn report_lost_at_end(&self) -> bool {
        let shared = &self.shared;
        let (found, place) = match &shared.store.memory {
            Some(memory) => (Ok(in_memory(memory)), "bondgate's memory".to_owned()),
            None if shared.config.persistent => return false,
            None => {
                let directory = shared.store.root.clone();
                let place = format!(
                    "{}, which does not outlive the pod or container (spool.persistent = false)",
                    directory.display()
                );
                let listed = off_thread(move || in_directory(&directory));
                let listed = tokio::time::timeout(PATIENCE, listed).await;
                (listed.map_err(io::Error::from).flatten(), place)
            }
        };
        let undelivered = match found {
            Ok(undelivered) => undelivered,
            Err(error) => {
                tracing::error!(%error, place, "undelivered messages cannot be listed, and are lost");
                return true;
            }
        };
        for message in undelivered.iter().take(NAMED) {
            tracing::error!(
                name = message.name,
                queue = message.queue,
                pulled = %message.id,
                "undelivered message is lost"
            );
        }
        if undelivered.is_empty() {
            return false;
        }
        let problem = problems::undelivered_lost(undelivered.len(), place);
        tracing::error!(
            lost = undelivered.len(),
            problem = problem.code(),
            error = %problem,
            "undelivered messages are lost"
        );
        true
    }
}

fn in_memory(memory: &Memory) -> Vec<Undelivered> {
    let mut undelivered = Vec::new();
    for folder in memory.folders() {
        for name in memory.list(&folder) {
            let content = memory.find(&folder, name.id);
            undelivered.push(Undelivered {
                name: message_name(&folder, name.id),
                id: name.id,
                queue: content.map(|content| content.intent.queue.to_string()),
            });
        }
    }
    undelivered
}

/// The messages that a later start would deliver, recover or show. A message that is lost already has been reported.
fn in_directory(directory: &Path) -> io::Result<Vec<Undelivered>> {
    let mut undelivered = Vec::new();
    // On a read-only disk, the directory may never have been created.
    let folders = match folders(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(undelivered),
        found => found?,
    };
    for folder in folders {
        let names = list(&folder)?.into_iter();
        for name in names.filter(|name| !matches!(name.state, MessageState::Delivered | MessageState::Lost)) {
            let is_named = undelivered.len() < NAMED;
            undelivered.push(Undelivered {
                name: message_name(&folder, name.id),
                id: name.id,
                queue: is_named.then(|| queue_of(&folder, name)).flatten(),
            });
        }
    }
    Ok(undelivered)
}

fn queue_of(folder: &Path, name: FileName) -> Option<String> {
    let intent = Intent::read(File::open(name.in_folder(folder)).ok()?).ok()?;
    let now = moved_from::queue_in(folder, &intent.queue).ok().flatten();
    Some(now.unwrap_or(intent.queue).to_string())
}
