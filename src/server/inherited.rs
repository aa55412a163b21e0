//! Sockets that systemd bound and hands over (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Socket};

use super::listener::Listening;

/// The first descriptor that systemd hands over.
const FIRST: RawFd = 3;

/// The listening sockets of this name; none where systemd handed none over.
///
/// Meant to be called once for each name, at start.
pub(super) fn sockets(name: &str) -> io::Result<Vec<Listening>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    (FIRST..FIRST.saturating_add(count))
        .zip(names.split(':'))
        .filter(|(_, found)| *found == name)
        .map(|(descriptor, _)| listening(descriptor))
        .collect()
}

fn listening(descriptor: RawFd) -> io::Result<Listening> {
    // SAFETY: systemd opened this descriptor for this process (LISTEN_PID is ours) and nothing here
    // uses it before; each name is taken once, so it gets one owner.
    #[allow(unsafe_code)]
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let socket = Socket::from(owned);
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if socket.local_addr()?.domain() == Domain::UNIX {
        Ok(Listening::Unix(OwnedFd::from(socket).into()))
    } else {
        Ok(Listening::Tcp(socket.into()))
    }
}
