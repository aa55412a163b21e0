//! What keeps a spool's directory from being used, found without changing anything in it.

use std::io;
use std::path::Path;

use super::message_file::RESERVED;
use crate::platform::shell::close_directory;
use crate::platform::{files, hardening};
use crate::problems::{Problem, machine};

/// Checks the directory, or, before the first start, the place where it will be created.
#[must_use]
pub fn check(directory: &Path) -> Vec<Problem> {
    let path = directory.display();
    if files::is_on_read_only_disk(directory) {
        return vec![machine::spool_read_only(&path)];
    }
    let mut problems = Vec::new();
    if files::is_writable_by_others(directory) {
        problems.push(machine::spool_open_to_others(&path, close_directory(directory)));
    }
    let limit = hardening::file_size_limit().filter(|limit| *limit < RESERVED);
    if let Some(limit) = limit {
        problems.push(machine::spool_file_size_limit(limit));
    } else if let Err(error) = reserve(directory) {
        problems.push(if files::is_disk_full(&error) {
            machine::spool_disk_full(&path, error)
        } else {
            machine::spool_unusable(&path, error)
        });
    }
    problems
}

/// Reserves the space of a message, as before a pull.
fn reserve(directory: &Path) -> io::Result<()> {
    let existing = directory.ancestors().find(|ancestor| ancestor.is_dir());
    let existing = existing.unwrap_or(Path::new("."));
    files::try_reserve_in(existing, RESERVED)
}
