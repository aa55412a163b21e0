//! Why a request got no response, and whether the upstream may have executed it.

use std::io;

use super::resolver::ResolveError;
use super::tunnel::TunnelError;

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No byte of the request was sent: it was not executed.
    #[error("cannot connect to the upstream")]
    NotSent(#[from] ConnectError),
    /// The connection broke, or the response is not valid HTTP/1; the request may have been executed.
    #[error("the exchange with the upstream broke off")]
    Broken(#[source] hyper::Error),
    /// The upstream sent interim responses (1xx) without end; the request may have been executed.
    #[error("the upstream sent too many interim responses")]
    InterimResponses,
    /// The response has a transfer coding other than `chunked`; the request may have been executed.
    #[error("the upstream's response has a transfer coding other than chunked")]
    TransferCoding,
}

/// Why there is no connection to the upstream. No byte of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name of the upstream, or of the outbound proxy, has no known address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No connection within `timeout.connect`.
    #[error("no connection within timeout.connect")]
    Timeout,
    /// TCP failed, or the connection broke during the TLS handshake.
    #[error("cannot connect")]
    Io(#[source] io::Error),
    /// The outbound proxy opened no tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The connection was closed before a byte of the request was written.
    #[error("the upstream closed the connection")]
    Closed(#[source] hyper::Error),
}
