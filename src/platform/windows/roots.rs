//! Certificate authorities beside those of the system's store.

use rustls::pki_types::CertificateDer;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Mozilla's. Windows has few in its store, and adds another one when a program that uses its own TLS first meets it.
pub fn beside_store() -> impl Iterator<Item = CertificateDer<'static>> {
    TLS_SERVER_ROOT_CERTS.iter().cloned()
}
