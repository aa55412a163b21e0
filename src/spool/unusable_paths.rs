//! Files and folders in the spool that cannot be used.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::error::SpoolError;
use super::format::FormatError;
use super::moved_from;
use crate::problems::{Problem, spool as problems};
use crate::telemetry::Lasting;

/// Files and folders that cannot be used.
#[derive(Default)]
pub(super) struct UnusablePaths {
    paths: Mutex<HashMap<PathBuf, Problem>>,
    has_new: AtomicBool,
}

/// The most paths that are reported.
const MOST_REPORTED: usize = 100;

impl UnusablePaths {
    /// Records a link in the place of a queue's folder. Only its own queue is affected.
    pub(super) fn add_link(&self, folder: &Path) -> SpoolError {
        let problem = problems::link(folder.display());
        self.add(folder, problem.clone());
        SpoolError::Link(problem)
    }

    /// Records a file that cannot be used.
    pub(super) fn add_file(&self, path: &Path, error: &FormatError) {
        self.add(path, problems::file_unusable(path.display(), error));
    }

    fn add(&self, path: &Path, problem: Problem) {
        let mut paths = self.paths.lock();
        if paths.len() < MOST_REPORTED && paths.insert(path.to_owned(), problem).is_none() {
            self.set_new();
        }
    }

    /// Requests a publication: something else in the spool has become known.
    pub(super) fn set_new(&self) {
        self.has_new.store(true, Ordering::Relaxed);
    }

    /// Whether there is one more than at the last call.
    pub(super) fn take_new(&self) -> bool {
        self.has_new.swap(false, Ordering::Relaxed)
    }

    /// Forgets those that can be used again. Waits for the disk.
    pub(super) fn check(&self) {
        let known: Vec<_> = self.paths.lock().keys().cloned().collect();
        for path in known.into_iter().filter(|path| !is_unusable(path)) {
            self.paths.lock().remove(&path);
        }
    }

    /// Their problems, as of the last [`check`](Self::check).
    pub(super) fn problems(&self) -> Vec<Lasting> {
        let paths = self.paths.lock();
        let problem =
            |(path, problem): (&PathBuf, &Problem)| Lasting::new(problem.clone(), path.display().to_string());
        paths.iter().map(problem).collect()
    }
}

fn is_unusable(path: &Path) -> bool {
    if path.is_symlink() || moved_from::is_unreadable(path) {
        return true;
    }
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
