//! What the system knows of a connection's other end, beyond what reading and writing tell.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that were written and that the other end's system has not acknowledged (SIOCOUTQ, tcp(7)): 0
/// where it has all, and where this system does not say.
#[cfg(target_os = "linux")]
pub(super) fn unacknowledged(socket: impl AsFd) -> usize {
    queued::<SIOCOUTQ>(socket)
}

/// Bytes that were written and that this system has not sent yet (SIOCOUTQNSD, tcp(7)): 0 where it does not say.
#[cfg(target_os = "linux")]
pub(super) fn unsent(socket: impl AsFd) -> usize {
    queued::<SIOCOUTQNSD>(socket)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // An ioctl with one number in and one out; rustix has no safe name for it.
fn queued<const OPCODE: rustix::ioctl::Opcode>(socket: impl AsFd) -> usize {
    use rustix::ioctl::{Getter, ioctl};
    // SAFETY: both opcodes write one int, whatever the socket, and nothing else.
    let count = unsafe { ioctl(socket, Getter::<OPCODE, i32>::new()) };
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// `TIOCOUTQ` by its older name; the same number on every architecture that bondgate is built for.
#[cfg(target_os = "linux")]
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
#[cfg(target_os = "linux")]
const SIOCOUTQNSD: rustix::ioctl::Opcode = 0x894B;

/// Elsewhere nobody says; what was written counts as acknowledged.
#[cfg(not(target_os = "linux"))]
pub(super) fn unacknowledged(_: impl AsFd) -> usize {
    0
}

/// Elsewhere nobody says; what was written counts as sent.
#[cfg(not(target_os = "linux"))]
pub(super) fn unsent(_: impl AsFd) -> usize {
    0
}

/// Shuts a socket down for writing; one that has no connection any more stays as it is.
pub(super) fn finish(socket: impl AsFd) {
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// Holds the last, partly filled segment back until the socket is shut down for writing, or for 200 ms at most
/// (TCP_CORK, tcp(7)). A socket that has no such option sends at once.
#[cfg(target_os = "linux")]
pub(super) fn cork(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_tcp_cork(socket, true);
}

/// Elsewhere segments go out at once.
#[cfg(not(target_os = "linux"))]
pub(super) fn cork(_: impl AsFd) {}

/// Bytes that have come and were not read.
pub(super) fn unread(socket: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap_or(0)
}

/// Whether the connection was reset, without taking the error from the next read.
pub(super) fn is_reset(socket: impl AsFd) -> bool {
    let mut about = [PollFd::new(&socket, PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    poll(&mut about, Some(&now)).is_ok() && about[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, caller)
    }

    #[test]
    fn what_the_other_end_has_not_taken_is_unacknowledged() {
        let (mut ours, mut theirs) = pair();
        ours.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // More than both ends' buffers hold.
        let piece = vec![0; 65_536];
        while let Ok(count) = ours.write(&piece) {
            sent += count;
        }
        assert!(unacknowledged(&ours) > 0 && unsent(&ours) > 0);
        let mut taken = vec![0; sent];
        theirs.read_exact(&mut taken).unwrap();
        while unacknowledged(&ours) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(unsent(&ours), 0);
    }

    #[test]
    fn a_reset_is_seen_and_left_for_the_reader() {
        let (mut ours, theirs) = pair();
        ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(!is_reset(&ours));
        ours.write_all(b"x").unwrap();
        // Closed with something unread, it is a reset.
        drop(theirs);
        while !is_reset(&ours) {
            std::thread::yield_now();
        }
        assert!(is_reset(&ours));
        let error = ours.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_has_come_is_counted() {
        let (ours, mut theirs) = pair();
        assert_eq!(unread(&ours), 0);
        theirs.write_all(b"abc").unwrap();
        while unread(&ours) < 3 {
            std::thread::yield_now();
        }
        assert!(!is_reset(&ours));
    }
}
