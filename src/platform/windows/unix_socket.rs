//! Unix sockets, which bondgate does not have on Windows: the configuration's validation refuses them.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection on a unix socket: there is none.
#[derive(Debug)]
pub enum UnixStream {}

/// Refuses.
pub fn listen(_path: &Path, _mode: u32, _group: Option<u32>) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path of a socket's file: no socket has one.
#[must_use]
pub fn path(_socket: &Socket) -> Option<PathBuf> {
    None
}

/// Refuses, as [`listen`] does.
pub fn check(_path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The id of a group: there are none.
#[must_use]
pub fn group_id(_group: &str) -> Option<u32> {
    None
}

impl<'a> From<&'a UnixStream> for SockRef<'a> {
    fn from(stream: &'a UnixStream) -> Self {
        match *stream {}
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
