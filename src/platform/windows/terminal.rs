//! The console: typed input that does not appear on it.

use std::io;
use std::os::windows::io::AsRawHandle as _;

use windows_sys::Win32::Globalization::CP_UTF8;
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, ENABLE_ECHO_INPUT, GetConsoleMode, SetConsoleMode, SetConsoleOutputCP,
};

/// The standard input does not appear on the console while this exists.
#[derive(Debug)]
pub struct HiddenInput {
    input: io::Stdin,
    shown: CONSOLE_MODE,
}

impl HiddenInput {
    /// Hides the input; an error where the standard input is no console.
    pub fn new() -> io::Result<Self> {
        let input = io::stdin();
        let shown = mode(&input)?;
        set_mode(&input, shown & !ENABLE_ECHO_INPUT)?;
        Ok(Self { input, shown })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // The console has gone if this fails.
        let _ = set_mode(&self.input, self.shown);
    }
}

/// Has the console take the bytes that are written to it as UTF-8, and not in the code page of the country.
#[allow(unsafe_code)] // The console's interface is not safe.
pub(super) fn use_utf_8() {
    // SAFETY: sets a number. Without a console it fails, and nothing is needed.
    unsafe { SetConsoleOutputCP(CP_UTF8) };
}

#[allow(unsafe_code)] // The console's interface is not safe.
fn mode(input: &io::Stdin) -> io::Result<CONSOLE_MODE> {
    let mut mode = 0;
    // SAFETY: the mode is written to a local; another handle than a console's is refused.
    if unsafe { GetConsoleMode(input.as_raw_handle(), &raw mut mode) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(mode)
}

#[allow(unsafe_code)] // The console's interface is not safe.
fn set_mode(input: &io::Stdin, mode: CONSOLE_MODE) -> io::Result<()> {
    // SAFETY: another handle than a console's is refused.
    if unsafe { SetConsoleMode(input.as_raw_handle(), mode) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
