//! Errors of the Windows API, by their numbers.

use std::io;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, WIN32_ERROR};

/// The result of a function that returns its error.
pub(super) fn check(code: WIN32_ERROR) -> io::Result<()> {
    if code == ERROR_SUCCESS {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.cast_signed()))
}

/// Whether an error is the one of this number.
#[must_use]
pub(super) fn is(error: &io::Error, code: WIN32_ERROR) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}
