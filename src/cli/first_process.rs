//! The daemon that is a container's first process, as a health check in that container sees it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The configuration file that its arguments name, if the first process is this program or has started it, as
/// `docker run --init` does.
pub(super) fn configuration() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    // Not /proc/1/exe: the daemon forbids other processes of its user to look at that.
    named_in(&fs::read("/proc/1/cmdline").ok()?, program.file_name()?)
}

/// The file after `--config` or `-c` in the arguments of a program. Each argument ends with a zero byte.
fn named_in(arguments: &[u8], program: &OsStr) -> Option<PathBuf> {
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.find(|argument| Path::new(OsStr::from_bytes(argument)).file_name() == Some(program))?;
    let file = arguments.find_map(|argument| match argument {
        b"--config" | b"-c" => Some(None),
        _ => {
            let short = || {
                argument
                    .strip_prefix(b"-c=")
                    .or_else(|| argument.strip_prefix(b"-c"))
            };
            argument.strip_prefix(b"--config=").or_else(short).map(Some)
        }
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
            ("/bondgate\0run\0-ca.toml\0", Some("a.toml")),
            ("/bondgate\0run\0-c=a.toml\0", Some("a.toml")),
            (
                "/sbin/docker-init\0--\0/bondgate\0run\0--config\0a.toml\0",
                Some("a.toml"),
            ),
            ("/other\0--config\0a.toml\0", None),
            ("/bondgate\0run\0", None),
            ("/bondgate\0demo\0", None),
            ("", None),
        ] {
            assert_eq!(
                named_in(arguments.as_bytes(), OsStr::new("bondgate")),
                file.map(PathBuf::from),
                "{arguments:?}"
            );
        }
    }
}
