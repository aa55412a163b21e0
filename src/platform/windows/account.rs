//! Users and groups, by their security identifiers (SIDs).

use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, ERROR_NONE_MAPPED};
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{
    CreateWellKnownSid, GetLengthSid, GetTokenInformation, IsWellKnownSid, LookupAccountNameW,
    LookupAccountSidW, PSID, SECURITY_MAX_SID_SIZE, TOKEN_QUERY, TOKEN_USER, TokenUser, WELL_KNOWN_SID_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::local_memory::LocalMemory;
use super::wide;

/// Room for any SID, aligned as its parts need it.
type Sid = [u32; SECURITY_MAX_SID_SIZE as usize / 4];

/// A user, a group, or a service's virtual account.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Account(Sid);

impl Account {
    /// The user that this process runs as.
    #[allow(unsafe_code)] // The token's interface is not safe.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let mut token = ptr::null_mut();
        // SAFETY: the pseudo handle of the process is always valid, and the token's handle is written to a local.
        if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just opened, and nothing else closes it.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        // A TOKEN_USER and the SID that it points to.
        let mut buffer = [0_u64; 16];
        let mut length = 0;
        // SAFETY: the buffer is as long as stated, and aligned for a TOKEN_USER.
        let is_read = unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                buffer.as_mut_ptr().cast(),
                u32::try_from(size_of_val(&buffer)).expect("a small buffer"),
                &raw mut length,
            )
        };
        if is_read == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so that the buffer starts with a TOKEN_USER whose SID lies in the buffer.
        Ok(unsafe {
            let user = buffer.as_ptr().cast::<TOKEN_USER>();
            Self::copied((*user).User.Sid)
        })
    }

    /// An account that every machine has: `SYSTEM`, the administrators.
    #[allow(unsafe_code)] // The interface is not safe.
    pub(super) fn well_known(kind: WELL_KNOWN_SID_TYPE) -> io::Result<Self> {
        let mut sid = Sid::default();
        let mut length = SECURITY_MAX_SID_SIZE;
        // SAFETY: the buffer has the stated length, which is enough for any SID.
        let is_made =
            unsafe { CreateWellKnownSid(kind, ptr::null_mut(), sid.as_mut_ptr().cast(), &raw mut length) };
        if is_made == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(sid))
    }

    /// The account of this name: `NT SERVICE\bondgate`, `Users`, `DOMAIN\user`. The virtual account of a service exists
    /// as long as the service is installed.
    #[allow(unsafe_code)] // The lookup's interface is not safe.
    pub(super) fn named(name: &str) -> io::Result<Self> {
        let wide_name = wide::text(name)?;
        let mut sid = Sid::default();
        let mut sid_length = SECURITY_MAX_SID_SIZE;
        let mut domain = vec![0; 256];
        let mut domain_length = 256;
        let mut kind = 0;
        // SAFETY: the name ends with a zero, and both buffers are as long as stated: the SID's in bytes, the other in
        // characters.
        let is_found = unsafe {
            LookupAccountNameW(
                ptr::null(),
                wide_name.as_ptr(),
                sid.as_mut_ptr().cast(),
                &raw mut sid_length,
                domain.as_mut_ptr(),
                &raw mut domain_length,
                &raw mut kind,
            )
        };
        if is_found != 0 {
            return Ok(Self(sid));
        }
        let error = io::Error::last_os_error();
        let code = error.raw_os_error().map(i32::cast_unsigned);
        debug_assert_ne!(
            code,
            Some(ERROR_INSUFFICIENT_BUFFER),
            "names have at most 256 characters"
        );
        if code == Some(ERROR_NONE_MAPPED) {
            let message = format!("there is no account {name}");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Err(error)
    }

    /// Whether it is this one of those that every machine has.
    #[must_use]
    #[allow(unsafe_code)] // The interface is not safe.
    pub(super) fn is(&self, kind: WELL_KNOWN_SID_TYPE) -> bool {
        // SAFETY: the SID is valid.
        unsafe { IsWellKnownSid(self.as_sid(), kind) != 0 }
    }

    /// Whether it is the virtual account of a service (`NT SERVICE`).
    #[must_use]
    pub(super) fn is_service(&self) -> bool {
        self.to_string().starts_with("S-1-5-80-")
    }

    /// The name and the SID, for the operator: `DOMAIN\user (S-1-5-21-…)`. The SID alone, if no such account is known.
    #[must_use]
    #[allow(unsafe_code)] // The lookup's interface is not safe.
    pub(super) fn name(&self) -> String {
        let (mut name, mut domain) = ([0; 256], [0; 256]);
        let (mut name_length, mut domain_length) = (256, 256);
        let mut kind = 0;
        // SAFETY: the SID is valid, and both buffers are as long as stated, in characters.
        let is_found = unsafe {
            LookupAccountSidW(
                ptr::null(),
                self.as_sid(),
                name.as_mut_ptr(),
                &raw mut name_length,
                domain.as_mut_ptr(),
                &raw mut domain_length,
                &raw mut kind,
            )
        };
        if is_found == 0 {
            return self.to_string();
        }
        let text = |units: &[u16], length: u32| String::from_utf16_lossy(&units[..length as usize]);
        let (name, domain) = (text(&name, name_length), text(&domain, domain_length));
        let separator = if domain.is_empty() { "" } else { r"\" };
        format!("{domain}{separator}{name} ({self})")
    }

    /// The SID, for the functions of the API that read one.
    #[must_use]
    pub(super) fn as_sid(&self) -> PSID {
        self.0.as_ptr().cast_mut().cast()
    }

    /// # Safety
    ///
    /// The address must be that of a valid SID.
    #[allow(unsafe_code)] // Reads through an address that the API returned.
    pub(super) unsafe fn copied(from: PSID) -> Self {
        let mut sid = Sid::default();
        // SAFETY: a valid SID, by the caller's word, has this length, which is at most that of the buffer.
        unsafe {
            let length = GetLengthSid(from) as usize;
            ptr::copy_nonoverlapping(
                from.cast::<u8>(),
                sid.as_mut_ptr().cast(),
                length.min(size_of::<Sid>()),
            );
        }
        Self(sid)
    }
}

impl fmt::Display for Account {
    /// The form in which a SID is written: `S-1-5-18`.
    #[allow(unsafe_code)] // The conversion's interface is not safe.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = LocalMemory::<u16>::empty();
        // SAFETY: the SID is valid, and the text is written to a place that frees it.
        if unsafe { ConvertSidToStringSidW(self.as_sid(), text.out()) } == 0 {
            return Err(fmt::Error);
        }
        f.write_str(&text.to_text())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::security_descriptor::SecurityDescriptor;
    use super::*;

    /// The account of a SID.
    fn account(sid: &str) -> Account {
        let descriptor = SecurityDescriptor::parse(&format!("O:{sid}")).unwrap();
        descriptor.owner().unwrap()
    }

    #[test]
    fn a_well_known_account_is_found_by_its_name() {
        assert_eq!(Account::named("Everyone").unwrap().to_string(), "S-1-1-0");
        assert_eq!(
            Account::named(r"NT AUTHORITY\SYSTEM").unwrap().to_string(),
            "S-1-5-18"
        );
    }

    #[test]
    fn an_account_that_does_not_exist_is_not_found() {
        let error = Account::named(r"NT SERVICE\no-such-service").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            r"there is no account NT SERVICE\no-such-service"
        );
    }

    #[test]
    fn the_account_of_a_service_is_known_by_its_authority() {
        assert!(account("S-1-5-80-1-2-3-4-5").is_service());
        assert!(!account("S-1-5-8").is_service() && !account("S-1-5-21-80-1-2-1001").is_service());
    }

    #[test]
    fn the_user_of_this_process_is_known() {
        assert!(
            Account::of_this_process()
                .unwrap()
                .to_string()
                .starts_with("S-1-5-")
        );
    }
}
