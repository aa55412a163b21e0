//! Errors of the Windows API, by their numbers.

use std::error::Error;
use std::io;
use std::iter;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, WIN32_ERROR};

/// The result of a function that returns its error.
pub(super) fn check(code: WIN32_ERROR) -> io::Result<()> {
    if code == ERROR_SUCCESS {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.cast_signed()))
}

/// Whether an error, or one that it is based on, is the one of this number.
#[must_use]
pub(super) fn is(error: &(dyn Error + 'static), code: WIN32_ERROR) -> bool {
    iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.raw_os_error() == Some(code.cast_signed()))
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND};

    use super::*;

    #[test]
    fn an_error_is_known_by_its_number_also_within_one_of_the_services_crate() {
        let error = || io::Error::from_raw_os_error(ERROR_ACCESS_DENIED.cast_signed());
        assert!(is(&error(), ERROR_ACCESS_DENIED) && !is(&error(), ERROR_FILE_NOT_FOUND));
        let wrapped = windows_service::Error::Winapi(error());
        assert!(is(&wrapped, ERROR_ACCESS_DENIED) && !is(&wrapped, ERROR_FILE_NOT_FOUND));
    }
}
