//! Verifies the certificates of servers, and records in the error what a refused one says.
//!
//! rustls reports a refused certificate by its own error alone: neither issuer nor subject. The verifier sees the chain, and
//! its error passes through hyper and reqwest unchanged, so that every caller can find it there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

use super::clock::{clock_problem, date};
use crate::problems::{Problem, tls as problems};

/// The verifier of rustls, whose error for a refused certificate holds a [`RefusedCertificate`].
#[derive(Debug)]
pub(super) struct Verifier(Arc<WebPkiServerVerifier>);

/// A server's certificate that was refused.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is refused ({reason:?})")]
pub(super) struct RefusedCertificate {
    reason: CertificateError,
    subject: String,
    /// Who issued the last certificate of the chain.
    issuer: String,
    /// The names of everyone in the chain, to recognize a device that intercepts TLS.
    chain: String,
    is_self_signed: bool,
    names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
}

/// What the names in a certificate contain if a device of this vendor signed it, in lower case.
const INTERCEPTORS: [(&str, &str); 32] = [
    ("zscaler", "Zscaler"),
    ("palo alto", "Palo Alto Networks"),
    ("paloalto", "Palo Alto Networks"),
    ("prisma access", "Palo Alto Networks"),
    ("fortinet", "Fortinet"),
    ("fortigate", "Fortinet"),
    ("cisco umbrella", "Cisco Umbrella"),
    ("opendns", "Cisco Umbrella"),
    ("netskope", "Netskope"),
    ("goskope", "Netskope"),
    ("blue coat", "Blue Coat"),
    ("bluecoat", "Blue Coat"),
    ("proxysg", "Blue Coat"),
    ("symantec web security", "Symantec Web Security"),
    ("sophos", "Sophos"),
    ("check point", "Check Point"),
    ("checkpoint", "Check Point"),
    ("mcafee", "McAfee"),
    ("skyhigh", "Skyhigh Security"),
    ("forcepoint", "Forcepoint"),
    ("websense", "Forcepoint"),
    ("barracuda", "Barracuda"),
    ("sonicwall", "SonicWall"),
    ("watchguard", "WatchGuard"),
    ("cato networks", "Cato Networks"),
    ("menlo security", "Menlo Security"),
    ("iboss", "iboss"),
    ("cloudflare gateway", "Cloudflare Gateway"),
    ("kaspersky", "Kaspersky"),
    ("bitdefender", "Bitdefender"),
    ("fiddler", "Fiddler"),
    ("mitmproxy", "mitmproxy"),
];
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Names of a certificate that a problem shows.
const MOST_NAMES: usize = 8;

