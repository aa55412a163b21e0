//! Files: private, locked, durable, on reserved disk space, and the access that other users have to them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
#[cfg(target_os = "linux")]
use rustix::fs::MemfdFlags;
use rustix::fs::{Access, FallocateFlags, Mode, OFlags, StatVfsMountFlags, access, statvfs};
use rustix::io::Errno;

const WRITABLE_BY_OTHERS: u32 = 0o002;
const READABLE_BY_OTHERS: u32 = 0o004;

/// What every user of this machine may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Replace its content.
    Writable,
    /// Read it.
    Readable,
}

/// Creates a directory and those above it, for their owner alone.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates the directory of a configuration, and those above it, unless it exists: other users may read it.
pub fn create_configuration_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a file for its owner alone; an error where it exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Holds a text in memory under a path, which only this process can open while the file is open.
#[cfg(target_os = "linux")]
pub fn create_in_memory(name: &str, text: &str) -> io::Result<(File, PathBuf)> {
    use std::os::fd::AsRawFd as _;
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((file, path.into()))
}

/// Only Linux has such files.
#[cfg(not(target_os = "linux"))]
pub fn create_in_memory(_name: &str, _text: &str) -> io::Result<(File, PathBuf)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives an open file or directory to the owner of a directory, if this process may: root creates it for another user. A
/// file with a second name is left, since that may be another user's.
pub fn give_to_owner_of(file: &File, directory: &Path) -> io::Result<()> {
    let (own, other) = (file.metadata()?, fs::metadata(directory)?);
    if own.uid() == other.uid() || own.is_file() && own.nlink() > 1 {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(other.uid()), Some(other.gid()))
}

/// Opens a file that exists, to read and write it.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens a directory, and no symbolic link: another user may have put that there.
pub fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Opens a lock file, and creates it if it is missing. It stays empty. A symbolic link is not followed.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Locks a file, unless another process or another handle has it locked. The lock ends with the handle, and so with
/// the process however that ends.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Standard error as a file.
pub fn standard_error() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Waits until a pipe or a terminal, which another process may have made non-blocking, takes more.
pub fn wait_until_writable(file: &File) {
    let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
}

/// Whether a path is a named pipe, which blocks whoever opens it while it has no reader.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Checks that this process may create files in a directory.
pub fn check_writable_directory(path: &Path) -> io::Result<()> {
    // With the dot, a file is an error.
    Ok(access(path.join("."), Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether an open file still has this path: it may have been renamed or removed since.
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
        _ => false,
    }
}

/// Renames a file on the same file system, over one that has the name already. [`sync_directory`] makes it durable.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Empties a file. It keeps its owner and its mode, as a package has set them.
pub fn overwrite(path: &Path) -> io::Result<File> {
    File::create(path)
}

/// Reserves disk space: the file is at least so long afterwards. A file system that cannot reserve is left alone.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reserves disk space in a file without a name, which is gone at once: it fails as [`reserve`] would. A file system that
/// has no such files is left alone.
pub fn try_reserve_in(directory: &Path, bytes: u64) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => reserve(&File::from(file), bytes),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The name of this machine, as its own resolver may know it.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Whether every user of the machine may create and remove files in a directory.
#[must_use]
pub fn is_writable_by_others(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & WRITABLE_BY_OTHERS != 0)
}

/// Whether a path, or its nearest parent that exists, is on a read-only file system.
#[must_use]
pub fn is_on_read_only_disk(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|path| access(path, Access::WRITE_OK) == Err(Errno::ROFS))
}

/// Whether a write failed because a disk, a quota or a file-size limit is exhausted.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The access that users other than the owner and its group have. `None` if they have none, if the file does
/// not exist, or if its mount is read-only: Kubernetes and Docker mount secrets that way, readable by all.
#[must_use]
pub fn exposure(path: &Path) -> Option<Exposure> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mode = metadata.mode();
    let exposure = if mode & WRITABLE_BY_OTHERS != 0 {
        Exposure::Writable
    } else if mode & READABLE_BY_OTHERS != 0 {
        Exposure::Readable
    } else {
        return None;
    };
    let mount = statvfs(path).ok();
    let is_read_only = mount.is_some_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    (!is_read_only).then_some(exposure)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_exposed_by_the_mode_bits_of_other_users() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, expected) in [
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o644, Some(Exposure::Readable)),
            (0o646, Some(Exposure::Writable)),
            (0o622, Some(Exposure::Writable)),
        ] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposure(file.path()), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_exposed() {
        assert_eq!(exposure(Path::new("/nowhere/at/all")), None);
    }
}
