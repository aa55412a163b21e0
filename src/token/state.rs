//! What the token engine is doing, as status, metrics and logs name it: derived from three facts.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::FetchErrorKind;

/// What the token engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// No token yet.
    Starting,
    /// A good token, and nothing to do.
    Fresh,
    /// A good token, and its successor is being fetched.
    Refreshing,
    /// Fetching fails, or the upstream refuses what is fetched; the newest token still serves.
    Degraded,
    /// No usable token: its time is over, or the first could not be fetched.
    Expired,
    /// The credentials are missing or refused: somebody has to mend something.
    Misconfigured,
}

/// What the refresher does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It waits for the token's time.
    Resting,
    /// A token request is under way.
    Fetching,
    /// It waits before it tries again.
    BackingOff,
}

/// What there is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing yet.
    Nothing,
    /// A token that has not expired.
    Good,
    /// A token that has.
    Expired,
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

    /// The state that follows from what the refresher does, what went wrong last, and what there is
    /// to send.
    pub(super) fn of(activity: Activity, error: Option<FetchErrorKind>, holding: Holding) -> Self {
        match (error, holding) {
            (Some(kind), _) if kind.is_misconfiguration() => Self::Misconfigured,
            (Some(_), Holding::Good) => Self::Degraded,
            (Some(_), Holding::Nothing) | (_, Holding::Expired) => Self::Expired,
            (None, Holding::Nothing) => Self::Starting,
            (None, Holding::Good) if activity == Activity::Resting => Self::Fresh,
            (None, Holding::Good) => Self::Refreshing,
        }
    }
}

/// What the refresher last said of itself, seen at one moment.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    /// What it is doing.
    pub state: TokenState,
    /// Since when.
    pub since: SystemTime,
    /// The last failure, until a fetch succeeds.
    pub last_error: Option<LastError>,
    /// When the next fetch begins, by the token clock; nothing while one runs.
    pub next_attempt: Option<Instant>,
    /// When the newest token expires.
    pub expires: Option<SystemTime>,
    /// How far the identity service's clock is ahead of ours (negative: behind), in seconds, as of its
    /// last answer.
    pub skew_s: Option<i64>,
    /// A fetch runs, and the one before it did not fail, or a successor is due in a moment: a request may wait for it.
    pub is_hopeful: bool,
    pub(super) activity: Activity,
    /// There was a token to send.
    pub(super) is_serving: bool,
}

/// A failed fetch, as status shows it.
#[derive(Clone, Debug)]
pub struct LastError {
    /// Its kind.
    pub kind: FetchErrorKind,
    /// What happened and how to mend it; holds no secret.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// There is no token to send; nothing was executed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no access token: {reason}")]
pub struct Unavailable {
    /// Why, for the caller; holds no secret.
    pub reason: String,
    /// When to come again.
    pub retry_after: Duration,
}

impl TokenStatus {
    /// Before anything was done.
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            state: TokenState::Starting,
            since: now,
            last_error: None,
            next_attempt: None,
            expires: None,
            skew_s: None,
            is_hopeful: true,
            activity: Activity::Fetching,
            is_serving: false,
        }
    }

    pub(super) fn unavailable(&self, now: Instant) -> Unavailable {
        // While it rests, the next attempt is a refresh, and who finds no token has woken it.
        let next = self.next_attempt.filter(|_| self.activity != Activity::Resting);
        let until_next = next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let reason = self.message().unwrap_or(match next {
            Some(_) => "the identity service still returns the token before, which is over or was refused",
            None => "the identity service has not answered yet",
        });
        Unavailable {
            reason: reason.to_owned(),
            retry_after: until_next + Duration::from_secs(1),
        }
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.last_error.as_ref().map(|error| error.message.as_str())
    }

    pub(super) fn error_kind(&self) -> Option<FetchErrorKind> {
        self.last_error.as_ref().map(|error| error.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_follows_from_its_facts() {
        use Activity::{BackingOff, Fetching, Resting};
        use Holding::{Expired, Good, Nothing};
        let (down, refused) = (Some(FetchErrorKind::Network), Some(FetchErrorKind::Refused));
        for (activity, error, holding, state) in [
            (Fetching, None, Nothing, TokenState::Starting),
            (Resting, None, Good, TokenState::Fresh),
            (Fetching, None, Good, TokenState::Refreshing),
            (BackingOff, down, Good, TokenState::Degraded),
            (Fetching, down, Good, TokenState::Degraded),
            (BackingOff, down, Expired, TokenState::Expired),
            (Fetching, down, Expired, TokenState::Expired),
            (BackingOff, down, Nothing, TokenState::Expired),
            // After a suspend, until somebody asks.
            (Resting, None, Expired, TokenState::Expired),
            (Fetching, None, Expired, TokenState::Expired),
            (BackingOff, refused, Good, TokenState::Misconfigured),
            (BackingOff, refused, Expired, TokenState::Misconfigured),
            (Fetching, refused, Nothing, TokenState::Misconfigured),
        ] {
            assert_eq!(
                TokenState::of(activity, error, holding),
                state,
                "{activity:?} {error:?} {holding:?}"
            );
        }
    }
}
