//! What the spool contains, across all queues: messages, bytes, and files that this version does not know.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::id::QueueId;
use super::message_file::FileName;
use super::requested::{self, UndeliveredQueue};
use super::store::Store;
use super::totals::Totals;

impl Store {
    /// Counts the messages of all queues.
    pub(super) fn count(&self) -> io::Result<Totals> {
        let mut totals = Totals {
            retained_bytes: self.retention.bytes(),
            ..Totals::default()
        };
        for (folder, name) in self.all()? {
            if self.unknown.contains(&name.in_folder(&folder)) {
                continue;
            }
            let bytes = match &self.memory {
                Some(memory) => memory.find(&folder, name.id).map(|content| content.length),
                None => fs::metadata(name.in_folder(&folder))
                    .ok()
                    .map(|metadata| metadata.len()),
            };
            // It may have gone meanwhile.
            if let Some(bytes) = bytes {
                totals.add(name, bytes);
            }
        }
        Ok(totals)
    }

    /// The queues that hold undelivered messages.
    pub(super) fn undelivered_queues(&self) -> Vec<UndeliveredQueue> {
        let Some(memory) = &self.memory else {
            return requested::undelivered_queues(&self.root).unwrap_or_default();
        };
        let folders = memory.folders().into_iter();
        let held = folders.filter_map(|folder| {
            let ids = memory.list(&folder).into_iter().map(|name| name.id);
            let contents: Vec<_> = ids.filter_map(|id| memory.find(&folder, id)).collect();
            Some(UndeliveredQueue {
                queue: contents.first()?.intent.queue.clone(),
                messages: contents.len(),
            })
        });
        held.collect()
    }

    /// Whether a queue holds an undelivered message.
    pub(super) fn holds_undelivered(&self, queue: &QueueId) -> bool {
        match &self.memory {
            Some(memory) => !memory.list(&self.folder(queue)).is_empty(),
            None => requested::undelivered_in(&self.folder(queue)).next().is_some(),
        }
    }

    fn all(&self) -> io::Result<Vec<(PathBuf, FileName)>> {
        let mut all = Vec::new();
        for folder in self.folders()? {
            all.extend(self.list(&folder)?.into_iter().map(|name| (folder.clone(), name)));
        }
        Ok(all)
    }

    /// Searches for files that this version does not know.
    pub(super) fn search_unknown(&self) -> io::Result<()> {
        if self.is_in_memory() {
            return Ok(());
        }
        self.unknown.search(&self.root)
    }
}
