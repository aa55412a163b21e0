//! A caller's connection, plain or TLS.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::platform::socket::UnixStream;
use crate::tls::TlsServer;

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

/// The certificates of a TLS caller, and the settings that accepted them.
pub(super) struct CallerTls {
    certificates: Option<Vec<CertificateDer<'static>>>,
    accepted_by: Mutex<Arc<TlsServer>>,
}

impl CallerTls {
    /// The caller was accepted in its handshake.
    pub(super) fn new(caller: &dyn Transport, accepted_by: Arc<TlsServer>) -> Self {
        Self {
            certificates: caller.certificates().map(<[_]>::to_vec),
            accepted_by: Mutex::new(accepted_by),
        }
    }

    /// Whether these settings, which a reload may have replaced since, accept the caller.
    pub(super) fn is_accepted_by(&self, settings: &Arc<TlsServer>) -> bool {
        let mut accepted_by = self.accepted_by.lock();
        if Arc::ptr_eq(settings, &accepted_by) {
            return true;
        }
        let is_accepted = settings.accepts(self.certificates.as_deref());
        if is_accepted {
            *accepted_by = settings.clone();
        }
        is_accepted
    }
}
