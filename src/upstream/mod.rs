//! Sends requests to an upstream over HTTP/1.1: name resolution, TCP, CONNECT, TLS and a connection pool.
//!
//! It knows hosts, and nothing of callers or tokens. Each worker has its own [`UpstreamClient`], so that a request
//! never crosses a thread. A pooled connection has no task of its own either: whoever awaits the response, and then
//! whoever reads its body, drives the connection.

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
