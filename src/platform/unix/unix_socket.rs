//! Unix sockets, and the groups of their files.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode};
use rustix::process::umask;
use socket2::Socket;

/// Listens on a unix socket whose file has this mode and group. A file that a crash left behind is replaced.
pub fn listen(path: &Path, mode: u32, group: Option<u32>) -> io::Result<Socket> {
    if is_left_behind(path)? {
        std::fs::remove_file(path)?;
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

/// The path of a socket's file, if it has one.
#[must_use]
pub fn path(socket: &Socket) -> Option<PathBuf> {
    socket.local_addr().ok()?.as_pathname().map(Path::to_owned)
}

/// Whether [`listen`] would succeed; creates nothing.
pub fn check(path: &Path) -> io::Result<()> {
    is_left_behind(path)?;
    SocketAddr::from_pathname(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    Ok(rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether there is a socket's file without a listener. Anything else there is an error.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(false);
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error),
    }
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
