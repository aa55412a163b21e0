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
/// `is_asked` if the server has asked for a client certificate, or may have.
#[must_use]
pub fn handshake_problem(
    error: &(dyn Error + 'static),
    call: &str,
    to: &str,
    is_asked: bool,
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
            None => problems::certificate_invalid(call, to, words(&format!("{:?}", why.0))),
        },
        Tls::InvalidCertificate(reason) => {
            problems::certificate_invalid(call, to, words(&format!("{reason:?}")))
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => problems::tls_not_spoken(call, to),
        Tls::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        )
        | Tls::AlertReceived(Alert::ProtocolVersion) => problems::tls_version_old(call, to),
        Tls::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate) => {
            problems::tls_client_certificate_wanted(call, to)
        }
        Tls::AlertReceived(Alert::HandshakeFailure) if is_asked => {
            problems::tls_client_certificate_wanted(call, to)
        }
        Tls::PeerIncompatible(_)
        | Tls::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            problems::tls_no_common_cipher(call, to)
        }
        Tls::AlertReceived(alert) => problems::tls_alert(call, to, words(&format!("{alert:?}"))),
        error => problems::tls_failed(call, to, nested_words(&format!("{error:?}"))),
    };
    Some((failure, problem))
}

/// The name of a variant of rustls, and that of the variant in it, as words.
fn nested_words(variant: &str) -> String {
    let mut names = variant.split('(');
    let outer = words(names.next().unwrap_or_default());
    let inner = names.next().filter(|name| name.starts_with(char::is_uppercase));
    inner.map_or(outer.clone(), |inner| {
        format!("{outer}: {}", words(inner.trim_end_matches(')')))
    })
}

#[cfg(test)]
mod tests {
    use rustls::PeerMisbehaved;

    use super::*;

    #[test]
    fn no_name_of_the_tls_library_is_shown() {
        use rustls::Error as Tls;
        for (error, code, text) in [
            (
                Tls::InvalidCertificate(CertificateError::UnknownIssuer),
                "certificate-invalid",
                "(unknown issuer)",
            ),
            (
                Tls::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments),
                "tls-failed",
                "(peer misbehaved: too many empty fragments)",
            ),
            (Tls::General("x".to_owned()), "tls-failed", "(general)"),
        ] {
            let (_, problem) = handshake_problem(&error, "API request", "a:443", false).unwrap();
            assert_eq!(problem.code(), code);
            assert!(problem.cause().ends_with(text), "{problem}");
        }
    }

    #[test]
    fn a_failure_after_a_request_for_a_client_certificate_is_its_absence() {
        let code = |alert, is_asked| {
            let error = rustls::Error::AlertReceived(alert);
            handshake_problem(&error, "API request", "a:443", is_asked)
                .unwrap()
                .1
                .code()
        };
        assert_eq!(
            code(AlertDescription::HandshakeFailure, false),
            "tls-no-common-cipher"
        );
        for alert in [
            AlertDescription::HandshakeFailure,
            AlertDescription::BadCertificate,
            AlertDescription::CertificateRequired,
        ] {
            assert_eq!(code(alert, true), "tls-client-certificate-wanted");
        }
    }
}
