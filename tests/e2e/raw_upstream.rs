//! An upstream in a test's own hands: TLS, and above it whatever bytes the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::PATIENCE;
use crate::wire::Line;

/// A listening socket with a certificate; nothing is accepted unasked.
pub(crate) struct RawUpstream {
    listener: TcpListener,
    tls: TlsAcceptor,
    /// What its clients must trust.
    pub(crate) ca_pem: String,
}

impl RawUpstream {
    pub(crate) async fn bind() -> Self {
        Self::bind_at((Ipv4Addr::LOCALHOST, 0), "localhost").await
    }

    /// The same at a given address, with a certificate for a given name.
    pub(crate) async fn bind_at(address: (Ipv4Addr, u16), name: &str) -> Self {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        Self {
            listener: TcpListener::bind(address).await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(config)),
            ca_pem: certified.cert.pem(),
        }
    }

    /// Its URL, by the name in its certificate.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address().port())
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes the next connection, TLS handshake and all.
    pub(crate) async fn accept(&self) -> Line<TlsStream<TcpStream>> {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            self.tls.accept(stream).await.unwrap()
        };
        let accepted = tokio::time::timeout(PATIENCE, accepted).await;
        Line::new(accepted.expect("the daemon connects"))
    }

    /// Takes the next connection, however long it takes to come; nothing where TLS fails.
    pub(crate) async fn accept_when_called(&self) -> Option<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.ok()?;
        stream.set_nodelay(true).ok()?;
        self.tls.accept(stream).await.ok()
    }
}
