//! Sends requests to an upstream over HTTP/1.1: name resolution, TCP, CONNECT, TLS and a connection pool.
//!
//! It knows hosts, and nothing of callers or tokens. Each worker has its own [`UpstreamClient`], so that no request
//! crosses a thread. A connection in use has no task of its own: awaiting the response, and then reading its body,
//! drives it.

mod client;
mod connection;
mod connector;
mod error;
mod keep_alive;
mod pool;
mod resolver;
mod response_body;
mod tunnel;

pub use self::client::UpstreamClient;
pub use self::error::{ConnectError, SendError};
pub use self::resolver::{Addresses, ResolveError, Resolver};
pub use self::response_body::{ResponseBody, ResponseBodyError};
pub use self::tunnel::TunnelError;
