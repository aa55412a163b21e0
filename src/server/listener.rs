//! Listening sockets, bound before anything else starts, and the connections that come in by them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use rustix::fs::Mode;
use rustix::process::umask;
use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::stall::Watched;
use super::{inherited, socket};
use crate::config::ListenAddress;

/// Sockets that listen, for one listener of the configuration.
pub struct Listener {
    address: ListenAddress,
    sockets: Vec<Listening>,
    tls: Option<SharedTls>,
}

/// The TLS settings of a listener, for each handshake to come: they may be replaced at any time.
pub type SharedTls = Arc<ArcSwap<ServerConfig>>;

/// One listening socket.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Why a listener cannot listen; the text names the mend.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{address} is taken by another program, or by another listener of this one")]
    InUse {
        /// The address.
        address: String,
    },
    /// The system refuses.
    #[error("cannot listen on {address}{mend}")]
    Refused {
        /// The address.
        address: String,
        /// What to do about it, where that is known.
        mend: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// systemd handed no socket of that name over.
    #[error("systemd handed no socket named {0:?} over; set FileDescriptorName={0} in the .socket unit")]
    NotInherited(String),
    /// The group of a unix socket is not there.
    #[error("there is no group {0:?} on this machine; write one of /etc/group, or its number")]
    NoGroup(String),
}

/// Who may use a unix socket's file.
#[derive(Clone, Debug)]
pub struct UnixAccess {
    /// The file mode.
    pub mode: u32,
    /// The group, where it is another than the process's own.
    pub group: Option<String>,
}

impl UnixAccess {
    /// The id of the group, looked up.
    pub fn group_id(&self) -> Result<Option<u32>, BindError> {
        self.group.as_ref().map(|name| group_id(name)).transpose()
    }
}

/// How many connections wait to be accepted.
pub(super) const BACKLOG: i32 = 4096;

impl Listener {
    /// Binds; `localhost` takes 127.0.0.1, and ::1 where the machine has it.
    pub fn bind(
        address: &ListenAddress,
        unix: &UnixAccess,
        tls: Option<ServerConfig>,
    ) -> Result<Self, BindError> {
        let told = |source: io::Error| {
            let text = address.to_string();
            match source.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse { address: text },
                kind => BindError::Refused {
                    address: text,
                    mend: mend(address, kind),
                    source,
                },
            }
        };
        let sockets = match address {
            ListenAddress::Socket(socket) => vec![Listening::Tcp(tcp(*socket).map_err(told)?)],
            ListenAddress::Localhost(port) => localhost(*port).map_err(told)?,
            ListenAddress::Unix(path) => {
                let group = unix.group_id()?;
                vec![Listening::Unix(
                    unix_socket(path, unix.mode, group).map_err(told)?,
                )]
            }
            ListenAddress::Systemd(name) => {
                let found = inherited::sockets(name).map_err(told)?;
                if found.is_empty() {
                    return Err(BindError::NotInherited(name.clone()));
                }
                found
            }
        };
        Ok(Self {
            address: address.clone(),
            sockets,
            tls: tls.map(|tls| Arc::new(ArcSwap::from_pointee(tls))),
        })
    }

    /// The addresses in force, with the ports that the system picked.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let local = |socket: &Listening| match socket {
            Listening::Tcp(listener) => listener.local_addr().ok(),
            Listening::Unix(_) => None,
        };
        self.sockets.iter().filter_map(local).collect()
    }

    /// Where it listens, for people: as configured, with the port in force.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.address, self.addresses().first()) {
            (ListenAddress::Localhost(_), Some(address)) => format!("localhost:{}", address.port()),
            (ListenAddress::Socket(_) | ListenAddress::Systemd(_), Some(address)) => address.to_string(),
            (address, _) => address.to_string(),
        }
    }

    /// The same as a URL, for whoever is to go there.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            ListenAddress::Unix(_) => self.name(),
            _ if self.tls.is_some() => format!("https://{}", self.name()),
            _ => format!("http://{}", self.name()),
        }
    }

    /// Whether only this machine's own processes can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let addresses = self.addresses();
        addresses
            .iter()
            .all(|address| address.ip().to_canonical().is_loopback())
    }

    /// Whether callers come in by a unix socket, where they have a user id and no address.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.sockets
            .iter()
            .any(|socket| matches!(socket, Listening::Unix(_)))
    }

    /// Whether the sockets outlive the process, so that what waits at them is served by the next one.
    pub(super) fn is_inherited(&self) -> bool {
        matches!(self.address, ListenAddress::Systemd(_))
    }

    /// The TLS settings, where it speaks TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&SharedTls> {
        self.tls.as_ref()
    }

    /// The same sockets once more, for another thread to accept from.
    pub(super) fn sockets(&self) -> io::Result<Vec<Listening>> {
        self.sockets.iter().map(Listening::try_clone).collect()
    }
}

