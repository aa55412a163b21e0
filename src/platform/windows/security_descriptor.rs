//! The permissions of files, as the Windows API reads and writes them.

use std::ffi::c_void;
use std::io;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, SDDL_REVISION_1,
    SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, GetSecurityDescriptorDacl, GetSecurityDescriptorOwner,
    OWNER_SECURITY_INFORMATION, SECURITY_ATTRIBUTES,
};

use super::account::Account;
use super::error_code::check;
use super::local_memory::LocalMemory;
use super::wide;

/// The owner and the permissions of a file: those that it has, or those that a new one gets.
#[derive(Debug)]
pub(super) struct SecurityDescriptor(LocalMemory<c_void>);

impl SecurityDescriptor {
    /// Full access for SYSTEM, the administrators and, if one is named, an account; nothing is inherited from the directory
    /// above (`P`). The flags, such as `OICI`, say what new files and directories within inherit.
    pub(super) fn private(account: Option<&Account>, flags: &str) -> io::Result<Self> {
        let entry = |sid: &str| format!("(A;{flags};FA;;;{sid})");
        let of_account = account.map_or_else(String::new, |account| entry(&account.to_string()));
        Self::parse(&format!("D:P{}{}{of_account}", entry("SY"), entry("BA")))
    }

    /// The owner and the permissions of a file or directory.
    #[allow(unsafe_code)] // The security descriptors' interface is not safe.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let name = wide::path(path)?;
        let mut descriptor = LocalMemory::empty();
        // SAFETY: the name ends with a zero, and the descriptor is written to a place that frees it.
        check(unsafe {
            GetNamedSecurityInfoW(
                name.as_ptr(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                descriptor.out(),
            )
        })?;
        Ok(Self(descriptor))
    }

    /// The access control list, which lives as long as the descriptor; null if there is none.
    #[must_use]
    #[allow(unsafe_code)] // The security descriptors' interface is not safe.
    pub(super) fn list(&self) -> *const ACL {
        let (mut is_present, mut is_default, mut list) = (0, 0, ptr::null_mut());
        // SAFETY: the descriptor is valid, and the results are written to locals.
        let is_read = unsafe {
            GetSecurityDescriptorDacl(
                self.as_ptr(),
                &raw mut is_present,
                &raw mut list,
                &raw mut is_default,
            )
        };
        if is_read == 0 || is_present == 0 {
            return ptr::null();
        }
        list
    }

    /// The owner, who may always change the permissions; `None` if the descriptor has none.
    #[must_use]
    #[allow(unsafe_code)] // The security descriptors' interface is not safe.
    pub(super) fn owner(&self) -> Option<Account> {
        let (mut owner, mut is_default) = (ptr::null_mut(), 0);
        // SAFETY: the descriptor is valid, and the results are written to locals.
        let is_read =
            unsafe { GetSecurityDescriptorOwner(self.as_ptr(), &raw mut owner, &raw mut is_default) };
        if is_read == 0 || owner.is_null() {
            return None;
        }
        // SAFETY: the descriptor, which lives, has this SID.
        Some(unsafe { Account::copied(owner) })
    }

    /// Reads the security descriptor definition language (SDDL).
    #[allow(unsafe_code)] // The conversion's interface is not safe.
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let text = wide::text(text)?;
        let mut descriptor = LocalMemory::empty();
        // SAFETY: the text ends with a zero, and the descriptor is written to a place that frees it.
        let is_valid = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                descriptor.out(),
                ptr::null_mut(),
            )
        };
        if is_valid == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(descriptor))
    }

    /// The descriptor's address.
    #[must_use]
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// For a new file whose handle no child process inherits; valid as long as the descriptor.
    #[must_use]
    pub(super) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).expect("a small structure"),
            lpSecurityDescriptor: self.as_ptr(),
            bInheritHandle: 0,
        }
    }
}

/// The permissions of a file or directory in the form of Windows' tools (SDDL): `D:P(A;OICI;FA;;;SY)…`.
#[allow(unsafe_code)] // The conversion's interface is not safe.
pub(super) fn permissions(path: &Path) -> io::Result<String> {
    let descriptor = SecurityDescriptor::of(path)?;
    let mut text = LocalMemory::<u16>::empty();
    // SAFETY: the descriptor is valid, and the text is written to a place that frees it.
    let is_written = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor.as_ptr(),
            SDDL_REVISION_1,
            DACL_SECURITY_INFORMATION,
            text.out(),
            ptr::null_mut(),
        )
    };
    if is_written == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(text.to_text())
}

#[cfg(test)]
mod tests {
    use super::super::access_control::create_private;
    use super::*;

    #[test]
    fn permissions_are_reported_as_windows_tools_show_them() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("secret");
        create_private(&path).unwrap();
        let permissions = permissions(&path).unwrap();
        assert!(permissions.starts_with("D:"), "{permissions}");
        assert!(permissions.contains(";;;SY)"), "{permissions}");
        assert!(!permissions.contains(";;;WD)"), "{permissions}");
    }
}
