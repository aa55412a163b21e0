//! rustls configurations: one for every call out, one for each listener that speaks TLS.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use crate::config::ServerTls;

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there, or holds no PEM of the kind needed.
    #[error("cannot read {what} from {}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("there is no certificate in {}; it needs PEM, \"-----BEGIN CERTIFICATE-----\"", .0.display())]
    Empty(PathBuf),
    /// No certificate to trust at all.
    #[error(
        "no trusted certificates: the system has none (install ca-certificates, or set SSL_CERT_FILE) and ca_file is not set"
    )]
    NoRoots,
    /// The two files of a listener are not of one pair.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    NoPair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
    /// The certificate is of X.509 version 1.
    #[error("the certificate in {} is {VERSION_1}; {REISSUE}", .0.display())]
    VersionOne(PathBuf),
    /// rustls refuses what was read.
    #[error("{} cannot be used", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// What is said of a certificate of X.509 version 1, as `openssl x509 -req` makes it without extensions.
pub const VERSION_1: &str = "X.509 version 1, which is not accepted";
/// How to get one of version 3 in its place.
pub const REISSUE: &str = "issue it again with a version 3 extension: openssl x509 -req … -extfile FILE, with \
                           \"basicConstraints = CA:FALSE\" in FILE";

/// Whether an error comes from a certificate of X.509 version 1. (As an authority's own, one is accepted.)
#[must_use]
pub fn is_version_1(error: &(dyn Error + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))) = error.downcast_ref() {
            // rustls keeps webpki's error to itself; its text is the variant's name.
            return why.0.to_string() == "UnsupportedCertVersion";
        }
        // What an `io::Error` wraps is passed over by `source`.
        link = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// The certificates that calls out trust: the system's roots, and those of a `ca_file` beside them.
pub struct Trusted {
    roots: RootCertStore,
    digest: Digest,
}

/// Tells what was read from anything else.
pub type Digest = [u8; 32];

impl Trusted {
    /// Reads them as they are now.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut digest = Sha256::new();
        let mut native = rustls_native_certs::load_native_certs();
        // A directory gives them in any order.
        native
            .certs
            .sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        for certificate in &native.certs {
            digest.update(certificate);
        }
        let (system, _) = roots.add_parsable_certificates(native.certs);
        if let Some(path) = ca_file {
            for certificate in certificates(path)? {
                digest.update(&certificate);
                roots.add(certificate).map_err(|source| TlsError::Refused {
                    path: path.to_owned(),
                    source,
                })?;
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        tracing::debug!(
            system,
            own = roots.len() - system,
            ssl_cert_file = std::env::var("SSL_CERT_FILE").ok(),
            "trusted certificates are loaded"
        );
        let digest = digest.finalize().into();
        Ok(Self { roots, digest })
    }

    /// Tells whether it is the same as at another time.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The configuration of calls out that trust these.
    #[must_use]
    pub fn client(self) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has suites for every default version")
            .with_root_certificates(self.roots)
            .with_no_client_auth()
    }
}

/// The configuration of every call out: the system's roots, and those of `ca_file` beside them.
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    Ok(Trusted::load(ca_file)?.client())
}

/// The configuration of a TLS listener: HTTP/1 alone is offered, by either of its versions.
pub fn server(tls: &ServerTls) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&tls.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|source| TlsError::Pem {
        path: tls.key_file.clone(),
        what: "a private key",
        source,
    })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has suites for every default version");
    let builder = match &tls.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| TlsError::Refused {
                    path: path.clone(),
                    source,
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
                .build()
                .map_err(|_| TlsError::Empty(path.clone()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => TlsError::NoPair {
                key: tls.key_file.clone(),
                certificate: tls.certificate_file.clone(),
            },
            source if is_version_1(&source) => TlsError::VersionOne(tls.certificate_file.clone()),
            source => TlsError::Refused {
                path: tls.certificate_file.clone(),
                source,
            },
        })?;
    // In the order in which they are chosen. Some callers offer 1.0 alone, as curl -0 does.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem {
        path: path.to_owned(),
        what: "a certificate",
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(wrong)?
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    if found.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(found)
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
    fn a_key_that_is_not_the_certificates_is_told_by_both_files() {
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let certificate = file(&one.cert.pem());
        let key = file(&other.signing_key.serialize_pem());
        let told = server(&ServerTls {
            certificate_file: certificate.path().to_owned(),
            key_file: key.path().to_owned(),
            client_ca_file: None,
        });
        let why = told.unwrap_err().to_string();
        for path in [certificate.path(), key.path()] {
            assert!(why.contains(path.to_str().unwrap()), "{why}");
        }
    }
}
