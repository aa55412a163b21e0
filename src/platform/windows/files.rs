//! Files: private, locked, durable, on reserved disk space, and the access that other users have to them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsHandle as _;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_DELETE_ON_CLOSE, FILE_FLAG_OPEN_REPARSE_POINT,
};

use super::file_locks::retry_sharing_violation;
use super::terminal;

pub use super::access_control::{create_private, create_private_directory};
pub use super::exposure::{Exposure, exposure, is_writable_by_others};
pub use super::file_locks::{is_same_file as is_at, rename_durably as rename, try_lock};
pub use super::service_folder::create_configuration_directory;

/// Holds a text in a temporary file, which only this user can read and which is gone with its handle, however the process
/// ends.
pub fn create_in_memory(name: &str, text: &str) -> io::Result<(File, PathBuf)> {
    let path = std::env::temp_dir().join(format!("bondgate-{name}-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE);
    let mut file = options.open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok((file, path))
}

/// Nothing: a new file has the permissions of its directory.
pub fn give_to_owner_of(_file: &File, _directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens a file that exists, to read and write it; also if another program has it open for a moment.
pub fn open(path: &Path) -> io::Result<File> {
    retry_sharing_violation(|| OpenOptions::new().read(true).write(true).open(path))
}

/// Opens a directory, and no link: another user may have put that there.
pub fn open_directory(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !directory.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(directory)
}

/// Opens a lock file, and creates it if it is missing. It stays empty. A symbolic link is not followed.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    retry_sharing_violation(|| options.open(path))
}

/// Removes a file, also while another program has it open for a moment.
pub fn remove(path: &Path) -> io::Result<()> {
    retry_sharing_violation(|| fs::remove_file(path))
}

/// Replaces a file by an empty one with the permissions of the directory: other users may have access to the old one.
pub fn overwrite(path: &Path) -> io::Result<File> {
    remove(path)?;
    File::create_new(path)
}

/// Reserves disk space: the file is at least so long afterwards.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    Ok(())
}

/// Reserves disk space in a file that is gone at once: it fails as [`reserve`] would. The file is new, and its name cannot be
/// guessed: in a directory of other users, that name could be another link to a file of value.
pub fn try_reserve_in(directory: &Path, bytes: u64) -> io::Result<()> {
    let path = directory.join(format!(".bondgate-reserve-{:032x}", fastrand::u128(..)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let file = options.custom_flags(FILE_FLAG_DELETE_ON_CLOSE).open(path)?;
    reserve(&file, bytes)
}

/// Nothing: [`rename`] returns when the new name is on the disk, and a new file's name is written with its content.
pub fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// The name of this machine, as its own resolver may know it.
#[must_use]
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok().filter(|name| !name.is_empty())
}

/// Standard error as a file; without a console, as in a service, what is written is dropped.
pub fn standard_error() -> io::Result<File> {
    terminal::use_utf_8();
    match io::stderr().as_handle().try_clone_to_owned() {
        Ok(handle) => Ok(handle.into()),
        Err(_) => OpenOptions::new().write(true).open("NUL"),
    }
}

/// Nothing: no other program makes a handle of this one non-blocking.
pub fn wait_until_writable(_file: &File) {}

/// Whether a path is a named pipe: those have names of their own.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    path.as_os_str()
        .to_string_lossy()
        .to_lowercase()
        .starts_with(r"\\.\pipe\")
}

/// Checks that this process may create files in a directory, by creating one that is gone at once.
pub fn check_writable_directory(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    try_reserve_in(path, 0)
}

/// Whether a path is on a disk that is read only: known only when something is written.
#[must_use]
pub fn is_on_read_only_disk(_path: &Path) -> bool {
    false
}

/// Whether a write failed because a disk or a quota is exhausted.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserving_disk_space_changes_no_file_and_leaves_none() {
        let directory = tempfile::tempdir().unwrap();
        let name = format!(".bondgate-reserve-{}", std::process::id());
        fs::write(directory.path().join(&name), "x").unwrap();
        try_reserve_in(directory.path(), 4096).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(&name)).unwrap(), "x");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
