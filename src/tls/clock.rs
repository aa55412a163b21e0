//! Recognizes a wrong clock: certificates and tokens are judged by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::problems::{Problem, tls as problems};

/// When this version was written, in seconds since 1970. A build may set `BONDGATE_COMMIT_TIME` to a later date:
/// not `SOURCE_DATE_EPOCH`, a change of which would compile C code again.
const WRITTEN: u64 = 1_795_824_000;

/// The problem of a clock that is earlier than this program.
#[must_use]
pub fn clock_problem(now: SystemTime) -> Option<Problem> {
    let built = option_env!("BONDGATE_COMMIT_TIME").and_then(|seconds| seconds.parse().ok());
    let built = UNIX_EPOCH + Duration::from_secs(built.unwrap_or(WRITTEN).max(WRITTEN));
    (now < built).then(|| problems::clock_wrong(date(now), date(built)))
}

/// A time in UTC, as people write it.
#[must_use]
pub fn date(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_earlier_than_the_program_is_wrong() {
        assert!(clock_problem(SystemTime::now()).is_none());
        let problem = clock_problem(UNIX_EPOCH + Duration::from_secs(WRITTEN - 1)).unwrap();
        assert_eq!(problem.code(), "clock-wrong");
        assert!(problem.cause().contains("2026-11-27 23:59:59 UTC"), "{problem}");
    }
}
