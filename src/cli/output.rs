//! Standard output of the commands.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};

use crate::problems::{Problem, without_error_number};

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
