//! Locks, renames and identity of files, whose rules differ from those of other systems.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, GetFileInformationByHandle, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY,
    LockFileEx, MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW,
};
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

use super::error_code::is;
use super::wide;

/// The high half of the position of the byte that stands for the file. Locks are mandatory: whoever has locked a byte
/// is the only one to read it. So this byte lies far beyond every content. The highest bit is left clear, since some
/// file systems take positions as signed.
const LOCK_POSITION_HIGH: u32 = 0x4000_0000;

/// The waits between the attempts of [`retry_sharing_violation`]: half a second in all.
const WAITS_MS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 245];

/// Locks a file, unless another process or another handle has it locked. Its content can still be read and written.
/// The lock ends with the handle, and so with the process however that ends.
#[allow(unsafe_code)] // `File::try_lock` locks the content, so that no one else could read it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    let mut position = lock_position();
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open, and the position outlives the call: a lock that fails at once is not pending.
    if unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut position) } != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if is(&error, ERROR_LOCK_VIOLATION) || is(&error, ERROR_IO_PENDING) {
        return Ok(false);
    }
    Err(error)
}

fn lock_position() -> OVERLAPPED {
    OVERLAPPED {
        Anonymous: OVERLAPPED_0 {
            Anonymous: OVERLAPPED_0_0 {
                Offset: 0,
                OffsetHigh: LOCK_POSITION_HIGH,
            },
        },
        ..OVERLAPPED::default()
    }
}

/// Repeats what fails because another program has a file open: a virus scanner, an indexer or a backup holds new files
/// for moments. A file that is being removed, or replaced while it is open, appears as access denied. Blocks for half a
/// second at most.
pub(super) fn retry_sharing_violation<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for wait in WAITS_MS {
        match operation() {
            Err(error) if is_held_elsewhere(&error) => sleep(Duration::from_millis(wait)),
            done => return done,
        }
    }
    operation()
}

/// Whether an error may be the fault of another program that has the file open.
#[must_use]
pub(super) fn is_held_elsewhere(error: &io::Error) -> bool {
    [ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION, ERROR_ACCESS_DENIED]
        .iter()
        .any(|code| is(error, *code))
}

/// Renames a file on the same volume, over one that has the name already, and returns when the new name is on the disk:
/// there is no directory to sync. It waits for a moment while another program has one of the files open.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (wide::path(from)?, wide::path(to)?);
    retry_sharing_violation(|| rename_once(&from, &to))
}

#[allow(unsafe_code)] // `fs::rename` does not write through.
fn rename_once(from: &[u16], to: &[u16]) -> io::Result<()> {
    let flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    // SAFETY: both names end with a zero.
    if unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), flags) } != 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Whether an open file still has this path: it may have been renamed or removed since.
#[must_use]
pub fn is_same_file(file: &File, path: &Path) -> bool {
    let mut options = OpenOptions::new();
    // Asks for no access, so that whoever has the file open does not refuse; the flag allows a directory.
    options
        .access_mode(0)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    let named = options.open(path).and_then(|named| identity(&named));
    matches!((named, identity(file)), (Ok(named), Ok(opened)) if named.is_that_of(&opened))
}

/// A file's number, and the serial number of its volume.
#[derive(Debug)]
struct Identity {
    volume: u32,
    file: [u32; 2],
}

impl Identity {
    /// An unknown volume is 0: Wine does not know that of a file that was renamed while it was open.
    fn is_that_of(&self, other: &Self) -> bool {
        let is_known = self.volume != 0 && other.volume != 0;
        self.file == other.file && (self.volume == other.volume || !is_known)
    }
}

#[allow(unsafe_code)] // The standard library does not publish these numbers.
fn identity(file: &File) -> io::Result<Identity> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the information is written to a local.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Identity {
        volume: information.dwVolumeSerialNumber,
        file: [information.nFileIndexHigh, information.nFileIndexLow],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(path: &Path) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).unwrap()
    }

    #[test]
    fn a_file_is_locked_once_until_its_handle_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (first, second) = (open(&path), open(&path));
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn the_content_of_a_locked_file_is_read_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs::write(&path, "content").unwrap();
        let file = open(&path);
        assert!(try_lock(&file).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        fs::write(&path, "new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3);
    }

    #[test]
    fn an_operation_is_repeated_until_the_file_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("held");
        let mut exclusive = OpenOptions::new();
        exclusive.write(true).create(true).truncate(false).share_mode(0);
        let mut held = Some(exclusive.open(&path).unwrap());
        let mut attempts = 0;
        retry_sharing_violation(|| {
            attempts += 1;
            if attempts == 3 {
                held = None;
            }
            File::open(&path)
        })
        .unwrap();
        assert_eq!(attempts, 3);
    }

    #[test]
    fn another_error_is_not_repeated_and_a_lasting_one_is_returned() {
        let mut attempts = 0;
        let mut fail = |code: u32| {
            attempts += 1;
            Err::<(), _>(io::Error::from_raw_os_error(code.cast_signed()))
        };
        let error = retry_sharing_violation(|| fail(2)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2));
        let error = retry_sharing_violation(|| fail(ERROR_SHARING_VIOLATION)).unwrap_err();
        assert!(is_held_elsewhere(&error));
        assert_eq!(attempts, 1 + WAITS_MS.len() + 1);
    }

    #[test]
    fn a_rename_replaces_the_file_of_that_name() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        rename_durably(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        assert!(!from.exists());
    }

    #[test]
    fn a_file_is_known_by_its_path_until_it_is_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        let file = open(&path);
        open(&other);
        assert!(is_same_file(&file, &path));
        assert!(!is_same_file(&file, &other));
        fs::rename(&path, &other).unwrap();
        assert!(is_same_file(&file, &other));
        assert!(!is_same_file(&file, &path));
    }
}
