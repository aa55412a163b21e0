//! Commands for the reader of a message to run, in a shell.

use std::path::Path;

/// The program that sends a request.
pub const CURL: &str = "curl";
/// Between two parts of a long command, on two lines.
pub const CONTINUED: &str = " \\\n    ";

/// A text as one word, whatever its characters.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as one word: in quotes if it has other characters than the usual ones.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%:=".contains(&byte);
    if text.bytes().all(is_plain) {
        return text;
    }
    literal(&text)
}

/// The command that takes a file from all but its owner and its group.
#[must_use]
pub fn close_file(path: &Path) -> String {
    format!("chmod o-rwx {}", quoted(path))
}

/// The command that keeps all but its owner and its group from changing a directory.
#[must_use]
pub fn close_directory(path: &Path) -> String {
    format!("chmod o-w {}", quoted(path))
}

/// What starts the service, and what says why it has ended.
pub const START_SERVICE: &str =
    "under systemd: `systemctl start bondgate`; `journalctl -u bondgate` says why it ended";

/// The command that converts a file from an encoding, as iconv names it, to UTF-8. It keeps the owner and the mode.
#[must_use]
pub fn to_utf_8(path: &Path, encoding: &str) -> String {
    let file = quoted(path);
    format!(
        "(umask 077; iconv -f {encoding} -t UTF-8 {file} > {file}.utf8) && cp {file}.utf8 {file} && rm {file}.utf8"
    )
}
