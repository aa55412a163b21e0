//! The user and the other processes of this machine.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Who may do everything.
pub const ADMINISTRATOR: &str = "root";

/// Whether the user of this process may do everything: root.
#[must_use]
pub fn is_administrator() -> bool {
    rustix::process::geteuid().is_root()
}

/// The arguments of the machine's, or the container's, first process; none where the system does not show them.
#[must_use]
pub fn arguments_of_first() -> Vec<OsString> {
    // Not /proc/1/exe: the daemon forbids other processes of its user to look at that.
    let arguments = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let arguments = arguments.split(|byte| *byte == 0);
    arguments
        .map(|argument| OsStr::from_bytes(argument).to_owned())
        .collect()
}
