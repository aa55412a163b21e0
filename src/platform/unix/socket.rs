//! Listening sockets, and what the system knows about a connection beyond reads and writes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

pub use tokio::net::UnixStream;

/// The number of connections that may wait to be accepted.
pub const BACKLOG: i32 = 4096;

/// Listens on a TCP address; `[::]` accepts IPv4 connections too.
pub fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds and does not listen, so that no connection is accepted. It fails as [`listen`] does.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The program that listens on a TCP port, where the system shows it: its name and process id.
#[must_use]
pub fn listening_program(port: u16) -> Option<String> {
    let port = format!(":{port:04X}");
    let socket = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_wanted = fields.get(3) == Some(&LISTENING) && fields[1].ends_with(&port);
            is_wanted.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
    })?;
    let mut processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = std::fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let is_wanted = files.any(|file| file.path().read_link().is_ok_and(|to| to.as_os_str() == &*socket));
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        is_wanted.then(|| format!("{} (pid {pid})", name.trim_end()))
    })
}

/// The state of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// Who has a port that the system denies: nobody, it is one of the low ports, which need a privilege.
pub const DENIED: Option<&str> = None;

/// A listening socket within a runtime.
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// A connection that was accepted.
pub enum Accepted {
    /// From this address.
    Tcp(TcpStream, SocketAddr),
    /// On a unix socket, from a process of this user.
    Unix(UnixStream, Option<u32>),
}

impl Acceptor {
    /// Accepts from this socket.
    pub fn new(socket: Socket) -> io::Result<Self> {
        if socket.local_addr()?.as_socket().is_some() {
            TcpListener::from_std(socket.into()).map(Self::Tcp)
        } else {
            UnixListener::from_std(OwnedFd::from(socket).into()).map(Self::Unix)
        }
    }

    /// Waits for a connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, from))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                Ok(Accepted::Unix(stream, user))
            }
        }
    }
}

/// Bytes that were written and not acknowledged by the peer's system (SIOCOUTQ, tcp(7)); 0 where this system does not
/// report it.
#[must_use]
pub fn unacknowledged(socket: &Socket) -> usize {
    // `TIOCOUTQ` under its older name; the same number on every architecture that bondgate is built for.
    queued::<0x5411>(socket)
}

/// Bytes that were written and not sent yet (SIOCOUTQNSD, tcp(7)); 0 where this system does not report it.
#[must_use]
pub fn unsent(socket: &Socket) -> usize {
    queued::<0x894B>(socket)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // rustix has no safe function for these two ioctls.
fn queued<const OPCODE: u32>(socket: &Socket) -> usize {
    use rustix::ioctl::{Getter, ioctl};
    // SAFETY: both opcodes write one int, whatever the socket, and nothing else.
    let count = unsafe { ioctl(socket, Getter::<OPCODE, i32>::new()) };
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn queued<const OPCODE: u32>(_: &Socket) -> usize {
    0
}

/// Bytes that have arrived and were not read.
#[must_use]
pub fn unread(socket: &Socket) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap_or(0)
}

/// Whether the connection was reset. The next read still reports the error.
#[must_use]
pub fn is_reset(socket: &Socket) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut sockets, Some(&Timespec::default())).is_ok() && sockets[0].revents().contains(PollFlags::ERR)
}

/// Shuts the connection down for writing. A connection that has ended stays as it is.
pub fn finish(socket: &Socket) {
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// Holds the last, partly filled segment back until [`finish`], or for 200 ms at most (TCP_CORK, tcp(7)). Where there is
/// no such option, segments are sent at once.
pub fn cork(socket: &Socket) {
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_cork(socket, true);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Makes the close a reset, which no caller takes for a complete response. A unix socket has no reset.
pub fn reset_on_close(socket: &Socket) {
    let _ = socket.set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0.into(), caller)
    }

    #[test]
    fn the_program_that_listens_on_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let program = listening_program(port).unwrap();
        assert!(
            program.ends_with(&format!("(pid {})", std::process::id())),
            "{program}"
        );
        drop(listener);
        assert_eq!(listening_program(port), None);
    }

    #[test]
    fn bytes_that_the_peer_has_not_received_are_unacknowledged() {
        let (mut ours, mut theirs) = pair();
        ours.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // More than both ends' buffers hold.
        let piece = vec![0; 65_536];
        while let Ok(count) = ours.write(&piece) {
            sent += count;
        }
        assert!(unacknowledged(&ours) > 0 && unsent(&ours) > 0);
        let mut received = vec![0; sent];
        theirs.read_exact(&mut received).unwrap();
        while unacknowledged(&ours) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(unsent(&ours), 0);
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
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
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
}
