//! Where the files of bondgate are by default: in the folder for programs' data of all users.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::ptr;

use windows_sys::Win32::System::Com::CoTaskMemFree;
use windows_sys::Win32::UI::Shell::{FOLDERID_ProgramData, KF_FLAG_DEFAULT, SHGetKnownFolderPath};

/// The folder of the configuration of a service.
#[must_use]
pub fn configuration() -> PathBuf {
    program_data()
        .unwrap_or_else(|| r"C:\ProgramData".into())
        .join("bondgate")
}

/// The folder of the log of a service.
#[must_use]
pub fn log() -> PathBuf {
    configuration().join("log")
}

/// The folder of the spool of a service.
#[must_use]
pub fn spool() -> PathBuf {
    configuration().join("spool")
}

/// The most characters of a path.
const LONGEST: usize = 32_767;

/// Not by the variable of this name, which whoever starts the program may set.
#[allow(unsafe_code)] // The interface is not safe.
fn program_data() -> Option<PathBuf> {
    let mut path = ptr::null_mut();
    let flags = KF_FLAG_DEFAULT.cast_unsigned();
    // SAFETY: the folder's id is a constant, and the path's address is written to a local.
    let code = unsafe { SHGetKnownFolderPath(&FOLDERID_ProgramData, flags, ptr::null_mut(), &raw mut path) };
    // SAFETY: if the call succeeded, the path ends with a zero. It is freed once, as the function demands in any case.
    unsafe {
        let found = (code == 0).then(|| {
            let length = (0..LONGEST).take_while(|at| *path.add(*at) != 0).count();
            OsString::from_wide(std::slice::from_raw_parts(path, length)).into()
        });
        CoTaskMemFree(path.cast());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_are_absolute() {
        assert!(program_data().unwrap().is_absolute());
        assert!(spool().starts_with(configuration()));
    }
}
