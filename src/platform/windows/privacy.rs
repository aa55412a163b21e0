//! Whether a directory is private: no account has access but those that bondgate trusts.

use std::io;
use std::path::Path;

use windows_sys::Win32::Security::{WinBuiltinAdministratorsSid, WinCreatorOwnerSid, WinLocalSystemSid};

use super::access_list::{Entry, entries};
use super::account::Account;
use super::security_descriptor::SecurityDescriptor;

/// Whether an account may own or read what bondgate keeps to itself: SYSTEM, the administrators, the user of this process,
/// and services, which only administrators install.
pub(super) fn is_trusted(account: &Account) -> io::Result<bool> {
    Ok(account.is(WinLocalSystemSid)
        || account.is(WinBuiltinAdministratorsSid)
        || account.is_service()
        || *account == Account::of_this_process()?)
}

/// Whether new files in a directory may inherit its permissions: neither it nor they are accessible for others than its owner
/// and trusted accounts. Not if the permissions cannot be read.
#[must_use]
pub(super) fn is_private(directory: &Path) -> bool {
    SecurityDescriptor::of(directory)
        .and_then(|descriptor| is_limited(&descriptor))
        .unwrap_or(false)
}

/// Entries that deny are left out of account, and so are the order and the rights: an entry of any other account is one too many.
fn is_limited(descriptor: &SecurityDescriptor) -> io::Result<bool> {
    let owner = descriptor.owner();
    // Without a list, everybody has every right.
    for entry in entries(descriptor).unwrap_or_else(|| vec![Entry::Other]) {
        let is_harmless = match entry {
            Entry::Allow(rights) => {
                let account = rights.account;
                owner.as_ref() == Some(&account) || account.is(WinCreatorOwnerSid) || is_trusted(&account)?
            }
            Entry::Deny(_) => true,
            Entry::Other => false,
        };
        if !is_harmless {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_private(sddl: &str) -> bool {
        is_limited(&SecurityDescriptor::parse(sddl).unwrap()).unwrap()
    }

    #[test]
    fn system_administrators_services_the_owner_and_this_user_may_have_access() {
        let this_user = Account::of_this_process().unwrap();
        for sddl in [
            "O:BAD:P".to_owned(),
            "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)".to_owned(),
            "O:BAD:(A;OICIID;FA;;;SY)(A;OICI;FR;;;S-1-5-80-1-2-3-4-5)".to_owned(),
            "O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;S-1-5-21-1-2-3-1001)(A;OICIIO;GA;;;CO)".to_owned(),
            "O:BAD:P(D;;FA;;;WD)(A;;FA;;;BA)".to_owned(),
            format!("O:BAD:P(A;;FA;;;{this_user})"),
        ] {
            assert!(is_private(&sddl), "{sddl}");
        }
    }

    #[test]
    fn any_right_of_another_account_counts_also_for_new_files_alone() {
        for sddl in [
            // No list at all.
            "O:BA",
            "O:BAD:P(A;OICIIO;FR;;;BU)",
            "O:BAD:P(A;CI;0x4;;;BU)",
            "O:BAD:P(A;;FA;;;S-1-5-21-1-2-3-1001)",
            "O:BAD:P(D;;FA;;;WD)(A;;FR;;;WD)",
            "O:BAD:P(A;OICI;FA;;;BA)(A;ID;0x1;;;AU)",
        ] {
            assert!(!is_private(sddl), "{sddl}");
        }
    }
}
