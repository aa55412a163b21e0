//! The system's own log of events, which only Windows has: on other systems, the service manager collects standard error.

use std::convert::Infallible;

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Information,
    /// The operator should look at it.
    Warning,
    /// It failed.
    Error,
}

/// The system's log: there is none.
#[derive(Debug)]
pub struct SystemLog(Infallible);

impl SystemLog {
    /// None.
    #[must_use]
    pub fn of_this_service() -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub fn report(&self, _level: Level, _text: &str) {
        match self.0 {}
    }
}
