//! The life of a token as a line: obtained, now, refresh due, expiry.

use std::time::{Duration, SystemTime};

use crate::token::TokenStatus;

/// Positions from 0 (obtained) to [`WIDTH`] (expiry).
pub(super) struct Timeline {
    pub(super) obtained: SystemTime,
    pub(super) expires: SystemTime,
    /// The next fetch, unless it is after the expiry.
    pub(super) refresh: Option<(SystemTime, u64)>,
    pub(super) now: u64,
    pub(super) is_expired: bool,
}

/// The width of a line. Coarse, so that a line changes seldom enough.
pub(super) const WIDTH: u64 = 200;

impl Timeline {
    /// The line of a token; `None` without one.
    pub(super) fn of(token: &TokenStatus, now: SystemTime) -> Option<Self> {
        let (obtained, expires) = (token.obtained?, token.expires?);
        let place = |at: SystemTime| place(at, obtained, expires);
        let next = token.next_attempt_in.map(|wait| now + wait);
        Some(Self {
            obtained,
            expires,
            refresh: next.filter(|at| *at < expires).map(|at| (at, place(at))),
            now: place(now),
            is_expired: expires <= now,
        })
    }
}

fn place(at: SystemTime, start: SystemTime, end: SystemTime) -> u64 {
    let from_start = |at: SystemTime| at.duration_since(start).unwrap_or_default();
    let whole = from_start(end).max(Duration::from_millis(1));
    let share = from_start(at).min(whole).as_millis() * u128::from(WIDTH) / whole.as_millis();
    u64::try_from(share).unwrap_or(WIDTH)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_time_has_its_place_between_start_and_end() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, expected) in [(0, 0), (100, 0), (150, 100), (200, 200), (900, 200)] {
            assert_eq!(place(at(seconds), at(100), at(200)), expected);
        }
        assert_eq!(place(at(5), at(5), at(5)), 0);
    }
}
