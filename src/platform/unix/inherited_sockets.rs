//! The listening sockets that systemd passes.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

/// The first descriptor that systemd passes.
const FIRST: RawFd = 3;

/// The listening sockets that systemd passed under this name (sd_listen_fds(3)). Call it once for each name.
pub fn named(name: &str) -> io::Result<Vec<Socket>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0);
    (FIRST..FIRST.saturating_add(count))
        .zip(variable("LISTEN_FDNAMES").split(':'))
        .filter(|(_, found)| *found == name)
        .map(|(descriptor, _)| adopt(descriptor))
        .collect()
}

fn adopt(descriptor: RawFd) -> io::Result<Socket> {
    // SAFETY: systemd opened this descriptor for this process (LISTEN_PID is ours), and each name is used once, so the
    // descriptor gets one owner.
    #[allow(unsafe_code)]
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let socket = Socket::from(owned);
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    Ok(socket)
}
