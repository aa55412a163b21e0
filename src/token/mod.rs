//! The token engine: fetches access tokens in the background and hands them to requests.
//!
//! [`Refresher::new`] returns an upstream's [`TokenReader`], which requests read, and its [`Refresher`], whose
//! [`run`](Refresher::run) the daemon spawns. Requests never fetch a token themselves.

mod access_token;
mod cell;
mod clock;
mod endpoint;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod refresher;
mod refusal;
mod response;
pub mod schedule;
mod secret_encoding;
mod shapes;
mod status;

pub use self::access_token::AccessToken;
pub use self::cell::TokenReader;
pub use self::clock::{Clock, Moment};
pub use self::endpoint::{TokenEndpoint, http_client};
pub use self::failure::{FetchError, FetchErrorKind};
pub use self::refresher::{Refresher, TokenSource};
pub use self::response::Grant;
pub use self::secret_encoding::SecretMatcher;
pub use self::status::{TokenState, TokenStatus, Unavailable};
