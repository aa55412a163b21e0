//! Why a name has no known address, as far as the C library says.

use std::io;
use std::time::Duration;

/// A name has no known address.
#[derive(Debug, thiserror::Error)]
#[error("{} {name}", reason.phrase())]
pub struct ResolveError {
    /// The name.
    pub name: String,
    /// Why.
    pub reason: ResolveFailure,
}

/// Why a name has no known address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveFailure {
    /// No name server has responded. The lookup may still go on.
    Silent,
    /// The name does not exist, or has no address.
    NotFound,
    /// A name server reported a failure.
    Failed,
}

impl ResolveFailure {
    fn phrase(self) -> &'static str {
        match self {
            Self::Silent => "no name server responds to the lookup of",
            Self::NotFound => "there is no name",
            Self::Failed => "the name server reports a failure for",
        }
    }

    /// The reason of a failed lookup: the C library says it by text alone, and each library by its own.
    pub(super) fn of(error: &io::Error, took: Duration) -> Self {
        const NOT_FOUND: [&str; 5] = [
            "Name or service not known",
            "No address associated with hostname",
            "Name does not resolve",
            "Name has no usable address",
            NO_ADDRESS,
        ];
        let text = error.to_string();
        if NOT_FOUND.iter().any(|known| text.contains(known)) {
            return Self::NotFound;
        }
        // A name server that responds does so at once.
        if took >= SLOW { Self::Silent } else { Self::Failed }
    }
}

pub(super) const NO_ADDRESS: &str = "the name has no address";
/// A lookup that takes longer is logged. A name server that responds does so sooner.
pub(super) const SLOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failure_follows_from_the_text_of_either_c_library_and_from_the_time_it_took() {
        let (at_once, late) = (Duration::from_millis(20), Duration::from_secs(5));
        for (text, took, reason) in [
            (
                "failed to lookup address information: Name or service not known",
                late,
                ResolveFailure::NotFound,
            ),
            (
                "failed to lookup address information: Name does not resolve",
                at_once,
                ResolveFailure::NotFound,
            ),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                late,
                ResolveFailure::Silent,
            ),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                at_once,
                ResolveFailure::Failed,
            ),
            (
                "failed to lookup address information: Try again",
                late,
                ResolveFailure::Silent,
            ),
        ] {
            assert_eq!(
                ResolveFailure::of(&io::Error::other(text), took),
                reason,
                "{text} {took:?}"
            );
        }
    }
}
