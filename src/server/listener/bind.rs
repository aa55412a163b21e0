//! Binds the sockets of a listener, before anything else starts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::Socket;

use crate::config::ListenAddress;
use crate::platform::{inherited_sockets, socket, unix_socket};

/// The bound sockets of one listener of the configuration. Clones share them.
#[derive(Clone)]
pub struct Listener {
    address: ListenAddress,
    pub(super) sockets: Vec<Arc<Socket>>,
    is_tls: bool,
}

/// Why a listener cannot listen; the text names the fix.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket listens on the address.
    #[error("{address} is in use by another program, or by another listener of this one")]
    InUse {
        /// The address.
        address: String,
    },
    /// The system refuses.
    #[error("cannot listen on {address}{fix}")]
    Refused {
        /// The address.
        address: String,
        /// The fix, if it is known.
        fix: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// systemd passed no socket of that name.
    #[error("systemd passed no socket named {0:?}; set FileDescriptorName={0} in the .socket unit")]
    NotInherited(String),
    /// The group of a unix socket does not exist.
    #[error("there is no group {0:?} on this machine; use a group of /etc/group, or its number")]
    NoGroup(String),
}

/// The id of a group; without a name, files keep the group of the process.
pub fn group_id(group: Option<&str>) -> Result<Option<u32>, BindError> {
    let find = |group| unix_socket::group_id(group).ok_or_else(|| BindError::NoGroup(group.to_owned()));
    group.map(find).transpose()
}

impl Listener {
    /// Binds; `localhost` is 127.0.0.1, and ::1 if the machine has it. `mode` and `group` are those of a unix socket's
    /// file.
    pub fn bind(
        address: &ListenAddress,
        mode: u32,
        group: Option<&str>,
        is_tls: bool,
    ) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Socket(address) => socket::listen(*address).map(|socket| vec![socket]),
            ListenAddress::Localhost(port) => localhost(*port),
            ListenAddress::Unix(path) => {
                let group = group_id(group)?;
                unix_socket::listen(path, mode, group).map(|socket| vec![socket])
            }
            ListenAddress::Systemd(name) => inherited_sockets::named(name),
        };
        let sockets = bound.map_err(|source| refused(address, source))?;
        if let ListenAddress::Systemd(name) = address
            && sockets.is_empty()
        {
            return Err(BindError::NotInherited(name.clone()));
        }
        Ok(Self {
            address: address.clone(),
            sockets: sockets.into_iter().map(Arc::new).collect(),
            is_tls,
        })
    }

    /// The bound IP addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| ip_address(socket))
            .collect()
    }

    /// The address for people: as configured, with the bound port.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.address, self.addresses().first()) {
            (ListenAddress::Localhost(_), Some(address)) => format!("localhost:{}", address.port()),
            (ListenAddress::Socket(_) | ListenAddress::Systemd(_), Some(address)) => address.to_string(),
            (address, _) => address.to_string(),
        }
    }

    /// The address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            ListenAddress::Unix(_) => self.name(),
            _ if self.is_tls => format!("https://{}", self.name()),
            _ => format!("http://{}", self.name()),
        }
    }

    /// Whether only processes of this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        self.addresses().iter().all(is_loopback)
    }

    /// Whether the sockets outlive the process, so that the next process serves the connections that wait.
    pub(super) fn is_inherited(&self) -> bool {
        matches!(self.address, ListenAddress::Systemd(_))
    }
}

fn ip_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn localhost(port: u16) -> io::Result<Vec<Socket>> {
    let first = socket::listen((Ipv4Addr::LOCALHOST, port).into())?;
    let port = ip_address(&first).map_or(port, |address| address.port());
    let mut sockets = vec![first];
    match socket::listen((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(second) => sockets.push(second),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => tracing::debug!(%error, "this machine has no IPv6 loopback address"),
    }
    Ok(sockets)
}

fn refused(address: &ListenAddress, source: io::Error) -> BindError {
    let fix = match (address, source.kind()) {
        (_, io::ErrorKind::AddrInUse) => {
            return BindError::InUse {
                address: address.to_string(),
            };
        }
        (ListenAddress::Unix(_), io::ErrorKind::NotFound) => " (create its directory)",
        (ListenAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
            " (make its directory writable for bondgate's user)"
        }
        (_, io::ErrorKind::PermissionDenied) => {
            " (ports below 1024 need privileges: choose a higher one, or let systemd listen)"
        }
        (_, io::ErrorKind::AddrNotAvailable) => " (this machine has no such address: use one that it has)",
        _ => "",
    };
    BindError::Refused {
        address: address.to_string(),
        fix,
        source,
    }
}
