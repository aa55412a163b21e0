//! Certificate authorities beside those of the system's store.

use rustls::pki_types::CertificateDer;

/// None: the system's store has what its operator trusts.
pub fn beside_store() -> impl Iterator<Item = CertificateDer<'static>> {
    std::iter::empty()
}
