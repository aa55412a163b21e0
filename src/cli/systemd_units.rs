//! The units of systemd that are installed on this machine.

use std::fs;
use std::path::PathBuf;

const SERVICE: &str = "bondgate.service";
const UNIT_PATH: &str = "/etc/systemd/system:/run/systemd/system:/usr/local/lib/systemd/system:/usr/lib/systemd/system:\
                         /etc/systemd/user:/usr/lib/systemd/user";

/// The text of bondgate's service, with what `systemctl edit` has added.
pub(super) fn service() -> Option<String> {
    let mut units =
        unit_directories().filter_map(|directory| fs::read_to_string(directory.join(SERVICE)).ok());
    let unit = units.next()?;
    let added = unit_directories()
        .filter_map(|directory| fs::read_dir(directory.join(format!("{SERVICE}.d"))).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "conf"))
        .filter_map(|file| fs::read_to_string(file).ok());
    Some(std::iter::once(unit).chain(added).collect::<Vec<_>>().join("\n"))
}

/// Whether a .socket unit of this machine passes a socket of this name.
pub(super) fn has_socket(name: &str) -> bool {
    let files = unit_directories().filter_map(|directory| fs::read_dir(directory).ok());
    let mut files = files.flatten().flatten().map(|entry| entry.path());
    files.any(|file| {
        if file.extension().is_none_or(|extension| extension != "socket") {
            return false;
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("FileDescriptorName="));
        // Without a name, a socket has that of its unit.
        names
            .next_back()
            .map_or(file.file_name().is_some_and(|file| file == name), |found| {
                found == name
            })
    })
}

/// The directories of systemd's units (systemd.unit(5)).
fn unit_directories() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var("SYSTEMD_UNIT_PATH").unwrap_or_else(|_| UNIT_PATH.to_owned());
    let directories: Vec<_> = path
        .split(':')
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .collect();
    directories.into_iter()
}
