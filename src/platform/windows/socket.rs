//! Listening sockets, and what the system knows about a connection beyond reads and writes.

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsRawSocket as _;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use windows_sys::Win32::Networking::WinSock::{
    FIONREAD, POLLERR, SOCKET, TCPSTATE_CLOSE_WAIT, TCPSTATE_CLOSED, TCPSTATE_ESTABLISHED, WSAPOLLFD,
    WSAPoll, ioctlsocket,
};

use super::exclusive_address::use_exclusively;
use super::listening_program::program_of_port;
use super::tcp_info::TcpInfo;

pub use super::unix_socket::UnixStream;

/// The number of connections that may wait to be accepted.
pub const BACKLOG: i32 = 4096;

/// Listens on a TCP address; `[::]` accepts IPv4 connections too.
pub fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds and does not listen, so that no connection is accepted. It fails as [`listen`] does. No other program can listen on
/// the address.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    use_exclusively(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The program that listens on a TCP port: its name and process id.
#[must_use]
pub fn listening_program(port: u16) -> Option<String> {
    program_of_port(port)
}

/// Who has a port that the system denies: no right is needed for low ports.
pub const DENIED: Option<&str> =
    Some("another program, or by Windows (netsh interface ipv4 show excludedportrange protocol=tcp)");

/// A listening socket within a runtime.
pub struct Acceptor(TcpListener);

/// A connection that was accepted.
pub enum Accepted {
    /// From this address.
    Tcp(TcpStream, SocketAddr),
    /// On a unix socket, which does not happen here.
    Unix(UnixStream, Option<u32>),
}

impl Acceptor {
    /// Accepts from this socket.
    pub fn new(socket: Socket) -> io::Result<Self> {
        TcpListener::from_std(socket.into()).map(Self)
    }

    /// Waits for a connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (stream, from) = self.0.accept().await?;
        Ok(Accepted::Tcp(stream, from))
    }
}

/// Bytes that were written and not acknowledged by the peer's system; 0 where this system does not report it (before Windows
/// 10 1703).
///
/// Windows does not report what was written and not sent yet. So this counts what was sent, until [`finish`]; from then on it
/// is 0 only when the end of the stream, and so every byte before it, was acknowledged. For a caller that has half-closed its
/// connection, which is finished last, bytes in the system's buffers are not seen.
#[must_use]
pub fn unacknowledged(socket: &Socket) -> usize {
    match TcpInfo::of(socket) {
        Some(info) => {
            IS_REPORTED.store(true, Ordering::Relaxed);
            unacknowledged_of(socket, &info)
        }
        // The connection has failed.
        None if IS_REPORTED.load(Ordering::Relaxed) => usize::MAX,
        None => 0,
    }
}

/// Whether this system reports what was acknowledged: it has done so.
static IS_REPORTED: AtomicBool = AtomicBool::new(false);

fn unacknowledged_of(socket: &Socket, info: &TcpInfo) -> usize {
    let in_flight = usize::try_from(info.in_flight).unwrap_or(usize::MAX);
    match info.state {
        TCPSTATE_ESTABLISHED | TCPSTATE_CLOSE_WAIT => in_flight,
        // After an orderly end that the caller began, or a reset.
        TCPSTATE_CLOSED if is_reset(socket) => usize::MAX,
        TCPSTATE_CLOSED => 0,
        _ if info.is_end_acknowledged() => 0,
        _ => in_flight.max(1),
    }
}

/// Bytes that were written and not sent yet. Windows does not report it: every byte that is not acknowledged counts, and at
/// least one where that is not known.
#[must_use]
pub fn unsent(socket: &Socket) -> usize {
    TcpInfo::of(socket).map_or(1, |info| unacknowledged_of(socket, &info))
}

/// Bytes that have arrived and were not read.
#[must_use]
#[allow(unsafe_code)] // No crate has a safe function for this request.
pub fn unread(socket: &Socket) -> u64 {
    let mut count = 0;
    // SAFETY: the request writes one number.
    let code = unsafe { ioctlsocket(raw(socket), FIONREAD, &raw mut count) };
    if code == 0 { count.into() } else { 0 }
}

/// Whether the connection was reset. The next read still reports the error.
#[must_use]
#[allow(unsafe_code)] // No crate has a safe function for it.
pub fn is_reset(socket: &Socket) -> bool {
    let mut polled = WSAPOLLFD {
        fd: raw(socket),
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, which outlives the call.
    let count = unsafe { WSAPoll(&raw mut polled, 1, 0) };
    count > 0 && polled.revents & POLLERR != 0
}

fn raw(socket: &Socket) -> SOCKET {
    SOCKET::try_from(socket.as_raw_socket()).expect("a socket fits its type")
}

/// Shuts the connection down for writing. A connection that has ended stays as it is.
pub fn finish(socket: &Socket) {
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// Windows cannot hold the last segment back.
pub fn cork(_: &Socket) {}

/// Makes the close a reset, which no caller takes for a complete response.
pub fn reset_on_close(socket: &Socket) {
    let _ = socket.set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0.into(), caller)
    }

    #[test]
    fn a_reset_is_detected_and_still_reported_to_the_reader() {
        let (mut ours, theirs) = pair();
        ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(!is_reset(&ours));
        ours.write_all(b"x").unwrap();
        // A close over unread input is a reset.
        drop(theirs);
        while !is_reset(&ours) {
            std::thread::yield_now();
        }
        assert!(is_reset(&ours));
        let error = ours.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_end_in_order_is_no_reset() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert!(!is_reset(&ours));
    }

    #[test]
    fn unread_bytes_are_counted() {
        let (ours, mut theirs) = pair();
        assert_eq!(unread(&ours), 0);
        theirs.write_all(b"abc").unwrap();
        while unread(&ours) < 3 {
            std::thread::yield_now();
        }
        assert!(!is_reset(&ours));
    }

    #[test]
    fn an_address_has_one_listener() {
        let first = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap().as_socket().unwrap();
        assert!(bind(address).is_err());
        assert!(std::net::TcpListener::bind(address).is_err());
    }
}
