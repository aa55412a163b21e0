//! The listening sockets that systemd passes, which is not on Windows.

use std::io;

use socket2::Socket;

/// None.
pub fn named(_name: &str) -> io::Result<Vec<Socket>> {
    Ok(Vec::new())
}