impl Listening {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }
}

fn mend(address: &ListenAddress, kind: io::ErrorKind) -> &'static str {
    match (address, kind) {
        (ListenAddress::Unix(_), io::ErrorKind::NotFound) => " (its directory has to be there)",
        (ListenAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
            " (its directory has to be writable for bondgate's user)"
        }
        (_, io::ErrorKind::PermissionDenied) => {
            " (the lowest ports are for privileged programs: choose one from 1024 on, or let systemd listen)"
        }
        (_, io::ErrorKind::AddrNotAvailable) => " (this machine has no such address: write one of its own)",
        _ => "",
    }
}

fn localhost(port: u16) -> io::Result<Vec<Listening>> {
    let first = tcp((Ipv4Addr::LOCALHOST, port).into())?;
    let port = first.local_addr()?.port();
    let mut sockets = vec![Listening::Tcp(first)];
    match tcp((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(second) => sockets.push(Listening::Tcp(second)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => tracing::debug!(%error, "there is no IPv6 loopback here"),
    }
    Ok(sockets)
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 callers too; their addresses are judged as IPv4.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn unix_socket(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let what = "there is something that is no socket; move it, or choose another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        // A socket file that nobody listens on was left by a crash.
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    // Whoever connects before the mode is set would be served: until then nobody may.
    let before = umask(Mode::all());
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn group_id(name: &str) -> Result<u32, BindError> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    found
        .or_else(|| name.parse().ok())
        .ok_or_else(|| BindError::NoGroup(name.to_owned()))
}

/// A caller's connection, plain or TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close a reset, which no caller takes for a clean end.
    fn reset(&self);

    /// Shuts the connection down for writing, without TLS's close_notify: a caller that has read a response to its length
    /// leaves that unread, and its system would reset the connection.
    fn finish(&self);

    /// Holds the last segment back until [`finish`](Self::finish), whose FIN goes out with it.
    fn cork(&self);

    /// Bytes that were written and that this system has not sent yet.
    fn unsent(&self) -> usize;

    /// Bytes that were written and that the caller's system has not acknowledged.
    fn unacknowledged(&self) -> usize;

    /// Bytes that have come and were not read.
    fn unread(&self) -> u64;

    /// Whether the caller's system broke the connection off.
    fn is_reset(&self) -> bool;
}

/// A connection of any kind.
pub(super) enum Stream {
    Tcp(Watched<tokio::net::TcpStream>),
    Tls(Box<TlsStream<Watched<tokio::net::TcpStream>>>),
    Unix(Watched<tokio::net::UnixStream>),
}

impl Stream {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Wire for Stream {
    fn finish(&self) {
        socket::finish(self.descriptor());
    }

    fn cork(&self) {
        socket::cork(self.descriptor());
    }

    fn unsent(&self) -> usize {
        socket::unsent(self.descriptor())
    }

    fn unacknowledged(&self) -> usize {
        socket::unacknowledged(self.descriptor())
    }

    fn unread(&self) -> u64 {
        socket::unread(self.descriptor())
    }

    fn is_reset(&self) -> bool {
        socket::is_reset(self.descriptor())
    }

    fn reset(&self) {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
            // A unix socket has no reset; its peer sees the end.
            Self::Unix(_) => return,
        };
        let _ = socket.set_linger(Some(std::time::Duration::ZERO));
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
