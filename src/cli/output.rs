//! Standard output of the commands.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use crate::problems::{Problem, without_error_number};
use crate::telemetry::is_obeyed;

/// Prints a line. A reader that closes its end early, as `head` does, changes nothing about a command and its exit code.
pub(super) fn line(text: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let text = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), text))
        }
        Ok(()) => Ok(()),
    }
}

/// A line of a foreign text in which what a terminal would obey is escaped as in JSON.
pub(super) fn escaped(line: &str) -> String {
    if !line.contains(is_obeyed) {
        return line.to_owned();
    }
    let mut plain = String::with_capacity(line.len());
    for character in line.chars() {
        if is_obeyed(character) && character != '\t' {
            // Writing to memory cannot fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(character));
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Reports on standard error why a command fails.
pub(super) fn error(text: impl Display) {
    let text = without_error_number(text.to_string());
    let _ = writeln!(io::stderr(), "bondgate: {text}");
}

/// Reports a problem on standard error.
pub(super) fn problem(problem: &Problem) {
    error(format_args!("{problem} [{}]", problem.code()));
}

/// Reports on standard error a problem that does not make a command fail.
pub(super) fn warning(problem: &Problem) {
    let _ = writeln!(io::stderr(), "warning: {problem} [{}]", problem.code());
}

/// How a step went: a coloured sign on a terminal, a word elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl Mark {
    /// The word, in lower case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, colour) = match self {
            Self::Ok => ("√", 32),
            Self::Warning => ("‼", 33),
            Self::Failed => ("×", 31),
            Self::Skipped => ("–", 2),
        };
        match (io::stdout().is_terminal(), has_colour()) {
            (false, _) if *self == Self::Failed => f.write_str("FAILED"),
            (false, _) => f.write_str(self.name()),
            (true, false) => f.write_str(sign),
            (true, true) => write!(f, "\x1b[{colour}m{sign}\x1b[0m"),
        }
    }
}

/// <https://no-color.org>
fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (line, plain) in [
            ("\x1b[2m a", "\\u001b[2m a"),
            ("a\tb\x07\x1b]0;title\r", "a\tb\\u0007\\u001b]0;title\\u000d"),
            ("\u{9b}2J", "\\u009b2J"),
            ("a\u{202e}b", "a\\u202eb"),
            ("\u{e4} plain", "\u{e4} plain"),
        ] {
            assert_eq!(escaped(line), plain);
        }
    }
}
