//! Commands for the reader of a message to run, in a shell.

use std::collections::BTreeSet;
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

/// What shows the lines that the service has written to standard error.
pub const SHOW_LOG: &str =
    "`journalctl -u bondgate --since -1h` (under systemd; else the place of standard error)";

/// What sets the clock and keeps it right.
pub const SET_CLOCK: &str = "timedatectl set-ntp true";
/// Where the system has its name servers.
pub const NAME_SERVERS: &str = "the nameserver lines in /etc/resolv.conf";
/// The command that resolves a name as bondgate does.
pub const LOOK_UP: &str = "getent hosts";

/// The command that converts a file from an encoding, as iconv names it, to UTF-8. It keeps the owner and the mode.
#[must_use]
pub fn to_utf_8(path: &Path, encoding: &str) -> String {
    let file = quoted(path);
    format!(
        "(umask 077; iconv -f {encoding} -t UTF-8 {file} > {file}.utf8) && cp {file}.utf8 {file} && rm {file}.utf8"
    )
}

/// The command that removes these characters from both ends of a text file, and line breaks and a byte order mark with them.
#[must_use]
pub fn trim_file(path: &Path, characters: &BTreeSet<char>) -> String {
    let one = one_of(characters);
    edit(
        path,
        &format!("s/^(\\xEF\\xBB\\xBF)?{one}*//;s/({one}|\\r?\\n)*$//"),
    )
}

/// The command that removes these characters from a text file.
#[must_use]
pub fn remove_from_file(path: &Path, characters: &BTreeSet<char>) -> String {
    edit(path, &format!("s/{}//g", one_of(characters)))
}

fn edit(path: &Path, script: &str) -> String {
    format!("LC_ALL=C sed -Ezi '{script}' {}", quoted(path))
}

/// A regular expression for one of these characters, by their bytes.
fn one_of(characters: &BTreeSet<char>) -> String {
    let expression = |character: &char| {
        let text = character.to_string();
        let bytes: Vec<_> = text.bytes().map(|byte| format!("\\x{byte:02X}")).collect();
        bytes.concat()
    };
    let expressions: Vec<_> = characters.iter().map(expression).collect();
    format!("({})", expressions.join("|"))
}