impl Verifier {
    /// A verifier that trusts these roots, of which there is at least one.
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Self(verifier.expect("there are roots and no revocation lists"))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(reason) => {
                match RefusedCertificate::parse(reason.clone(), end_entity, intermediates, now) {
                    Some(refused) => {
                        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
                    }
                    None => Error::InvalidCertificate(reason),
                }
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl RefusedCertificate {
    /// `None` if the certificate cannot be parsed.
    fn parse(
        reason: CertificateError,
        end_entity: &[u8],
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(end_entity).ok()?;
        let intermediates = intermediates
            .iter()
            .filter_map(|der| X509Certificate::from_der(der).ok());
        let intermediates: Vec<_> = intermediates.map(|(_, certificate)| certificate).collect();
        let last = intermediates.last().unwrap_or(&certificate);
        let chain = intermediates.iter().chain([&certificate]);
        let chain = chain
            .flat_map(|one| [one.issuer(), one.subject()])
            .map(X509Name::to_string);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let validity = certificate.validity();
        Some(Self {
            reason,
            subject: printable(certificate.subject()),
            issuer: printable(last.issuer()),
            chain: chain.collect::<Vec<_>>().join("; ").to_lowercase(),
            is_self_signed: certificate.subject() == certificate.issuer(),
            names: names(&certificate),
            not_before: at(validity.not_before.timestamp()),
            not_after: at(validity.not_after.timestamp()),
            now: UNIX_EPOCH + Duration::from_secs(now.as_secs()),
        })
    }

    /// The problem: `call` needs the server at `to`, host and port.
    pub(super) fn problem(&self, call: &str, to: &str) -> Problem {
        use CertificateError as Reason;
        let Self { subject, issuer, .. } = self;
        if let Some(problem) = clock_problem(self.now) {
            return problem;
        }
        match &self.reason {
            Reason::Expired => problems::certificate_expired(call, to, date(self.not_after), date(self.now)),
            // Perhaps of an intermediate certificate.
            Reason::ExpiredContext { not_after, .. } => {
                problems::certificate_expired(call, to, date(at(*not_after)), date(self.now))
            }
            Reason::NotValidYet => {
                problems::certificate_not_yet_valid(call, to, date(self.not_before), date(self.now))
            }
            Reason::NotValidYetContext { not_before, .. } => {
                problems::certificate_not_yet_valid(call, to, date(at(*not_before)), date(self.now))
            }
            Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
                problems::certificate_wrong_name(call, to, self.names())
            }
            // A bad signature: of an authority that has the name of a trusted one, and another key.
            Reason::UnknownIssuer | Reason::BadSignature => match self.interceptor() {
                Some(vendor) => problems::tls_intercepted(call, to, vendor, issuer),
                None if self.is_self_signed => problems::certificate_self_signed(call, to, subject),
                None => problems::unknown_ca(call, to, subject, issuer),
            },
            Reason::Other(why) => match why.0.to_string().as_str() {
                // rustls hides webpki's error; its text is the variant's name.
                "CaUsedAsEndEntity" => problems::certificate_is_ca(call, to, subject),
                "UnsupportedCertVersion" => problems::certificate_version_1(call, to),
                reason => problems::certificate_invalid(call, to, words(reason)),
            },
            reason => problems::certificate_invalid(call, to, words(&format!("{reason:?}"))),
        }
    }

    fn interceptor(&self) -> Option<&'static str> {
        let mut vendors = INTERCEPTORS.iter();
        let found = vendors.find(|(words, _)| self.chain.contains(words));
        found.map(|(_, vendor)| *vendor)
    }

    fn names(&self) -> String {
        match self.names.len() {
            0 => format!("no name ({})", self.subject),
            1..=MOST_NAMES => self.names.join(", "),
            more => format!(
                "{} and {} more",
                self.names[..MOST_NAMES].join(", "),
                more - MOST_NAMES
            ),
        }
    }
}

fn at(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// The name of a variant of rustls or webpki as words.
pub(super) fn words(variant: &str) -> String {
    let name = variant.split([' ', '(', '{']).next().unwrap_or_default();
    let name = name.strip_suffix("Context").unwrap_or(name);
    let mut words = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

/// The warning of a server's certificate that expires within a month.
#[must_use]
pub fn expires_soon(chain: &[CertificateDer<'_>], to: &str) -> Option<Problem> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let not_after = UNIX_EPOCH + Duration::from_secs(not_after);
    let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
    (left < MONTH).then(|| problems::certificate_expires_soon(to, date(not_after)))
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension
        .into_iter()
        .flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                Some(address.ok()?.to_string())
            }
            _ => None,
        })
        .collect()
}

/// A name from a certificate, made safe for a line of the log: bounded, and without control characters.
fn printable(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    let text: String = text.chars().filter(|char| !char.is_control()).take(200).collect();
    if text.is_empty() {
        "a certificate without a name".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_certificate_include_its_addresses() {
        let all = ["a.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let issued = rcgen::generate_simple_self_signed(all.clone()).unwrap();
        let (_, certificate) = X509Certificate::from_der(issued.cert.der()).unwrap();
        assert_eq!(names(&certificate), all);
    }

    #[test]
    fn a_variant_is_shown_as_words() {
        let reason = CertificateError::NotValidYetContext {
            time: UnixTime::now(),
            not_before: UnixTime::now(),
        };
        assert_eq!(words(&format!("{reason:?}")), "not valid yet");
        assert_eq!(words("CertificateRequired"), "certificate required");
    }
}
