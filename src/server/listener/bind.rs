//! Binds the sockets of a listener, before anything else starts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::Socket;

use crate::config::ListenAddress;
use crate::platform::{inherited_sockets, socket, unix_socket};
use crate::problems::{Problem, machine};

/// The bound sockets of one listener of the configuration. Clones share them.
#[derive(Clone)]
pub struct Listener {
    address: ListenAddress,
    pub(super) sockets: Vec<Arc<Socket>>,
    is_tls: bool,
}

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses.
    #[error("{}", self.problem("address"))]
    Refused {
        /// The address.
        address: ListenAddress,
        /// The system's reason.
        source: io::Error,
    },
    /// systemd passed no socket of that name.
    #[error("{}", self.problem("address"))]
    NotInherited(String),
    /// The group of a unix socket does not exist.
    #[error("there is no group {0:?} on this machine; use a group of /etc/group, or its number")]
    NoGroup(String),
}

impl BindError {
    /// The problem; `setting` is what sets the address.
    #[must_use]
    pub fn problem(&self, setting: &str) -> Problem {
        let (address, source) = match self {
            Self::NotInherited(name) => return machine::socket_not_inherited(name),
            Self::NoGroup(group) => return machine::listen_failed(group, self),
            Self::Refused { address, source } => (address, source),
        };
        match (address, source.kind()) {
            (_, io::ErrorKind::AddrInUse) => {
                let port = match address {
                    ListenAddress::Localhost(port) => Some(*port),
                    ListenAddress::Socket(address) => Some(address.port()),
                    _ => None,
                };
                let holder = port.and_then(socket::listening_program);
                let holder = holder.as_deref().unwrap_or(OTHER_PROGRAM);
                machine::port_taken(address, holder, setting)
            }
            (ListenAddress::Unix(_), io::ErrorKind::NotFound) => machine::unix_directory_missing(address),
            (ListenAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
                machine::unix_directory_not_writable(address)
            }
            (ListenAddress::Unix(_), io::ErrorKind::AlreadyExists) => {
                machine::unix_path_taken(address, setting)
            }
            (ListenAddress::Unix(_), io::ErrorKind::InvalidInput) => {
                machine::unix_path_too_long(address, setting)
            }
            (_, io::ErrorKind::PermissionDenied) => match socket::DENIED {
                Some(holder) => machine::port_taken(address, holder, setting),
                None => machine::port_privileged(address, setting),
            },
            (_, io::ErrorKind::AddrNotAvailable) => machine::address_foreign(address, setting),
            _ => machine::listen_failed(address, source),
        }
    }

