//! Notices that a server asks for a client certificate. bondgate has none, and a server of TLS 1.2 refuses that by the same
//! alert as a client without a common cipher suite.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

tokio::task_local! {
    static IS_ASKED: Cell<bool>;
}

/// Has no certificate.
#[derive(Debug)]
pub(super) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Fails outside of `with_request`, where the request is not recorded.
        let _ = IS_ASKED.try_with(|is_asked| is_asked.set(true));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The result of a handshake, and whether the server asked for a client certificate in it.
pub async fn with_request<T>(handshake: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let result = handshake.await;
        (result, IS_ASKED.with(Cell::get))
    };
    IS_ASKED.scope(Cell::new(false), watched).await
}

#[cfg(test)]
mod tests {
    use rustls::server::WebPkiClientVerifier;
    use rustls::version::TLS12;
    use rustls::{RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::{Trusted, provider};
    use super::*;

    #[tokio::test]
    async fn a_request_for_a_client_certificate_is_noticed() {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone().into(), provider());
        let clients = clients.build().unwrap();
        for is_wanted in [true, false] {
            let server = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS12])
                .unwrap();
            let server = if is_wanted {
                server.with_client_cert_verifier(clients.clone())
            } else {
                server.with_no_client_auth()
            };
            let key = issued.signing_key.serialize_der().try_into().unwrap();
            let server = server.with_single_cert(vec![certificate.clone()], key).unwrap();
            let client = Trusted {
                roots: roots.clone(),
                digest: [0; 32],
            }
            .client();
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let handshake =
                TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), ours);
            let (_, (connected, is_asked)) = tokio::join!(
                TlsAcceptor::from(Arc::new(server)).accept(theirs),
                with_request(handshake)
            );
            assert_eq!((connected.is_err(), is_asked), (is_wanted, is_wanted));
        }
    }
}
