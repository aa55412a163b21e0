//! The daemon that is a container's first process, as a health check in that container sees it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The configuration file that its arguments name, if the first process is this program.
pub(super) fn configuration() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let arguments = fs::read("/proc/1/cmdline").ok()?;
    // Not /proc/1/exe: the daemon forbids other processes of its user to look at that.
    let first = Path::new(OsStr::from_bytes(arguments.split(|byte| *byte == 0).next()?));
    (first.file_name() == program.file_name()).then(|| named_in(&arguments))?
}

/// The file after `--config` or `-c` in arguments that each end with a zero byte.
fn named_in(arguments: &[u8]) -> Option<PathBuf> {
    let mut arguments = arguments.split(|byte| *byte == 0);
    let file = arguments.find_map(|argument| match argument {
        b"--config" | b"-c" => Some(None),
        _ => argument.strip_prefix(b"--config=").map(Some),
    })?;
    let file: OsString = OsStr::from_bytes(file.or_else(|| arguments.next())?).to_owned();
    Some(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_first_process_is_in_its_arguments() {
        for (arguments, file) in [
            ("/bondgate\0run\0--config\0/etc/a.toml\0", Some("/etc/a.toml")),
            ("/bondgate\0--config=/etc/a.toml\0", Some("/etc/a.toml")),
            ("/bondgate\0-c\0a.toml\0", Some("a.toml")),
            ("/bondgate\0run\0", None),
            ("/bondgate\0demo\0", None),
            ("", None),
        ] {
            assert_eq!(
                named_in(arguments.as_bytes()),
                file.map(PathBuf::from),
                "{arguments:?}"
            );
        }
    }
}
