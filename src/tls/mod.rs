//! rustls configurations: one for every outgoing connection, one for each TLS listener.

mod client_certificate;
mod clock;
mod file_dates;
mod handshake;
mod pem;
mod verifier;

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use rustls_native_certs::{CertificateResult, ErrorKind};
use sha2::{Digest as _, Sha256};

use crate::config::{InputError, ServerTls};
use crate::platform::roots::beside_store as roots_beside_store;
use crate::platform::shell::quoted;
use crate::problems::{self, Problem, files};

use self::client_certificate::NoCertificate;
pub use self::client_certificate::with_request;
pub use self::clock::{clock_problem, date};
pub use self::file_dates::{FileCertificate, MONTH, date_problems, file_certificates};
pub use self::verifier::expires_soon;
use self::verifier::{Verifier, words};

pub use self::handshake::{HandshakeFailure, handshake_problem};

/// Describes a certificate of X.509 version 1, as `openssl x509 -req` makes it without extensions.
pub const VERSION_1: &str = "X.509 version 1, which is not accepted";
/// How to replace it by one of version 3.
pub const REISSUE: &str = "issue it again with a version 3 extension: openssl x509 -req … -extfile FILE, with \
                           \"basicConstraints = CA:FALSE\" in FILE";

/// Whether an error comes from a certificate of X.509 version 1. (The certificate of a certificate authority may have
/// it.)
#[must_use]
pub fn is_version_1(error: &(dyn Error + 'static)) -> bool {
    match find(error) {
        // rustls hides webpki's error; its text is the variant's name.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))) => {
            why.0.to_string() == "UnsupportedCertVersion"
        }
        _ => false,
    }
}

/// The first error of a type among an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` skips the error that an `io::Error` wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as _).or_else(|| error.source());
    }
    None
}

/// The certificates that outgoing connections trust: the system's roots, and those of `ca_file`.
pub struct Trusted {
    roots: RootCertStore,
    digest: Digest,
}

/// Identifies what was read.
pub type Digest = [u8; 32];

impl Trusted {
    /// Reads them as they are now.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, InputError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        if let Some(problem) = unusable_roots(&native) {
            return Err(problem.into());
        }
        let mut native = native.certs;
        native.extend(roots_beside_store());
        // A directory lists them in any order.
        native.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        native.dedup();
        let own = ca_file.map(pem::certificates).transpose()?.unwrap_or_default();
        let read = native.iter().chain(&own);
        let digest = read.fold(Sha256::new(), Sha256::chain_update);
        let (system, _) = roots.add_parsable_certificates(native);
        if let Some(path) = ca_file {
            add(&mut roots, own, path)?;
        }
        if roots.is_empty() {
            return Err(problems::tls::roots_missing().into());
        }
        let own = roots.len() - system;
        let ssl_cert_file = std::env::var("SSL_CERT_FILE").ok();
        tracing::debug!(system, own, ssl_cert_file, "trusted certificates loaded");
        let digest = digest.finalize().into();
        Ok(Self { roots, digest })
    }

    /// Identifies these certificates, to compare them with those of another time.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The configuration of outgoing connections that trust these.
    #[must_use]
    pub fn client(self) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has suites for every default version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(self.roots, provider())))
            .with_client_cert_resolver(Arc::new(NoCertificate))
    }
}

/// The configuration of outgoing connections that trust the system's roots and those of `ca_file`.
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, InputError> {
    Ok(Trusted::load(ca_file)?.client())
}

