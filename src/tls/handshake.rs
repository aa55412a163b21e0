//! Why a TLS handshake with a server failed, as a problem of the catalogue.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::verifier::{RefusedCertificate, words};
use crate::problems::{Problem, tls as problems};

/// What ended a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The server's certificate was refused.
    Certificate,
    /// The server sent an alert.
    Alert,
    /// The server does not speak TLS, or none that is accepted.
    Protocol,
}

/// Why a handshake failed, where `call` needs the server at `to`, host and port. `None` for an error that is none of TLS.
#[must_use]
pub fn handshake_problem(
    error: &(dyn Error + 'static),
    call: &str,
    to: &str,
) -> Option<(HandshakeFailure, Problem)> {
    use AlertDescription as Alert;
    use HandshakeFailure as Failure;
    use rustls::Error as Tls;
    let error = super::find::<Tls>(error)?;
    let failure = match error {
        Tls::InvalidCertificate(_) => Failure::Certificate,
        Tls::AlertReceived(_) => Failure::Alert,
        _ => Failure::Protocol,
    };
    let problem = match error {
        Tls::InvalidCertificate(CertificateError::Other(why)) => match why.0.downcast_ref() {
            Some(refused) => RefusedCertificate::problem(refused, call, to),
            None => problems::certificate_invalid(call, to, &why.0),
        },
        Tls::InvalidCertificate(reason) => problems::certificate_invalid(call, to, reason),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => problems::tls_not_spoken(call, to),
        Tls::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        )
        | Tls::AlertReceived(Alert::ProtocolVersion) => problems::tls_version_old(call, to),
        Tls::PeerIncompatible(_)
        | Tls::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            problems::tls_no_common_cipher(call, to)
        }
        Tls::AlertReceived(alert) => problems::tls_alert(call, to, words(&format!("{alert:?}"))),
        error => problems::tls_failed(call, to, error),
    };
    Some((failure, problem))
}
