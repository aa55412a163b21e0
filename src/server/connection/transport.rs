//! A caller's connection, plain or TLS.

use std::io;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A caller's connection.
pub(in super::super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket that carries it.
    fn socket(&self) -> SockRef<'_>;
}

impl Transport for TcpStream {
    fn socket(&self) -> SockRef<'_> {
        self.into()
    }
}

impl Transport for UnixStream {
    fn socket(&self) -> SockRef<'_> {
        self.into()
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> SockRef<'_> {
        self.get_ref().0.into()
    }
}

/// What made no progress for `limits.stall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stalled {
    /// The caller reads nothing of its response.
    #[error("the caller reads nothing of its response")]
    Response,
    /// The rest of a request body does not arrive, or is not read, after the response.
    #[error("the rest of the request body makes no progress")]
    RequestBody,
}

impl Stalled {
    /// As an error of the connection.
    pub(super) fn into_error(self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, self)
    }

    /// What stalled, if that caused an error.
    pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let stalled = |cause: &(dyn std::error::Error + 'static)| {
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref)?;
            inner.downcast_ref().copied()
        };
        std::iter::successors(Some(error), |cause| cause.source()).find_map(stalled)
    }
}
