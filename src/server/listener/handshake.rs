//! The TLS handshake of an accepted connection. It runs in the connection's own task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::platform::socket::Accepted;
use crate::problems::request::tls_expected;
use crate::server::connection::Transport;
use crate::server::problem::ProblemResponse;
use crate::tls::{self, TlsServer};

/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a TLS connection cannot be served.
pub(super) enum HandshakeError {
    /// The caller speaks plain HTTP, so it can get a response.
    PlainHttp(Box<dyn Transport>),
    /// The two ends do not agree, for this reason.
    Failed(String),
    /// The caller sent nothing, like a load balancer that checks whether the port is open.
    Disconnected,
}

/// The response to plain HTTP.
pub(super) fn plain_http() -> ProblemResponse {
    ProblemResponse::invalid(StatusCode::BAD_REQUEST, tls_expected())
}

/// Returns the connection that carries HTTP: the accepted one, or the TLS connection over it.
pub(super) async fn open(
    accepted: Accepted,
    tls: Option<&Arc<TlsServer>>,
) -> Result<Box<dyn Transport>, HandshakeError> {
    let (stream, address) = match accepted {
        Accepted::Unix(stream, _) => return Ok(Box::new(stream)),
        Accepted::Tcp(stream, address) => (stream, address),
    };
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let handshake = tokio::time::timeout(LIMIT, shake_hands(stream, tls.config.clone().into()));
    handshake.await.unwrap_or_else(|_| {
        tracing::debug!(%address, "TLS handshake timed out");
        Err(HandshakeError::Disconnected)
    })
}

async fn shake_hands(stream: TcpStream, tls: TlsAcceptor) -> Result<Box<dyn Transport>, HandshakeError> {
    let mut first = [0];
    let is_plain = stream.peek(&mut first).await.is_ok() && first[0].is_ascii_alphabetic();
    if is_plain {
        return Err(HandshakeError::PlainHttp(Box::new(stream)));
    }
    match tls.accept(stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if is_disconnect(&error) => Err(HandshakeError::Disconnected),
        Err(error) => Err(HandshakeError::Failed(reason(&error))),
    }
}

fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Why a handshake failed, with the cause or the fix if it is known.
fn reason(error: &io::Error) -> String {
    use rustls::{AlertDescription, Error};

    if tls::is_version_1(error) {
        return format!("the client certificate is {}; {}", tls::VERSION_1, tls::REISSUE);
    }
    let cause = match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        )) => " (the caller does not trust this listener's certificate)",
        Some(Error::NoCertificatesPresented) => " (the caller needs a certificate from tls.client_ca_file)",
        Some(Error::InvalidCertificate(_)) => " (the caller's certificate is not from tls.client_ca_file)",
        Some(Error::NoApplicationProtocol) => {
            " (the caller's ALPN names neither http/1.1 nor http/1.0, the only protocols of this listener)"
        }
        _ => "",
    };
    format!("{error}{cause}")
}
