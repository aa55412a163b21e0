//! Windows' Event Log: registers this program as a source of its Application log, and reports events there.

use std::io;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, HANDLE};
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
    REPORT_EVENT_TYPE, RegisterEventSourceW, ReportEventW,
};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_LOCAL_MACHINE, KEY_SET_VALUE, REG_DWORD, REG_EXPAND_SZ, REG_OPTION_NON_VOLATILE, RegCloseKey,
    RegCreateKeyExW, RegDeleteTreeW, RegSetValueExW,
};

use super::error_code::{check, is};
use super::wide;

/// The sources of the Application log.
const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";

/// A part of Windows whose messages 1 to 1000 are a text alone, so that we need no message file of our own.
const MESSAGE_FILE: &str = r"%SystemRoot%\System32\EventCreate.exe";

/// The number of characters that one text may have.
const TEXT_LIMIT: usize = 31_839;

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Information,
    /// The operator should look at it.
    Warning,
    /// It failed.
    Error,
}

impl Level {
    /// The type, and a number within those that the message file has.
    fn event(self) -> (REPORT_EVENT_TYPE, u32) {
        match self {
            Self::Information => (EVENTLOG_INFORMATION_TYPE, 1),
            Self::Warning => (EVENTLOG_WARNING_TYPE, 2),
            Self::Error => (EVENTLOG_ERROR_TYPE, 3),
        }
    }
}

/// Registers a source, so that the Event Viewer shows its texts without a complaint. For administrators only.
pub(super) fn register_source(name: &str) -> io::Result<()> {
    let key = Key::create(&format!(r"{SOURCES}\{name}"))?;
    let path: Vec<u8> = wide::text(MESSAGE_FILE)?
        .iter()
        .flat_map(|unit| unit.to_le_bytes())
        .collect();
    key.set("EventMessageFile", REG_EXPAND_SZ, &path)?;
    let types = EVENTLOG_ERROR_TYPE | EVENTLOG_WARNING_TYPE | EVENTLOG_INFORMATION_TYPE;
    key.set("TypesSupported", REG_DWORD, &u32::from(types).to_le_bytes())?;
    // What `eventcreate` sets, to tell these sources from those of programs with a message file.
    key.set("CustomSource", REG_DWORD, &1_u32.to_le_bytes())
}

/// Removes a source. No error if there is none. For administrators only.
#[allow(unsafe_code)] // The registry's interface is not safe.
pub(super) fn unregister_source(name: &str) -> io::Result<()> {
    let key = wide::text(format!(r"{SOURCES}\{name}"))?;
    // SAFETY: the key is a predefined one, and the name ends with a zero.
    match check(unsafe { RegDeleteTreeW(HKEY_LOCAL_MACHINE, key.as_ptr()) }) {
        Err(error) if !is(&error, ERROR_FILE_NOT_FOUND) => Err(error),
        _ => Ok(()),
    }
}

/// A source of events.
#[derive(Debug)]
pub(super) struct EventLog(HANDLE);

// SAFETY: the handle belongs to the process and not to a thread.
#[allow(unsafe_code)] // A handle is an address for the compiler.
unsafe impl Send for EventLog {}
// SAFETY: the system's functions serialize the access to it.
#[allow(unsafe_code)] // As above.
unsafe impl Sync for EventLog {}

impl EventLog {
    /// Opens the log for a source. An unregistered source can report, too.
    #[allow(unsafe_code)] // The Event Log's interface is not safe.
    pub(super) fn open(source: &str) -> io::Result<Self> {
        let name = wide::text(source)?;
        // SAFETY: the name ends with a zero; null is this machine.
        let handle = unsafe { RegisterEventSourceW(ptr::null(), name.as_ptr()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(handle))
    }

    /// Reports an event. A text that is too long is cut off.
    #[allow(unsafe_code)] // The Event Log's interface is not safe.
    pub(super) fn report(&self, level: Level, text: &str) -> io::Result<()> {
        let text = as_event_text(text);
        let texts = [text.as_ptr()];
        let (kind, number) = level.event();
        // SAFETY: the handle is open; there is one text, which ends with a zero, and no data.
        let is_reported = unsafe {
            ReportEventW(
                self.0,
                kind,
                0,
                number,
                ptr::null_mut(),
                1,
                0,
                texts.as_ptr(),
                ptr::null(),
            )
        };
        if is_reported == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for EventLog {
    #[allow(unsafe_code)] // The Event Log's interface is not safe.
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing uses it afterwards.
        unsafe { DeregisterEventSource(self.0) };
    }
}

/// A text with no zero within and one at its end, cut off between two characters. The Event Viewer would replace % and a
/// number, as in an escaped path.
fn as_event_text(text: &str) -> Vec<u16> {
    let mut units = Vec::with_capacity(text.len().min(TEXT_LIMIT) + 1);
    for character in text.replace('%', "% ").chars() {
        let character = if character == '\0' { ' ' } else { character };
        if units.len() + character.len_utf16() > TEXT_LIMIT {
            break;
        }
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
    }
    units.push(0);
    units
}

/// A key of the registry, open to set its values.
struct Key(HKEY);

impl Key {
    #[allow(unsafe_code)] // The registry's interface is not safe.
    fn create(path: &str) -> io::Result<Self> {
        let path = wide::text(path)?;
        let mut key = ptr::null_mut();
        // SAFETY: the name ends with a zero, and the key is written to a local.
        check(unsafe {
            RegCreateKeyExW(
                HKEY_LOCAL_MACHINE,
                path.as_ptr(),
                0,
                ptr::null(),
                REG_OPTION_NON_VOLATILE,
                KEY_SET_VALUE,
                ptr::null(),
                &raw mut key,
                ptr::null_mut(),
            )
        })?;
        Ok(Self(key))
    }

    #[allow(unsafe_code)] // The registry's interface is not safe.
    fn set(&self, name: &str, kind: u32, data: &[u8]) -> io::Result<()> {
        let name = wide::text(name)?;
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        // SAFETY: the key is open, the name ends with a zero, and the data is as long as stated.
        check(unsafe { RegSetValueExW(self.0, name.as_ptr(), 0, kind, data.as_ptr(), length) })
    }
}

impl Drop for Key {
    #[allow(unsafe_code)] // The registry's interface is not safe.
    fn drop(&mut self) {
        // SAFETY: the key is open, and nothing uses it afterwards.
        unsafe { RegCloseKey(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_off_between_characters_and_has_no_zero_within() {
        assert_eq!(as_event_text("a\0b"), [97, 32, 98, 0]);
        let long = as_event_text(&"\u{1F512}".repeat(TEXT_LIMIT));
        assert_eq!(long.len(), TEXT_LIMIT);
        assert!(String::from_utf16(&long).is_ok());
    }

    #[test]
    fn a_registered_source_reports_and_can_be_removed_twice() {
        let name = format!("bondgate-test-{}", std::process::id());
        register_source(&name).unwrap();
        let log = EventLog::open(&name).unwrap();
        for level in [Level::Information, Level::Warning, Level::Error] {
            log.report(level, "a text of 100 % length").unwrap();
        }
        unregister_source(&name).unwrap();
        unregister_source(&name).unwrap();
    }
}