/// The problem of a variable that replaces the system's roots by a place without certificates.
fn unusable_roots(found: &CertificateResult) -> Option<Problem> {
    if !found.certs.is_empty() {
        return None;
    }
    ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .find_map(|variable| {
            let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
            let named: Vec<_> = match variable {
                "SSL_CERT_FILE" => vec![value.into()],
                _ => std::env::split_paths(&value).collect(),
            };
            let failed = found.errors.iter().find_map(|error| match &error.kind {
                ErrorKind::Io { inner, path } if named.contains(path) => Some((path, inner.to_string())),
                _ => None,
            });
            let empty = || Some((named.first()?, "no PEM block CERTIFICATE".to_owned()));
            let (file, reason) = failed.or_else(empty)?;
            Some(problems::tls::roots_unusable(variable, file.display(), reason))
        })
}

/// The settings of a TLS listener.
pub struct TlsServer {
    /// For handshakes. It offers HTTP/1 only.
    pub config: Arc<ServerConfig>,
    /// When the first certificate of its chain expires.
    pub expires: Option<SystemTime>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsServer {
    /// Whether these settings accept a caller that presented a chain of certificates in an earlier handshake.
    #[must_use]
    pub fn accepts(&self, chain: Option<&[CertificateDer<'_>]>) -> bool {
        match (&self.client_verifier, chain) {
            (None, _) => true,
            (Some(verifier), Some([certificate, intermediates @ ..])) => verifier
                .verify_client_cert(certificate, intermediates, UnixTime::now())
                .is_ok(),
            (Some(_), _) => false,
        }
    }
}

/// Reads the settings of a TLS listener.
pub fn server(tls: &ServerTls) -> Result<TlsServer, InputError> {
    let chain = pem::certificates(&tls.certificate_file)?;
    let expires = file_dates::earliest_expiry(&chain);
    let key = pem::private_key(&tls.key_file)?;
    let usable = provider().key_provider.load_private_key(key.clone_key());
    usable.map_err(|_| files::key_unusable(quoted(&tls.key_file)))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has suites for every default version");
    let client_verifier = tls.client_ca_file.as_deref().map(client_verifier).transpose()?;
    let builder = match client_verifier.clone() {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| {
        let (certificate, key) = (quoted(&tls.certificate_file), quoted(&tls.key_file));
        match source {
            rustls::Error::InconsistentKeys(_) => files::key_mismatch(key, certificate),
            source if is_version_1(&source) => files::certificate_version_1(certificate),
            source => files::certificate_unusable(certificate, reason(&source)),
        }
    })?;
    // In order of preference. Some callers offer 1.0 only, as curl -0 does.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    let config = Arc::new(config);
    Ok(TlsServer {
        config,
        expires,
        client_verifier,
    })
}

fn client_verifier(ca_file: &Path) -> Result<Arc<dyn ClientCertVerifier>, InputError> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, pem::certificates(ca_file)?, ca_file)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).build();
    verifier
        .map_err(|error| files::certificate_unusable(quoted(ca_file), words(&format!("{error:?}"))).into())
}

/// A problem for each block of a PEM file that is not loaded. `keys` are the names of the keys that name the file.
#[must_use]
pub fn unloaded_blocks(path: &Path, keys: &[&str]) -> Vec<Problem> {
    pem::unloaded_blocks(path, keys)
}

fn add(
    roots: &mut RootCertStore,
    certificates: Vec<CertificateDer<'_>>,
    path: &Path,
) -> Result<(), InputError> {
    let mut certificates = certificates.into_iter();
    certificates
        .try_for_each(|certificate| roots.add(certificate))
        .map_err(|source| files::certificate_unusable(quoted(path), reason(&source)).into())
}

/// rustls' reason in words.
fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => words(&format!("{reason:?}")),
        other => words(&format!("{other:?}")),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_key_of_another_certificate_is_reported_with_both_files() {
        let issue = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (issue(), issue());
        let certificate = file(&one.cert.pem());
        let key = file(&other.signing_key.serialize_pem());
        let result = server(&ServerTls {
            certificate_file: certificate.path().to_owned(),
            key_file: key.path().to_owned(),
            client_ca_file: None,
        });
        let message = result.err().unwrap().to_string();
        for path in [certificate.path(), key.path()] {
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }
}
