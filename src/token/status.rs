//! What the token engine is doing, as the status page, the metrics and the log name it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::AccessToken;
use super::clock::Moment;
use super::failure::{FetchError, FetchErrorKind};
use crate::problems::{Problem, token};

/// The state of an upstream's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// No token yet, and no failure.
    Starting,
    /// A valid token; its refresh is not due.
    Fresh,
    /// A valid token; its successor is being fetched.
    Refreshing,
    /// Fetches fail, or the upstream rejects new tokens; the newest token is still valid.
    Degraded,
    /// No valid token: it expired, or the first fetch failed.
    Expired,
    /// The credentials are missing or refused: an operator must act.
    Misconfigured,
}

impl TokenState {
    /// Every state's name.
    pub const NAMES: [&'static str; 6] = [
        "starting",
        "fresh",
        "refreshing",
        "degraded",
        "expired",
        "misconfigured",
    ];

    /// The name in status, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// `is_valid` is `None` without a token.
    fn of(is_resting: bool, error: Option<FetchErrorKind>, is_valid: Option<bool>) -> Self {
        match (error, is_valid) {
            (Some(kind), _) if kind.is_misconfiguration() => Self::Misconfigured,
            (Some(_), Some(true)) => Self::Degraded,
            (Some(_), None) | (_, Some(false)) => Self::Expired,
            (None, None) => Self::Starting,
            (None, Some(true)) if is_resting => Self::Fresh,
            (None, Some(true)) => Self::Refreshing,
        }
    }
}

/// The refresher's published status at one moment.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    /// The state.
    pub state: TokenState,
    /// When the state began.
    pub since: SystemTime,
    /// The last failure and when it happened, until a fetch succeeds.
    pub last_error: Option<(FetchError, SystemTime)>,
    /// What keeps the credentials from being used for the next token, and since when; the current one is valid.
    pub warning: Option<(Problem, SystemTime)>,
    /// The wait before the next fetch begins; `None` while one is in flight.
    pub next_attempt_in: Option<Duration>,
    /// When the newest token was first requested.
    pub obtained: Option<SystemTime>,
    /// When the newest token expires.
    pub expires: Option<SystemTime>,
    /// How far the identity service's clock was ahead of ours at its last reply (negative: behind), in seconds.
    pub skew_s: Option<i64>,
    /// A fetch is in flight after none failed, or a successor is due in a moment: a request may wait for a token.
    pub may_succeed_soon: bool,
    /// The refresher waits until the refresh is due.
    pub(super) is_resting: bool,
    pub(super) has_valid_token: bool,
    /// The code of the last problem, until a fetch succeeds.
    pub(super) last_problem: Option<&'static str>,
    /// By the token clock.
    pub(super) next_attempt: Option<Instant>,
}

/// There is no token to send; nothing was executed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no access token: {problem}")]
pub struct Unavailable {
    /// Why; holds no secret.
    pub problem: Problem,
    /// When the caller should try again.
    pub retry_after: Duration,
}

impl TokenStatus {
    /// The status before the first fetch.
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            state: TokenState::Starting,
            since: now,
            last_error: None,
            warning: None,
            next_attempt_in: None,
            obtained: None,
            expires: None,
            skew_s: None,
            may_succeed_soon: true,
            is_resting: false,
            has_valid_token: false,
            last_problem: None,
            next_attempt: None,
        }
    }

    /// The same, for tests of what shows a status.
    #[cfg(test)]
    pub(crate) fn for_tests(now: SystemTime) -> Self {
        Self::new(now)
    }

    /// The same status with the state that follows from the newest token `now`.
    pub(super) fn updated(mut self, now: Moment, newest: Option<&AccessToken>) -> Self {
        let is_valid = newest.map(|token| !token.is_expired(now));
        self.has_valid_token = is_valid == Some(true);
        let next = self.next_attempt;
        self.next_attempt_in = next.map(|at| at.saturating_duration_since(now.monotonic));
        self.expires = newest.map(|token| token.expires_wall(now));
        self.obtained = newest.and_then(|token| token.expires_wall(now).checked_sub(token.lifetime));
        let state = TokenState::of(self.is_resting, self.error_kind(), is_valid);
        if state != self.state {
            let expired = self.expires.filter(|_| state == TokenState::Expired);
            self.since = expired.unwrap_or(now.wall);
            self.state = state;
        }
        self
    }

    /// The response to a request that needs a token.
    pub(super) fn unavailable(&self) -> Unavailable {
        // While the refresher rests, its next attempt is a refresh; a request without a token wakes it earlier.
        let next = self.next_attempt_in.filter(|_| !self.is_resting);
        let problem = self.problem().cloned().unwrap_or_else(|| match next {
            Some(_) => token::not_renewed_yet(),
            None => token::not_yet(),
        });
        Unavailable {
            problem,
            retry_after: next.unwrap_or_default() + Duration::from_secs(1),
        }
    }

    /// The problem of the last failure, until a fetch succeeds.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        self.last_error.as_ref().map(|(error, _)| &error.problem)
    }

    /// The same, or else what the next fetch will meet.
    #[must_use]
    pub fn any_problem(&self) -> Option<&Problem> {
        let warning = self.warning.as_ref().map(|(problem, _)| problem);
        self.problem().or(warning)
    }

    pub(super) fn error_kind(&self) -> Option<FetchErrorKind> {
        self.last_error.as_ref().map(|(error, _)| error.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_follows_from_rest_error_and_token() {
        const VALID: Option<bool> = Some(true);
        const EXPIRED: Option<bool> = Some(false);
        let (down, refused) = (Some(FetchErrorKind::Network), Some(FetchErrorKind::Refused));
        for (is_resting, error, is_valid, state) in [
            (false, None, None, TokenState::Starting),
            (true, None, VALID, TokenState::Fresh),
            (false, None, VALID, TokenState::Refreshing),
            (false, down, VALID, TokenState::Degraded),
            (false, down, EXPIRED, TokenState::Expired),
            (false, down, None, TokenState::Expired),
            // After a suspend, until a request wakes the refresher.
            (true, None, EXPIRED, TokenState::Expired),
            (false, None, EXPIRED, TokenState::Expired),
            (false, refused, VALID, TokenState::Misconfigured),
            (false, refused, EXPIRED, TokenState::Misconfigured),
            (false, refused, None, TokenState::Misconfigured),
        ] {
            assert_eq!(
                TokenState::of(is_resting, error, is_valid),
                state,
                "{is_resting} {error:?} {is_valid:?}"
            );
        }
    }
}
