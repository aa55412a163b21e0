//! The token engine: fetches access tokens in the background and hands them to requests.
//!
//! [`cell()`] splits a token's place into a [`TokenWriter`], which the [`Refresher`] holds, and
//! [`TokenReader`]s, which requests hold. Nothing on the request path fetches anything.

mod cell;
mod clock;
mod endpoint;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod refresher;
mod reporter;
mod response;
mod schedule;
mod shape;
mod state;
mod wiped;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

pub use self::cell::{TokenReader, TokenWriter, cell};
pub use self::clock::{Clock, Moment};
pub use self::endpoint::TokenEndpoint;
pub use self::failure::{FetchError, FetchErrorKind};
pub use self::refresher::{Refresher, TokenSource};
pub use self::response::Grant;
pub use self::schedule::Schedule;
pub use self::state::{LastError, TokenState, TokenStatus, Unavailable};

/// A bearer token as it goes upstream (RFC 6750 §2.1).
///
/// It has expired when the monotonic **or** the wall clock says so: the first stands still while a
/// machine sleeps, the second may be set back.
pub struct AccessToken {
    authorization: HeaderValue,
    lifetime: Duration,
    expires: Moment,
    serial: u64,
}

impl AccessToken {
    /// A token that was asked for at a moment and lives from then on.
    fn new(grant: &Grant, asked: Moment, serial: u64) -> Self {
        Self {
            authorization: grant.authorization.clone(),
            lifetime: grant.lifetime,
            expires: asked.after(grant.lifetime),
            serial,
        }
    }

    /// The same token with another end: it was asked for again at a moment and lives so long from then on.
    fn repeated(&self, asked: Moment, left: Duration) -> Self {
        Self {
            authorization: self.authorization.clone(),
            expires: asked.after(left),
            ..*self
        }
    }

    /// The value of `Authorization`, marked sensitive.
    #[must_use]
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// How long it lives, counted from when it was asked for.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Its number in this process, from 1: what logs say in its place.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// When it expires, by each clock as that stood when it was asked for.
    fn expires(&self) -> Moment {
        self.expires
    }

    /// How long it still lives: as long as both clocks grant.
    fn left(&self, now: Moment) -> Duration {
        let by_wall = self.expires.wall.duration_since(now.wall).unwrap_or_default();
        self.expires
            .monotonic
            .saturating_duration_since(now.monotonic)
            .min(by_wall)
    }

    /// How long it still lives by the clock that is never set.
    fn left_by_monotonic(&self, now: Moment) -> Duration {
        self.expires.monotonic.saturating_duration_since(now.monotonic)
    }

    /// When it expires, by the wall clock as it stands now.
    fn expires_wall(&self, now: Moment) -> SystemTime {
        if self.is_expired(now) {
            self.expires.wall.min(now.wall)
        } else {
            now.wall + self.left(now)
        }
    }

    /// Whether either clock says that its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Moment) -> bool {
        self.left(now).is_zero()
    }
}

/// Shows the number, never the token.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(#{})", self.serial)
    }
}
