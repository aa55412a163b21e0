//! One access token: its header value, its expiry, its serial number.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::clock::Moment;
use super::response::Grant;

/// A bearer token (RFC 6750 §2.1).
///
/// It expires by the monotonic **or** the wall clock, whichever is first: the monotonic clock stands still while the
/// machine sleeps, the wall clock may be set back.
#[derive(Debug)]
pub struct AccessToken {
    authorization: HeaderValue,
    /// Its whole lifetime, from its first request.
    pub(super) lifetime: Duration,
    /// When it expires, by both clocks as they stood when it was requested.
    pub(super) expires: Moment,
    /// Its number in this process, from 1. Logs show it in place of the token.
    pub(super) serial: u64,
}

impl AccessToken {
    /// A token granted for a request that was sent at `requested`.
    pub(super) fn new(grant: &Grant, requested: Moment, serial: u64) -> Self {
        Self {
            authorization: grant.authorization.clone(),
            lifetime: grant.lifetime,
            expires: requested.after(grant.lifetime),
            serial,
        }
    }

    /// The same token, with the expiry of a later reply.
    pub(super) fn repeated(&self, requested: Moment, remaining: Duration) -> Self {
        Self {
            authorization: self.authorization.clone(),
            expires: requested.after(remaining),
            ..*self
        }
    }

    /// The value of `Authorization`, marked sensitive.
    #[must_use]
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Whether it has expired by either clock.
    #[must_use]
    pub fn is_expired(&self, now: Moment) -> bool {
        self.remaining(now).is_zero()
    }

    /// Its remaining lifetime: the shorter one of both clocks.
    pub(super) fn remaining(&self, now: Moment) -> Duration {
        self.expires_wall(now)
            .duration_since(now.wall)
            .unwrap_or_default()
    }

    /// Its remaining lifetime by the monotonic clock alone.
    pub(super) fn monotonic_left(&self, now: Moment) -> Duration {
        self.expires.monotonic.saturating_duration_since(now.monotonic)
    }

    /// When it expires, in today's wall clock time.
    pub(super) fn expires_wall(&self, now: Moment) -> SystemTime {
        self.expires.wall.min(now.wall + self.monotonic_left(now))
    }
}
