//! Why a fetch failed: a kind, which decides when to try again, and a problem, which says what to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

use crate::problems::Problem;

/// Why a fetch failed. Displays the problem, which holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct FetchError {
    /// The kind of failure.
    pub kind: FetchErrorKind,
    /// What failed, and what to do.
    pub problem: Problem,
    /// The wait that the server asked for, or zero.
    pub retry_after: Duration,
    /// The server's clock, if it responded.
    pub server_time: Option<SystemTime>,
}

/// Kinds of failure: transient ones, misconfigurations, and tokens that are rejected or expire at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The identity service cannot be reached, or the connection broke.
    Network,
    /// It took too long.
    Timeout,
    /// It responded 408, 425 or 5xx.
    Unavailable,
    /// It responded 429.
    RateLimited,
    /// Its response is no token response.
    Malformed,
    /// It refused the credentials.
    Refused,
    /// The credentials cannot be read on this machine.
    Secret,
    /// The upstream rejects the tokens that it issues.
    Rejected,
    /// Tokens expire as soon as they are issued: this machine's clock jumps, or their lifetime is a few seconds.
    Clock,
}

impl FetchErrorKind {
    /// The name in status, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Secret => "secret",
            Self::Rejected => "rejected",
            Self::Clock => "clock",
        }
    }

    /// Whether an operator must correct something first.
    #[must_use]
    pub fn is_misconfiguration(self) -> bool {
        matches!(self, Self::Refused | Self::Secret)
    }

    /// Whether fetches succeed, and the tokens that they return do not last.
    pub(super) fn concerns_tokens(self) -> bool {
        matches!(self, Self::Rejected | Self::Clock)
    }

    /// An error of this kind.
    pub(super) fn error(self, problem: Problem) -> FetchError {
        FetchError {
            kind: self,
            problem,
            retry_after: Duration::ZERO,
            server_time: None,
        }
    }
}

/// The wait that the server asks for: `Retry-After` (seconds or a date) or Okta's `X-Rate-Limit-Reset` (UTC epoch
/// seconds). `now` is the server's time, if it states it.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |value: Option<&HeaderValue>| Some(value?.to_str().ok()?.trim().to_owned());
    let until = if let Some(value) = text(headers.get(RETRY_AFTER)) {
        match value.parse() {
            Ok(seconds) => return Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(&value).ok()?,
        }
    } else {
        let reset: u64 = text(headers.get("x-rate-limit-reset"))?.parse().ok()?;
        UNIX_EPOCH + Duration::from_secs(reset.min(u64::from(u32::MAX)))
    };
    until.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_seconds_a_date_or_a_rate_limit_reset() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let wait = |name: &'static str, value: &'static str| {
            retry_after(
                &HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]),
                now,
            )
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(
            wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            wait("x-rate-limit-reset", "784111807"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(wait("x-rate-limit-reset", "1"), None);
    }
}
