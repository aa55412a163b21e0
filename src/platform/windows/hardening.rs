//! What the process does first of all: protects its memory. Windows has no limits of descriptors or of file sizes.

use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};

/// Keeps Windows Error Reporting from writing our memory to a dump. Called before a secret is read.
#[allow(unsafe_code)] // The standard library has no function for it.
pub fn protect_memory() {
    // SAFETY: sets a mode of this process.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}

/// The limit of file descriptors: there is none.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    usize::MAX
}

/// The size of the largest file that the process may write; `None` for no limit.
#[must_use]
pub fn file_size_limit() -> Option<u64> {
    None
}
