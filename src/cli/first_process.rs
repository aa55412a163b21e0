//! The daemon that is a container's first process, as a health check in that container sees it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::platform::processes;

/// The configuration file that its arguments name, if the first process is this program or has started it, as
/// `docker run --init` does.
pub(super) fn configuration() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    named_in(processes::arguments_of_first(), program.file_name()?)
}

/// The file after `--config` or `-c` in the arguments of a program.
fn named_in(arguments: Vec<OsString>, program: &OsStr) -> Option<PathBuf> {
    let mut arguments = arguments.into_iter();
    arguments.find(|argument| Path::new(argument).file_name() == Some(program))?;
    while let Some(argument) = arguments.next() {
        // A file's name that is not UTF-8 can only be an argument of its own.
        let text = argument.to_str().unwrap_or_default();
        if matches!(text, "--config" | "-c") {
            return arguments.next().map(PathBuf::from);
        }
        let short = || text.strip_prefix("-c=").or_else(|| text.strip_prefix("-c"));
        if let Some(file) = text.strip_prefix("--config=").or_else(short) {
            return Some(file.into());
        }
    }
    None
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
                named_in(
                    arguments.split('\0').map(OsString::from).collect(),
                    OsStr::new("bondgate")
                ),
                file.map(PathBuf::from),
                "{arguments:?}"
            );
        }
    }
}
