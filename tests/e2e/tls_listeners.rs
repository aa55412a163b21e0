//! TLS listeners: what they speak, which callers get in, and what others are told.

use std::sync::Arc;

use bondgate::simulator::{Handle, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Answer, Daemon, PATIENCE, read_one, send, simulator};
use crate::listeners::{pull, pulled, setup};

/// A certificate authority's PEM, and below it a server's and a client's certificate and key.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) server: (String, String),
    pub(crate) client: (String, String),
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issued = |name: &str, usage| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &ca).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        Self {
            server: issued("localhost", ExtendedKeyUsagePurpose::ServerAuth),
            client: issued("caller", ExtendedKeyUsagePurpose::ClientAuth),
            ca: ca.pem(),
        }
    }

    /// A daemon with a TLS listener that shows the server's certificate.
    pub(crate) async fn daemon(&self, cisco: &Handle, wants_client: bool) -> Daemon {
        let setup = setup(cisco);
        let certificate = setup.file("server.pem", &self.server.0);
        let key = setup.file("server-key.pem", &self.server.1);
        let ca = setup.file("client-ca.pem", &self.ca);
        let client_ca = if wants_client {
            format!(", client_ca_file = {ca:?}")
        } else {
            String::new()
        };
        let tls = format!("tls = {{ certificate_file = {certificate:?}, key_file = {key:?}{client_ca} }}");
        setup.listener("127.0.0.1:0", &tls).start().await
    }

    /// A pull over TLS by a client that offers these protocols.
    pub(crate) async fn pulled(
        &self,
        daemon: &Daemon,
        protocols: &[&str],
        shows_certificate: bool,
    ) -> std::io::Result<(Option<Vec<u8>>, Answer)> {
        let stream = TcpStream::connect(daemon.address()).await?;
        self.pulled_over(stream, protocols, shows_certificate).await
    }

    /// The same over a connection that there is.
    pub(crate) async fn pulled_over(
        &self,
        stream: TcpStream,
        protocols: &[&str],
        shows_certificate: bool,
    ) -> std::io::Result<(Option<Vec<u8>>, Answer)> {
        let stream = self.shaken(stream, protocols, shows_certificate).await?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((protocol, pulled(stream).await?))
    }

    /// TLS over a connection that there is.
    pub(crate) async fn opened(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        self.shaken(stream, &[], false).await.unwrap()
    }

    /// The same, with the client's certificate if it is wanted.
    pub(crate) async fn shaken(
        &self,
        stream: TcpStream,
        protocols: &[&str],
        shows_certificate: bool,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if shows_certificate {
            let chain = vec![CertificateDer::from_pem_slice(self.client.0.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect("localhost".try_into().unwrap(), stream).await
    }
}

#[tokio::test]
async fn a_tls_listener_speaks_http_1_1_and_says_so() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let daemon = certificates.daemon(&cisco, false).await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(b"http/1.1".to_vec())),
        (&["http/1.1"], Some(b"http/1.1".to_vec())),
        (&[], None),
    ] {
        let (protocol, answer) = certificates.pulled(&daemon, offered, false).await.unwrap();
        assert_eq!((protocol, answer.status()), (agreed, 200));
    }
    assert!(certificates.pulled(&daemon, &["h2"], false).await.is_err());
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, false).await;
    // A ClientHello of TLS 1.1, otherwise one that would be answered: version, random, no session, suites,
    // no compression, signature algorithms and groups.
    let suites = [0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f, 0x00, 0x35];
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    let hello = [
        &[3, 2][..],
        &[7; 32],
        &[0, 0, 8],
        &suites,
        &[1, 0, 0, 16],
        &extensions,
    ]
    .concat();
    let message = [&[1, 0, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
    let record = [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();

    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.unwrap().unwrap();

    // A fatal alert, protocol_version (RFC 5246 §7.2.2), and nothing else.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{answer:?}");
    daemon.logged("\"problem\":\"caller-handshake-failed\"").await;
    daemon.logged("TLS handshake failed").await;
    let refusal = &daemon.status().await["refusals"][0];
    assert_eq!(refusal["problem"], "caller-handshake-failed", "{refusal}");
    assert_eq!(
        refusal["status"],
        serde_json::Value::Null,
        "no response: {refusal}"
    );
    assert_eq!(refusal["callers"], serde_json::json!(["127.0.0.1"]), "{refusal}");
}

#[tokio::test]
async fn who_speaks_plain_http_to_a_tls_listener_is_told_so() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let daemon = certificates.daemon(&cisco, true).await;
    let answer = send(daemon.address(), pull()).await;
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert!(answer.body().contains("use an https:// URL"), "{answer:?}");
    assert!(crate::harness::relayed(&cisco).is_empty());
}

#[tokio::test]
async fn plain_input_that_is_no_complete_head_is_refused_logged_and_counted_on_a_tls_listener() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, true).await;
    for (count, begun) in [(1, &b"HELO x\r\n"[..]), (2, b"GET / HTTP/1.1\r\nHost: loc")] {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let answer = read_one(&mut stream).await;
        assert_eq!(answer.status(), 400, "{answer:?}");
        assert!(answer.body().contains("use an https:// URL"), "{answer:?}");
        daemon.logged_times("request head refused", count).await;
        let metrics = daemon.ask("/metrics").await;
        let counted = format!("\nbondgate_refused_heads_total {count}\n");
        assert!(metrics.body().contains(&counted), "{metrics:?}");
    }
}

#[tokio::test]
async fn with_client_ca_file_only_callers_with_a_certificate_get_in() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, true).await;

    let (_, answer) = certificates.pulled(&daemon, &[], true).await.unwrap();
    assert_eq!(answer.status(), 200);

    assert!(certificates.pulled(&daemon, &[], false).await.is_err());
    daemon
        .logged("the caller needs a certificate from tls.client_ca_file")
        .await;
    let strangers = Certificates {
        client: Certificates::new().client,
        ..certificates
    };
    assert!(strangers.pulled(&daemon, &[], true).await.is_err());
}
