//! Files and directories for SYSTEM, the administrators and one account alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::io::FromRawHandle as _;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::Authorization::{
    EXPLICIT_ACCESS_W, GRANT_ACCESS, NO_MULTIPLE_TRUSTEE, SE_FILE_OBJECT, SetEntriesInAclW,
    SetNamedSecurityInfoW, TRUSTEE_IS_SID, TRUSTEE_IS_UNKNOWN, TRUSTEE_W,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, NO_INHERITANCE, OBJECT_SECURITY_INFORMATION,
    PROTECTED_DACL_SECURITY_INFORMATION, SUB_CONTAINERS_AND_OBJECTS_INHERIT,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, DELETE, FILE_ATTRIBUTE_NORMAL, FILE_GENERIC_EXECUTE,
    FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
};

use super::account::Account;
use super::error_code::check;
use super::local_memory::LocalMemory;
use super::privacy::is_private;
use super::security_descriptor::SecurityDescriptor;
use super::wide;

/// What an account may do with a file, or with a directory and all in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read.
    Read,
    /// Read, write, create, rename and remove; not change the permissions.
    Modify,
}

/// Creates a directory and those above it, for SYSTEM, the administrators and the user of this process alone. Within a private
/// directory it has that one's permissions, so that an account that has access there has it here too. A directory that exists
/// stays as it is.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let descriptor = SecurityDescriptor::private(Some(&Account::of_this_process()?), "OICI")?;
    let missing: Vec<_> = path.ancestors().take_while(|path| !is_there(path)).collect();
    for path in missing.into_iter().rev() {
        if is_private(parent_of(path)) {
            accept_existing(path, fs::create_dir(path))?;
        } else {
            accept_existing(path, create_directory(path, &descriptor))?;
        }
    }
    Ok(())
}

/// Whether there is something of this name; the parent of a relative path of one part is the current directory.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.symlink_metadata().is_ok()
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Creates a directory with these permissions; an error where it exists.
#[allow(unsafe_code)] // The standard library creates directories without a security descriptor.
pub(super) fn create_directory(path: &Path, descriptor: &SecurityDescriptor) -> io::Result<()> {
    let name = wide::path(path)?;
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor that outlives the call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &descriptor.attributes()) } != 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Another process may have created the directory meanwhile.
fn accept_existing(path: &Path, created: io::Result<()>) -> io::Result<()> {
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created,
    }
}

/// Creates a file for SYSTEM, the administrators and the user of this process alone, or, within a private directory, with that
/// one's permissions. An error where it exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    if is_private(parent_of(path)) {
        let mut options = OpenOptions::new();
        return options.read(true).write(true).create_new(true).open(path);
    }
    create_file(
        path,
        &SecurityDescriptor::private(Some(&Account::of_this_process()?), "")?,
    )
}

