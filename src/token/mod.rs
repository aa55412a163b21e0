//! The token engine: fetches access tokens in the background and hands them to requests.
//!
//! [`cell()`] splits a token's place into a [`TokenWriter`], which the [`Refresher`] holds, and
//! [`TokenReader`]s, which requests hold. Nothing on the request path fetches anything.

mod cell;
mod endpoint;
mod refresher;
mod response;
mod schedule;
mod shape;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;

pub use self::cell::{LastError, TokenReader, TokenState, TokenStatus, TokenWriter, Unavailable, cell};
pub use self::endpoint::TokenEndpoint;
pub use self::refresher::{Refresher, TokenSource};
pub use self::response::{FetchError, FetchErrorKind, Grant};
pub use self::schedule::Schedule;

/// A bearer token as it goes upstream (RFC 6750 §2.1).
///
/// It has expired when the monotonic **or** the wall clock says so: the first stands still while a
/// machine sleeps, the second may be set back.
pub struct AccessToken {
    authorization: HeaderValue,
    lifetime: Duration,
    expires: Instant,
    expires_wall: SystemTime,
    serial: u64,
}

impl AccessToken {
    /// A token that was asked for at a moment (on both clocks) and lives from then on.
    fn new(grant: &Grant, asked: Instant, asked_wall: SystemTime, serial: u64) -> Self {
        Self {
            authorization: grant.authorization.clone(),
            lifetime: grant.lifetime,
            expires: asked + grant.lifetime,
            expires_wall: asked_wall + grant.lifetime,
            serial,
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

    /// When it expires, by the wall clock.
    #[must_use]
    pub fn expires_wall(&self) -> SystemTime {
        self.expires_wall
    }

    /// Its number in this process, from 1: what logs say in its place.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether either clock says that its time is over.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        Instant::now() >= self.expires || SystemTime::now() >= self.expires_wall
    }
}

/// Shows the number, never the token.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(#{})", self.serial)
    }
}
