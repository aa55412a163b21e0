//! The entries of an access control list.

use std::ptr;

use windows_sys::Win32::Security::{ACCESS_ALLOWED_ACE, ACL, GetAce, INHERIT_ONLY_ACE};
use windows_sys::Win32::System::SystemServices::{ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE};

use super::account::Account;
use super::security_descriptor::SecurityDescriptor;

/// An entry.
#[derive(Debug)]
pub(super) enum Entry {
    /// Allows rights.
    Allow(Rights),
    /// Denies rights.
    Deny(Rights),
    /// Of another kind, such as one with a condition.
    Other,
}

/// What an entry allows or denies.
#[derive(Debug)]
pub(super) struct Rights {
    /// The account that is meant.
    pub account: Account,
    /// The rights.
    pub mask: u32,
    /// Whether the entry counts for new files in a directory alone, and not for the directory itself.
    pub is_inherit_only: bool,
}

/// The entries, in their order; `None` if there is no list: then everybody has every right.
#[allow(unsafe_code)] // Reads a list that the API returned.
pub(super) fn entries(descriptor: &SecurityDescriptor) -> Option<Vec<Entry>> {
    let list = descriptor.list();
    if list.is_null() {
        return None;
    }
    // SAFETY: the list is valid as long as the descriptor.
    let count = unsafe { (*list).AceCount };
    // SAFETY: likewise, and it has entries of these indices.
    Some(
        (0..count.into())
            .map(|index| unsafe { entry(list, index) })
            .collect(),
    )
}

/// # Safety
///
/// The list must be valid, and have an entry of this index.
#[allow(unsafe_code)] // Reads a list that the API returned.
unsafe fn entry(list: *const ACL, index: u32) -> Entry {
    let mut entry = ptr::null_mut();
    // SAFETY: by the caller's word.
    if unsafe { GetAce(list, index, &raw mut entry) } == 0 {
        return Entry::Other;
    }
    let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
    // SAFETY: every entry starts with a header.
    let header = unsafe { (*entry).Header };
    let make = match header.AceType.into() {
        ACCESS_ALLOWED_ACE_TYPE => Entry::Allow,
        ACCESS_DENIED_ACE_TYPE => Entry::Deny,
        _ => return Entry::Other,
    };
    // SAFETY: entries of these two types have the same layout; the SID starts at the last field.
    let (mask, account) = unsafe {
        (
            (*entry).Mask,
            Account::copied((&raw mut (*entry).SidStart).cast()),
        )
    };
    make(Rights {
        account,
        mask,
        is_inherit_only: u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0,
    })
}
