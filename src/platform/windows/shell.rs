//! Commands for the reader of a message to run.

use std::collections::BTreeSet;
use std::path::Path;

/// The program that sends a request: in PowerShell, `curl` alone is another one.
pub const CURL: &str = "curl.exe";
/// Between two parts of a long command: the shells of Windows have no common sign for two lines.
pub const CONTINUED: &str = " ";

/// A text as one word of cmd, whatever its characters but %.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}

/// A path as one word of PowerShell: in quotes if it has other characters than the usual ones.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || br"\/._-+@%:=".contains(&byte);
    if text.bytes().all(is_plain) {
        return text;
    }
    in_quotes(path)
}

/// The command that takes a file from the groups that every user belongs to: Everyone, Authenticated Users and Users, by their
/// numbers, since their names depend on the language.
#[must_use]
pub fn close_file(path: &Path) -> String {
    format!(
        "icacls {} /inheritance:d /remove:g *S-1-1-0 *S-1-5-11 *S-1-5-32-545",
        quoted(path)
    )
}

/// The same for a directory.
#[must_use]
pub fn close_directory(path: &Path) -> String {
    close_file(path)
}

/// What starts the service, and what says why it has ended.
pub const START_SERVICE: &str =
    "as a service: `bondgate service start`; its log in %ProgramData%\\bondgate\\log says why it ended";

/// What shows the lines that the service has written.
pub const SHOW_LOG: &str = "the log file or the console of the daemon";

/// What sets the clock and keeps it right.
pub const SET_CLOCK: &str = "Start-Service w32time; w32tm /resync";
/// Where the system has its name servers.
pub const NAME_SERVERS: &str = "the DNS servers that Get-DnsClientServerAddress lists";
/// The command that resolves a name as bondgate does.
pub const LOOK_UP: &str = "Resolve-DnsName";

/// The command of PowerShell that converts a file from an encoding, as iconv names it, to UTF-8. It keeps the permissions.
#[must_use]
pub fn to_utf_8(path: &Path, encoding: &str) -> String {
    let file = in_quotes(path);
    // The name of .NET; without one, a byte order mark decides.
    let encoding = match encoding {
        "UTF-16LE" => ", [Text.Encoding]::Unicode",
        "UTF-16BE" => ", [Text.Encoding]::BigEndianUnicode",
        "WINDOWS-1252" => ", [Text.Encoding]::GetEncoding(1252)",
        _ => "",
    };
    format!("[IO.File]::WriteAllText({file}, [IO.File]::ReadAllText({file}{encoding}))")
}

/// The command of PowerShell that removes these characters from both ends of a text file, and line breaks and a byte order
/// mark with them.
#[must_use]
pub fn trim_file(path: &Path, characters: &BTreeSet<char>) -> String {
    let one = one_of(characters);
    edit(path, &format!(r"\A{one}+|({one}|\r|\n)+\z"))
}

/// The command of PowerShell that removes these characters from a text file.
#[must_use]
pub fn remove_from_file(path: &Path, characters: &BTreeSet<char>) -> String {
    edit(path, &one_of(characters))
}

/// Reading drops a byte order mark, and writing adds none.
fn edit(path: &Path, expression: &str) -> String {
    let file = in_quotes(path);
    format!("[IO.File]::WriteAllText({file}, ([IO.File]::ReadAllText({file}) -replace '{expression}'))")
}

/// A regular expression for one of these characters, by the numbers of their UTF-16.
fn one_of(characters: &BTreeSet<char>) -> String {
    let expression = |character: &char| {
        let mut units = [0; 2];
        let units = character.encode_utf16(&mut units).iter();
        let units: Vec<_> = units.map(|unit| format!("\\u{unit:04X}")).collect();
        units.concat()
    };
    let expressions: Vec<_> = characters.iter().map(expression).collect();
    format!("({})", expressions.join("|"))
}

/// A path as one word of PowerShell, in quotes.
fn in_quotes(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_or_quotes_is_one_word() {
        assert_eq!(quoted(Path::new(r"C:\a\b.toml")), r"C:\a\b.toml");
        assert_eq!(quoted(Path::new(r"C:\a b\it's")), r"'C:\a b\it''s'");
    }

    #[test]
    fn characters_are_named_by_their_utf_16() {
        let found = BTreeSet::from(['\u{200d}', '\u{e0001}']);
        assert_eq!(
            remove_from_file(Path::new(r"C:\a b"), &found),
            r"[IO.File]::WriteAllText('C:\a b', ([IO.File]::ReadAllText('C:\a b') -replace '(\u200D|\uDB40\uDC01)'))"
        );
    }
}
