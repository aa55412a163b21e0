//! Unix sockets, and the groups of their files.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::umask;
use socket2::Socket;

/// Listens on a unix socket whose file has this mode and group. A file that a crash left behind is replaced.
pub fn listen(path: &Path, mode: u32, group: Option<u32>) -> io::Result<Socket> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let detail = "a file that is no socket exists there; move it, or choose another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, detail));
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    // Until the mode is set no process may connect, or it would be served.
    let before = umask(Mode::all());
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(OwnedFd::from(listener).into())
}

/// The id of a group of /etc/group, given by its name or its number.
#[must_use]
pub fn group_id(group: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.or_else(|| group.parse().ok())
}
