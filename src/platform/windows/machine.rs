//! What a support case needs to know of a machine. What the system does not show is left out.

use std::io;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};

use super::account::Account;
use super::error_code::check;
use super::processes::is_administrator;
use super::{files, wide};

/// A name and a value.
type Fact = (String, String);

/// Where Windows keeps its version.
const VERSION: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";

/// The machine, and the user of this process.
#[must_use]
pub fn facts() -> Vec<Fact> {
    let names = ["ProductName", "DisplayVersion", "CurrentBuild"];
    let version: Vec<_> = names
        .iter()
        .filter_map(|name| registered(VERSION, name).ok())
        .collect();
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let rights = if is_administrator() {
        "an administrator"
    } else {
        "no administrator"
    };
    let found = [
        ("operating system", Some(version.join(", "))),
        (
            "processor",
            Some(format!("{}, {count} usable", std::env::consts::ARCH)),
        ),
        ("host name", files::host_name()),
        (
            "user of this command",
            Account::of_this_process()
                .ok()
                .map(|user| format!("{}, {rights}", user.name())),
        ),
    ];
    let found = found.into_iter();
    found
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// None: Windows has no such limits of a process.
#[must_use]
pub fn facts_of_process(_id: u32) -> Vec<Fact> {
    Vec::new()
}

/// The free and the whole space of the disk that holds a directory, in bytes.
#[allow(unsafe_code)] // No crate has a safe function for it.
pub fn disk_space(directory: &Path) -> io::Result<(u64, u64)> {
    let path = wide::path(directory)?;
    let (mut free, mut all) = (0, 0);
    // SAFETY: the path ends with a zero, and each pointer is to a variable, or null for a value that is not wanted.
    let is_known =
        unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, &raw mut all, ptr::null_mut()) };
    if is_known == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((free, all))
}

/// A text in the registry of the machine.
#[allow(unsafe_code)] // The registry's interface is not safe.
fn registered(key: &str, name: &str) -> io::Result<String> {
    let (key, name) = (wide::text(key)?, wide::text(name)?);
    let mut units = [0_u16; 256];
    let mut bytes = u32::try_from(size_of_val(&units)).expect("a small buffer");
    // SAFETY: the key is a predefined one, both names end with a zero, and the buffer is as long as stated.
    check(unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_SZ,
            ptr::null_mut(),
            units.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    })?;
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    Ok(String::from_utf16_lossy(&units[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shows_its_version_and_the_space_of_its_disk() {
        let facts = facts();
        let (_, version) = facts.iter().find(|(name, _)| name == "operating system").unwrap();
        assert!(!version.is_empty(), "{facts:?}");
        let (free, all) = disk_space(Path::new(r"C:\")).unwrap();
        assert!(free <= all && all > 0);
    }
}
