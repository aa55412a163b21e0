//! Sends requests to an upstream over HTTP/1.1: name resolution, TCP, CONNECT, TLS and a connection pool.
//!
//! It knows hosts, and nothing of callers or tokens. Each worker has its own [`UpstreamClient`], so that no request
//! crosses a thread. A connection in use has no task of its own: awaiting the response, and then reading its body,
//! drives it.

mod client;
mod connection;
mod connector;
mod destination;
mod error;
mod html;
mod keep_alive;
mod pool;
mod probe;
mod refused_login;
mod resolve_error;
mod resolver;
mod response_body;
mod status;
mod tunnel;
mod way;

pub use self::client::UpstreamClient;
pub use self::connector::Network;
pub use self::error::{BrokenKind, ConnectError, ConnectErrorKind, SendError};
pub use self::html::{HTML_BEGINNING, declares_html, is_html};
pub use self::probe::probe;
pub use self::refused_login::RefusedLogin;
pub use self::resolve_error::{ResolveError, ResolveFailure};
pub use self::resolver::{Addresses, Resolver};
pub use self::response_body::{ResponseBody, ResponseBodyError};
pub use self::status::{ApiState, ApiStatus};
pub use self::way::Way;
