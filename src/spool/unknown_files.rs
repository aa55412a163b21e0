//! Files of bondgate that this version does not know: their format, their state or their place is another version's. They
//! are left unchanged, and are listed and reported, so that no message is hidden after a downgrade.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::folders::{LOCK_FILE, folders};
use super::format::{FormatError, Intent};
use super::id::QueueId;
use super::message_file::FileName;
use super::moved_from;
use super::retention;
use crate::problems::{Problem, spool as problems};

/// What this version does not know of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Its format.
    Format(u32),
    /// Its state: the extension of its name.
    State(String),
    /// Its name or its folder.
    Place,
}

/// A file that this version does not know.
pub(super) struct UnknownFile {
    pub(super) path: PathBuf,
    pub(super) unknown: Unknown,
    /// Whether its name and folder are those of a message of this version.
    pub(super) is_message: bool,
}

/// The unknown files of a spool, as of the last search.
#[derive(Default)]
pub(super) struct UnknownFiles {
    files: Mutex<BTreeMap<PathBuf, Unknown>>,
    /// Whether retained messages were read. Their first lines do not change, so they are read once.
    is_complete: AtomicBool,
}

/// How far a search goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Without the first lines of retained messages, of which there may be many.
    Undelivered,
    /// Everything.
    All,
}

/// The most files and folders of other names that a search examines in each folder of the spool's directory, and in those
/// below it: they may hold anything.
const MAX_EXAMINED: usize = 1000;
/// How many folders of other names a search enters, one in the other.
const DEPTH: usize = 2;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "a later bondgate wrote it, format {format}"),
            Self::State(state) => write!(f, "unknown state {}", state.escape_debug()),
            Self::Place => f.write_str("unknown name or folder"),
        }
    }
}

impl UnknownFiles {
    /// Searches a spool's directory, the first time with the retained messages.
    pub(super) fn search(&self, root: &Path) -> io::Result<()> {
        if self.is_complete.load(Ordering::Relaxed) {
            return self.search_only(root, Search::Undelivered);
        }
        self.search_only(root, Search::All)?;
        self.is_complete.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Searches a spool's directory.
    pub(super) fn search_only(&self, root: &Path, search: Search) -> io::Result<()> {
        let found = find(root, search)?;
        let mut files = self.files.lock();
        let is_kept =
            |path: &PathBuf| search == Search::Undelivered && retention::is_retained(path) && path.exists();
        files.retain(|path, _| is_kept(path));
        files.extend(found.into_iter().map(|file| (file.path, file.unknown)));
        Ok(())
    }

    /// Adds a file. Returns whether it is new.
    pub(super) fn add(&self, path: PathBuf, unknown: Unknown) -> bool {
        self.files.lock().insert(path, unknown).is_none()
    }

    /// Forgets the files that are gone. Waits for the disk.
    pub(super) fn check(&self) {
        self.files
            .lock()
            .retain(|path, _| path.symlink_metadata().is_ok());
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.files.lock().contains_key(path)
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let files = self.files.lock();
        let (path, unknown) = files.first_key_value()?;
        Some(problems::files_unknown(files.len(), printable(path), unknown))
    }
}

/// A path for a terminal and the log: another program may have chosen the name.
pub(super) fn printable(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, "\u{fffd}")
}

/// What `bondgate check` reports of the files in a spool's directory.
#[must_use]
pub fn check_files(directory: &Path) -> Option<Problem> {
    let files = UnknownFiles::default();
    files.search(directory).ok()?;
    files.problem()
}

/// The unknown files in a spool's directory.
pub(super) fn find(root: &Path, search: Search) -> io::Result<Vec<UnknownFile>> {
    let mut finder = Finder::default();
    for queue in folders(root)? {
        finder.search_queue(&queue, true);
        finder.search_queue(&retention::folder_in(&queue), search == Search::All);
    }
    finder.examined = 0;
    finder.search_folder(root, DEPTH + 1);
    Ok(finder.found)
}

#[derive(Default)]
struct Finder {
    found: Vec<UnknownFile>,
    examined: usize,
}

impl Finder {
    /// Searches the folder of a queue, or of its retained messages.
    fn search_queue(&mut self, folder: &Path, reads_messages: bool) {
        // A link would lead out of the spool.
        if folder.is_symlink() {
            return;
        }
        self.examined = 0;
        for (path, is_folder) in entries(folder) {
            let name = path.file_name().unwrap_or_default();
            if is_folder {
                if path != retention::folder_in(folder) {
                    self.search_folder(&path, DEPTH);
                }
            } else if FileName::parse(name).is_some() {
                if reads_messages && let Some(Err(FormatError::Later(format))) = first_line(&path) {
                    self.add(path, Unknown::Format(format), true);
                }
            } else if let Some(state) = FileName::parse_state(name) {
                let state = state.to_owned();
                self.add(path, Unknown::State(state), false);
            } else if name != LOCK_FILE && !moved_from::is_name(name) {
                self.examine(path);
            }
        }
    }

    /// Searches a folder that is no queue's. Files there are bondgate's if they begin like one.
    fn search_folder(&mut self, folder: &Path, depth: usize) {
        self.examined += 1;
        if self.examined > MAX_EXAMINED {
            return;
        }
        for (path, is_folder) in entries(folder) {
            let is_queue = || {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(QueueId::is_folder)
            };
            match (is_folder, depth) {
                (false, _) => self.examine(path),
                // Searched already.
                (true, depth) if depth > DEPTH && is_queue() => {}
                (true, 0) => {}
                (true, depth) => self.search_folder(&path, depth - 1),
            }
        }
    }

    fn examine(&mut self, path: PathBuf) {
        self.examined += 1;
        if self.examined > MAX_EXAMINED {
            return;
        }
        match first_line(&path) {
            Some(Ok(_)) => self.add(path, Unknown::Place, false),
            Some(Err(FormatError::Later(format))) => self.add(path, Unknown::Format(format), false),
            _ => {}
        }
    }

    fn add(&mut self, path: PathBuf, unknown: Unknown, is_message: bool) {
        self.found.push(UnknownFile {
            path,
            unknown,
            is_message,
        });
    }
}

/// The files and folders in a folder, and whether each is a folder. Other kinds and unreadable folders are left out: what
/// bondgate may not read there, it did not write.
fn entries(folder: &Path) -> Vec<(PathBuf, bool)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let kind = entry.file_type().ok()?;
            (kind.is_file() || kind.is_dir()).then(|| (entry.path(), kind.is_dir()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The first line of a file that may be bondgate's: each begins with a JSON object.
fn first_line(path: &Path) -> Option<Result<Intent, FormatError>> {
    let mut file = io::BufReader::new(File::open(path).ok()?);
    let is_object = file.fill_buf().is_ok_and(|bytes| bytes.starts_with(b"{"));
    is_object.then(|| Intent::read(file))
}