    /// Whether another program listens on the address.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

const OTHER_PROGRAM: &str = "another program, or by another [[listener]] of this configuration";

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
            ListenAddress::Localhost(port) => bind_localhost(*port, socket::listen),
            ListenAddress::Unix(path) => {
                let group = group_id(group)?;
                unix_socket::listen(path, mode, group).map(|socket| vec![socket])
            }
            ListenAddress::Systemd(name) => inherited_sockets::named(name),
        };
        let refused = |source| BindError::Refused {
            address: address.clone(),
            source,
        };
        let sockets = bound.map_err(refused)?;
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

    /// Whether [`Self::bind`] would succeed now. It does not listen, so that no connection is accepted. A socket that
    /// systemd holds is not checked.
    pub fn check(address: &ListenAddress) -> Result<(), BindError> {
        let checked = match address {
            // The system chooses a free one.
            ListenAddress::Localhost(0) | ListenAddress::Systemd(_) => Ok(()),
            ListenAddress::Localhost(port) => bind_localhost(*port, socket::bind).map(|_| ()),
            ListenAddress::Socket(address) => socket::bind(*address).map(|_| ()),
            ListenAddress::Unix(path) => unix_socket::check(path),
        };
        checked.map_err(|source| BindError::Refused {
            address: address.clone(),
            source,
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

    /// Where it listens: each bound address, and the path of a unix socket.
    #[must_use]
    pub fn bound(&self) -> Vec<String> {
        let bound = |socket: &Arc<Socket>| match ip_address(socket) {
            Some(address) => Some(address.to_string()),
            None => unix_socket::path(socket).map(|path| ListenAddress::Unix(path).to_string()),
        };
        self.sockets.iter().filter_map(bound).collect()
    }

    /// The address as configured, by which log and status name the listener. Where that does not say where it listens, as
    /// `127.0.0.1:0` and `systemd:http`, the bound addresses follow in parentheses.
    #[must_use]
    pub fn label(&self) -> String {
        let is_chosen_elsewhere = self.is_inherited() || self.address.is_any_port();
        match self.bound().join(", ") {
            bound if is_chosen_elsewhere && !bound.is_empty() => format!("{} ({bound})", self.address),
            _ => self.address.to_string(),
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

fn bind_localhost(port: u16, bind: impl Fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Vec<Socket>> {
    let first = bind((Ipv4Addr::LOCALHOST, port).into())?;
    let port = ip_address(&first).map_or(port, |address| address.port());
    let mut sockets = vec![first];
    match bind((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(second) => sockets.push(second),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => tracing::debug!(%error, "this machine has no IPv6 loopback address"),
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_the_system_has_a_problem_of_its_own() {
        for (address, kind, code) in [
            (
                "127.0.0.1:80",
                io::ErrorKind::PermissionDenied,
                socket::DENIED.map_or("port-privileged", |_| "port-taken"),
            ),
            ("127.0.0.1:8080", io::ErrorKind::AddrInUse, "port-taken"),
            (
                "192.0.2.1:8080",
                io::ErrorKind::AddrNotAvailable,
                "address-foreign",
            ),
            ("127.0.0.1:8080", io::ErrorKind::Other, "listen-failed"),
            ("unix:/a/b", io::ErrorKind::AddrInUse, "port-taken"),
            ("unix:/a/b", io::ErrorKind::NotFound, "unix-directory-missing"),
            (
                "unix:/a/b",
                io::ErrorKind::PermissionDenied,
                "unix-directory-not-writable",
            ),
            ("unix:/a/b", io::ErrorKind::AlreadyExists, "unix-path-taken"),
            ("unix:/a/b", io::ErrorKind::InvalidInput, "unix-path-too-long"),
        ] {
            let error = BindError::Refused {
                address: address.parse().unwrap(),
                source: kind.into(),
            };
            assert_eq!(error.problem("address").code(), code, "{address} {kind}");
        }
        let missing = BindError::NotInherited("http".to_owned());
        assert_eq!(missing.problem("address").code(), "socket-not-inherited");
    }

    #[test]
    fn a_label_has_the_configured_address_and_the_bound_ones_where_the_system_chose_them() {
        let bind = |address: &str| Listener::bind(&address.parse().unwrap(), 0o600, None, false).unwrap();
        let any = bind("127.0.0.1:0");
        let bound = any.addresses()[0];
        assert_eq!(any.bound(), [bound.to_string()]);
        assert_eq!(any.label(), format!("127.0.0.1:0 ({bound})"));
        let named = Listener {
            address: ListenAddress::Socket(bound),
            ..any
        };
        assert_eq!(named.label(), bound.to_string());

        let both = bind("localhost:0");
        let addresses = both.addresses();
        assert_eq!(addresses[0].ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(both.bound().len(), addresses.len());
        assert_eq!(both.label(), format!("localhost:0 ({})", both.bound().join(", ")));
        let address = ListenAddress::Localhost(addresses[0].port());
        let name = address.to_string();
        assert_eq!(Listener { address, ..both }.label(), name);
    }

    #[cfg(unix)]
    #[test]
    fn the_bound_address_of_a_unix_socket_is_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let address = ListenAddress::Unix(directory.path().join("socket"));
        let listener = Listener::bind(&address, 0o600, None, false).unwrap();
        assert_eq!(listener.bound(), [address.to_string()]);
        assert_eq!(listener.label(), address.to_string());
    }

    #[cfg(unix)]
    #[test]
    fn a_check_finds_what_a_bind_would_and_creates_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(108));
        let address = ListenAddress::Unix(long);
        let error = Listener::check(&address).unwrap_err();
        assert_eq!(error.problem("address").code(), "unix-path-too-long");
        let address = ListenAddress::Unix(directory.path().join("socket"));
        Listener::check(&address).unwrap();
        let listener = Listener::bind(&address, 0o600, None, false).unwrap();
        assert!(Listener::check(&address).unwrap_err().is_in_use());
        drop(listener);
        Listener::check(&address).unwrap();
    }
}
