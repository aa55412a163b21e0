//! The access to files that the groups have to which every user, guest or anonymous caller belongs.

use std::path::Path;

use windows_sys::Win32::Foundation::{GENERIC_ALL, GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Security::{
    WELL_KNOWN_SID_TYPE, WinAccountDomainUsersSid, WinAnonymousSid, WinAuthenticatedUserSid,
    WinBuiltinGuestsSid, WinBuiltinUsersSid, WinInteractiveSid, WinNetworkSid, WinWorldSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ADD_FILE, FILE_ALL_ACCESS, FILE_APPEND_DATA, FILE_DELETE_CHILD, FILE_GENERIC_READ,
    FILE_GENERIC_WRITE, FILE_READ_DATA, FILE_WRITE_DATA, WRITE_DAC, WRITE_OWNER,
};

use super::access_list::{Entry, entries};
use super::security_descriptor::SecurityDescriptor;

/// What every user of this machine, or its guests, may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Replace its content.
    Writable,
    /// Read it.
    Readable,
}

/// The groups of the callers that are meant by "others": an ordinary user, a guest, a caller without a name.
const OTHERS: [&[WELL_KNOWN_SID_TYPE]; 3] = [
    &[
        WinWorldSid,
        WinAuthenticatedUserSid,
        WinBuiltinUsersSid,
        WinAccountDomainUsersSid,
        WinInteractiveSid,
        WinNetworkSid,
    ],
    &[WinWorldSid, WinBuiltinGuestsSid],
    &[WinWorldSid, WinAnonymousSid],
];

/// One who may change the permissions may write, too.
const CHANGE_ACCESS: u32 = WRITE_DAC | WRITE_OWNER;

/// The access that others have to a file. `None` if they have none, or if the permissions cannot be read.
#[must_use]
pub fn exposure(path: &Path) -> Option<Exposure> {
    let rights = path.is_file().then(|| rights_of_others(path)).flatten()?;
    if rights & (FILE_WRITE_DATA | FILE_APPEND_DATA | CHANGE_ACCESS) != 0 {
        Some(Exposure::Writable)
    } else {
        (rights & FILE_READ_DATA != 0).then_some(Exposure::Readable)
    }
}

/// Whether others may create and remove files in a directory.
#[must_use]
pub fn is_writable_by_others(directory: &Path) -> bool {
    let write = FILE_ADD_FILE | FILE_DELETE_CHILD | CHANGE_ACCESS;
    rights_of_others(directory).is_some_and(|rights| rights & write != 0)
}

fn rights_of_others(path: &Path) -> Option<u32> {
    let descriptor = SecurityDescriptor::of(path).ok()?;
    Some(granted_to_others(&descriptor))
}

/// The rights that a list grants to one of the others at least. Without a list, everybody has every right.
fn granted_to_others(descriptor: &SecurityDescriptor) -> u32 {
    let Some(entries) = entries(descriptor) else {
        return FILE_ALL_ACCESS;
    };
    let granted = OTHERS.map(|groups| granted_to(&entries, groups));
    granted.into_iter().fold(0, |all, one| all | one)
}

/// The rights that a list grants to a member of these groups: the entries count in their order, and the first that
/// decides on a right wins.
fn granted_to(entries: &[Entry], groups: &[WELL_KNOWN_SID_TYPE]) -> u32 {
    let (mut granted, mut denied) = (0, 0);
    for entry in entries {
        let (Entry::Allow(rights) | Entry::Deny(rights)) = entry else {
            continue;
        };
        let is_meant = groups.iter().any(|group| rights.account.is(*group));
        if rights.is_inherit_only || !is_meant {
            continue;
        }
        if matches!(entry, Entry::Allow(_)) {
            granted |= specific(rights.mask) & !denied;
        } else {
            denied |= specific(rights.mask) & !granted;
        }
    }
    granted
}

/// Generic rights as the rights to files that they stand for.
fn specific(mask: u32) -> u32 {
    let stands_for = |generic, rights| if mask & generic != 0 { rights } else { 0 };
    mask | stands_for(GENERIC_ALL, FILE_ALL_ACCESS)
        | stands_for(GENERIC_READ, FILE_GENERIC_READ)
        | stands_for(GENERIC_WRITE, FILE_GENERIC_WRITE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(sddl: &str) -> u32 {
        granted_to_others(&SecurityDescriptor::parse(sddl).unwrap())
    }

    const WRITE: u32 = FILE_WRITE_DATA;
    const READ: u32 = FILE_READ_DATA;

    #[test]
    fn only_the_groups_of_others_count() {
        for (sddl, expected) in [
            ("D:P(A;;FA;;;SY)(A;;FA;;;BA)", 0),
            ("D:P(A;;FA;;;S-1-5-21-1-2-3-1001)", 0),
            ("D:P(A;;FR;;;WD)", READ),
            ("D:P(A;;FR;;;AU)", READ),
            ("D:P(A;;FA;;;BU)", READ | WRITE),
            ("D:P(A;;FW;;;BG)", WRITE),
            ("D:P(A;;GA;;;AN)", READ | WRITE),
            ("D:P(A;;GR;;;IU)", READ),
        ] {
            assert_eq!(rights(sddl) & (READ | WRITE), expected, "{sddl}");
        }
    }

    #[test]
    fn an_entry_that_denies_first_wins() {
        assert_eq!(rights("D:P(D;;FA;;;WD)(A;;FA;;;BU)"), 0);
        assert_eq!(rights("D:P(D;;FW;;;BU)(A;;FA;;;AU)") & (READ | WRITE), READ);
        // Guests do not belong to Users.
        assert_eq!(rights("D:P(D;;FA;;;BU)(A;;FR;;;BG)") & READ, READ);
        assert_eq!(rights("D:P(A;;FR;;;WD)(D;;FA;;;WD)") & READ, READ);
    }

    #[test]
    fn an_entry_for_new_files_alone_does_not_count() {
        assert_eq!(rights("D:P(A;OICIIO;FA;;;WD)"), 0);
    }

    #[test]
    fn without_a_list_everything_is_allowed_and_with_an_empty_one_nothing() {
        assert_eq!(rights("O:BA"), FILE_ALL_ACCESS);
        assert_eq!(rights("D:P"), 0);
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_exposed() {
        assert_eq!(exposure(Path::new(r"C:\nowhere\at\all")), None);
    }
}
