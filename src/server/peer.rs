//! Who is at the other end of a connection, as the socket knows it.

use std::net::SocketAddr;

/// The other end of a caller's connection; an extension of each of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address; nothing for a unix socket.
    pub address: Option<SocketAddr>,
    /// Its user id, for a unix socket.
    pub user: Option<u32>,
    /// Whether it showed a certificate that the listener asked for.
    pub has_certificate: bool,
}