#[allow(unsafe_code)] // The standard library creates files without a security descriptor.
fn create_file(path: &Path, descriptor: &SecurityDescriptor) -> io::Result<File> {
    let name = wide::path(path)?;
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor that outlives the call.
    let handle = unsafe {
        CreateFileW(
            name.as_ptr(),
            GENERIC_READ | GENERIC_WRITE,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            &descriptor.attributes(),
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL,
            ptr::null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened, and nothing else closes it.
    Ok(unsafe { File::from_raw_handle(handle) })
}

/// Replaces the permissions of a directory that exists, and of all in it that inherits.
pub(super) fn set_private(directory: &Path, descriptor: &SecurityDescriptor) -> io::Result<()> {
    let kind = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    set_list(directory, descriptor.list(), kind)
}

/// Gives an account access to a file, or to a directory and all in it, in addition to those that have it.
pub(super) fn grant(path: &Path, account: &Account, access: Access) -> io::Result<()> {
    let descriptor = SecurityDescriptor::of(path)?;
    match extend(&descriptor, path.is_dir(), account, access)? {
        // Whether the file inherits from its directory stays.
        Some(extended) => set_list(path, extended.as_ptr(), DACL_SECURITY_INFORMATION),
        None => Ok(()),
    }
}

/// The access control list with one more entry. `None` if there is no list: then every account has every right, and a list of
/// one entry would take it from all others.
#[allow(unsafe_code)] // The access control lists' interface is not safe.
fn extend(
    descriptor: &SecurityDescriptor,
    is_directory: bool,
    account: &Account,
    access: Access,
) -> io::Result<Option<LocalMemory<ACL>>> {
    if descriptor.list().is_null() {
        return Ok(None);
    }
    let read = FILE_GENERIC_READ | FILE_GENERIC_EXECUTE;
    let entry = EXPLICIT_ACCESS_W {
        grfAccessPermissions: match access {
            Access::Read => read,
            Access::Modify => read | FILE_GENERIC_WRITE | DELETE,
        },
        grfAccessMode: GRANT_ACCESS,
        grfInheritance: if is_directory {
            SUB_CONTAINERS_AND_OBJECTS_INHERIT
        } else {
            NO_INHERITANCE
        },
        Trustee: TRUSTEE_W {
            pMultipleTrustee: ptr::null_mut(),
            MultipleTrusteeOperation: NO_MULTIPLE_TRUSTEE,
            TrusteeForm: TRUSTEE_IS_SID,
            TrusteeType: TRUSTEE_IS_UNKNOWN,
            ptstrName: account.as_sid().cast(),
        },
    };
    let mut extended = LocalMemory::<ACL>::empty();
    // SAFETY: one entry, whose SID outlives the call; the old list is valid, and the new one is freed at the end.
    check(unsafe { SetEntriesInAclW(1, &raw const entry, descriptor.list(), extended.out()) })?;
    Ok(Some(extended))
}

/// Replaces the access control list.
#[allow(unsafe_code)] // The access control lists' interface is not safe.
fn set_list(path: &Path, list: *const ACL, kind: OBJECT_SECURITY_INFORMATION) -> io::Result<()> {
    let name = wide::path(path)?;
    // SAFETY: the name ends with a zero, and the list comes from the two functions above, which read or built it.
    check(unsafe {
        SetNamedSecurityInfoW(
            name.as_ptr(),
            SE_FILE_OBJECT,
            kind,
            ptr::null_mut(),
            ptr::null_mut(),
            list,
            ptr::null(),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::exposure::{Exposure, exposure, is_writable_by_others};
    use super::*;

    fn account() -> Account {
        Account::of_this_process().unwrap()
    }

    #[test]
    fn a_private_directory_is_created_with_those_above_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a").join("b");
        create_private_directory(&path).unwrap();
        create_private_directory(&path).unwrap();
        assert!(path.is_dir());
        assert!(!is_writable_by_others(&path) && !is_writable_by_others(path.parent().unwrap()));
    }

    #[test]
    fn a_file_takes_the_place_of_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        std::fs::write(&path, "x").unwrap();
        assert!(create_private_directory(&path.join("below")).is_err());
    }

    #[test]
    fn a_private_file_is_writable_and_exposed_to_no_group() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        let mut file = create_private(&path).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        assert_eq!(exposure(&path), None);
        let again = create_private(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn where_every_account_has_access_none_loses_it_to_a_new_one() {
        let extended = |sddl| {
            let descriptor = SecurityDescriptor::parse(sddl).unwrap();
            extend(&descriptor, false, &account(), Access::Read).unwrap()
        };
        assert!(extended("O:BA").is_none());
        assert!(extended("D:P").is_some());
    }

    #[test]
    fn a_group_has_the_access_that_it_is_granted() {
        let everyone = Account::named("Everyone").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        create_private(&path).unwrap();
        grant(&path, &everyone, Access::Read).unwrap();
        assert_eq!(exposure(&path), Some(Exposure::Readable));
        grant(&path, &everyone, Access::Modify).unwrap();
        assert_eq!(exposure(&path), Some(Exposure::Writable));
    }
}
