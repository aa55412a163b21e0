//! A caller's connection, plain or TLS.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::{SharedTls, TlsServer};

/// A caller's connection.
pub(in super::super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket that carries it.
    fn socket(&self) -> SockRef<'_>;

    /// The certificates that the caller presented, its own first.
    fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        None
    }
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

    fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.get_ref().1.peer_certificates()
    }
}

/// The TLS settings that accepted a caller, and those of its listener, which a reload may have replaced since.
pub(in super::super) struct CallerTls {
    accepted_by: Arc<TlsServer>,
    listener: SharedTls,
}

impl CallerTls {
    /// Uses the current settings.
    pub(in super::super) fn new(listener: SharedTls) -> Self {
        Self {
            accepted_by: listener.load_full(),
            listener,
        }
    }

    pub(in super::super) fn acceptor(&self) -> TlsAcceptor {
        self.accepted_by.config.clone().into()
    }

    /// Whether the listener's current settings accept the caller.
    pub(super) fn accepts(&mut self, caller: &dyn Transport) -> bool {
        let current = self.listener.load();
        if Arc::ptr_eq(&current, &self.accepted_by) {
            return true;
        }
        let is_accepted = current.accepts(caller.certificates());
        if is_accepted {
            self.accepted_by = current.clone();
        }
        is_accepted
    }
}
