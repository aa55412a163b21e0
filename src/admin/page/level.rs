//! How well something is: a word's style, and the symbol beside it.

use std::fmt;

use askama::filters::HtmlSafe;

/// How well it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Well,
    Warning,
    Failing,
    Stopping,
}

impl Level {
    /// The name of its style and symbol.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Warning => "warning",
            Self::Failing => "error",
            Self::Stopping => "paused",
        }
    }

    /// The symbol, beside a word that says the same.
    pub(super) fn mark(self) -> Mark {
        Mark(self)
    }
}

/// A symbol. Is HTML.
pub(super) struct Mark(Level);

impl HtmlSafe for Mark {}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name();
        write!(
            f,
            "<svg class=\"mark\" aria-hidden=\"true\"><use href=\"#mark-{name}\"/></svg>"
        )
    }
}
