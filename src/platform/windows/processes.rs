//! The user and the other processes of this machine.

use std::ffi::OsString;
use std::ptr;

use windows_sys::Win32::Security::{CheckTokenMembership, WinBuiltinAdministratorsSid};

use super::account::Account;

/// Who may do everything.
pub const ADMINISTRATOR: &str = "an administrator";

/// Whether this process has the rights of an administrator ("Run as administrator").
#[must_use]
#[allow(unsafe_code)] // No crate has a safe function for it.
pub fn is_administrator() -> bool {
    let Ok(administrators) = Account::well_known(WinBuiltinAdministratorsSid) else {
        return false;
    };
    let mut is_member = 0;
    // SAFETY: the SID is valid; without a token, the function takes that of this thread.
    let is_known =
        unsafe { CheckTokenMembership(ptr::null_mut(), administrators.as_sid(), &raw mut is_member) };
    is_known != 0 && is_member != 0
}

/// The arguments of the first process of a container: Windows does not show them.
#[must_use]
pub fn arguments_of_first() -> Vec<OsString> {
    Vec::new()
}
