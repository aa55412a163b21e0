//! The other end of a caller's connection, as the socket reports it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::limits::CallerId;
use crate::platform::socket::Accepted;

/// The other end of a caller's connection; an extension of each of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `None` for a unix socket.
    pub address: Option<SocketAddr>,
    /// The same without the port, for the log line of each request.
    pub address_text: Option<Arc<str>>,
    /// Its user id, for a unix socket.
    pub user: Option<u32>,
}

impl Peer {
    /// The other end of an accepted connection.
    pub(super) fn of(accepted: &Accepted) -> Self {
        let (address, user) = match accepted {
            Accepted::Tcp(_, from) => (Some(*from), None),
            Accepted::Unix(_, user) => (None, *user),
        };
        let text = |address: SocketAddr| address.ip().to_canonical().to_string().into();
        Self {
            address,
            address_text: address.map(text),
            user,
        }
    }

    /// Its address without the port, or its user on a unix socket, for people.
    pub(super) fn text(&self) -> Option<Arc<str>> {
        let user = || self.user.map(|user| format!("user {user}").into());
        self.address_text.clone().or_else(user)
    }

    /// The caller that its connections count for.
    #[must_use]
    pub fn id(&self) -> Option<CallerId> {
        let address = self.address.map(|address| CallerId::at(address.ip()));
        address.or(self.user.map(CallerId::User))
    }
}
