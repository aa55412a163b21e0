//! TLS as callers really speak it: protocols that they offer by ALPN, and certificates that tools make unasked.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use bondgate::simulator::{Handle, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SigningKey as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Daemon, Ended, PULL, Setup, bondgate, finished, simulator};
use crate::listeners::{pulled, setup, start_fails};
use crate::tls_listeners::Certificates;

#[tokio::test]
async fn a_caller_that_offers_http_1_0_alone_is_served() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let daemon = certificates.daemon(&cisco, false).await;
    for (offered, agreed) in [
        (&["http/1.0"][..], "http/1.0"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
        (&["h2", "http/1.0"], "http/1.0"),
    ] {
        let (protocol, answer) = certificates.pulled(&daemon, offered, false).await.unwrap();
        assert_eq!(
            (protocol.as_deref(), answer.status()),
            (Some(agreed.as_bytes()), 200),
            "{offered:?}"
        );
    }
}

#[tokio::test]
async fn a_caller_that_offers_no_protocol_of_ours_is_refused_and_the_log_names_those_that_are() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, false).await;
    let error = certificates.pulled(&daemon, &["h2"], false).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    daemon
        .logged("the caller's ALPN names neither http/1.1 nor http/1.0")
        .await;
}

/// The content of a DER value of this tag, and the bytes after the value.
fn value(tag: u8, der: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag);
    let (length, head) = match usize::from(der[1]) {
        short @ 0..0x80 => (short, 2),
        long => {
            let digits = &der[2..2 + (long & 0x7f)];
            let length = digits
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, 2 + digits.len())
        }
    };
    (&der[head..head + length], &der[head + length..])
}

/// A DER value.
fn der(tag: u8, inside: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(inside.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 0..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag][..], &length, inside].concat()
}

/// A certificate for a key as `openssl x509 -req` makes it without an extension file: of version 1, below `issuer`.
fn version_1(name: &str, key: &KeyPair, issuer: &CertifiedIssuer<'_, KeyPair>) -> CertificateDer<'static> {
    const SEQUENCE: u8 = 0x30;
    let version_3 = CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(key, issuer)
        .unwrap();
    let (certificate, _) = value(SEQUENCE, version_3.der());
    let (to_be_signed, algorithm) = value(SEQUENCE, certificate);
    let (algorithm, _) = value(SEQUENCE, algorithm);
    let (_version, fields) = value(0xa0, to_be_signed);
    // Serial number, algorithm, issuer, validity, subject and key; the extensions behind them are left out.
    let mut rest = value(0x02, fields).1;
    for _ in 0..5 {
        rest = value(SEQUENCE, rest).1;
    }
    let fields = &fields[..fields.len() - rest.len()];
    let to_be_signed = der(SEQUENCE, fields);
    let signature = issuer.key().sign(&to_be_signed).unwrap();
    let signature = der(0x03, &[&[0][..], &signature].concat());
    let certificate = [to_be_signed, der(SEQUENCE, algorithm), signature].concat();
    der(SEQUENCE, &certificate).into()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// An authority, and below it a certificate of version 1 for `localhost` with its key.
struct VersionOne {
    ca: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl VersionOne {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        Self {
            ca: ca.pem(),
            certificate: version_1("localhost", &key, &ca),
            key,
        }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap()
    }

    /// Sent without a check.
    fn certified(&self) -> Arc<Unchecked> {
        let key = aws_lc_rs::sign::any_supported_type(&self.key()).unwrap();
        Arc::new(Unchecked(Arc::new(CertifiedKey::new(
            vec![self.certificate.clone()],
            key,
        ))))
    }
}

#[derive(Debug)]
struct Unchecked(Arc<CertifiedKey>);

impl ResolvesServerCert for Unchecked {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl rustls::client::ResolvesClientCert for Unchecked {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The log's words for such a certificate: its fault and the fix.
const FIXES: [&str; 3] = ["X.509 version 1", "openssl x509 -req", "-extfile"];

async fn logs_version_1(daemon: &mut Daemon, what: &str) -> String {
    daemon.logged(what).await;
    let log = daemon.log();
    let line = log.iter().find(|line| line.contains(what)).unwrap();
    for fix in FIXES {
        assert!(line.contains(fix), "{fix}: {line}");
    }
    line.clone()
}

#[tokio::test]
async fn a_client_certificate_of_version_1_is_reported_as_one_with_the_mend_and_the_address() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let callers = VersionOne::new();
    let certificates = Certificates {
        ca: certificates.ca.clone() + &callers.ca,
        ..certificates
    };
    let mut daemon = certificates.daemon(&cisco, true).await;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(certificates.ca.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(callers.certified());
    let stream = TcpStream::connect(daemon.address()).await.unwrap();
    let from = stream.local_addr().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let refused = async {
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        pulled(stream).await
    };
    assert!(refused.await.is_err());
    let line = logs_version_1(&mut daemon, "the client certificate is X.509 version 1").await;
    assert!(line.contains(&from.to_string()), "{line}");
    assert!(!line.contains("UnsupportedCertVersion"), "{line}");
}

#[tokio::test]
async fn a_listeners_own_certificate_of_version_1_is_reported_by_check_and_at_the_start() {
    let (cisco, own) = (simulator(Options::default()).await, VersionOne::new());
    let faulty = || {
        let setup = setup(&cisco);
        let certificate = setup.file("server.pem", &pem(&own.certificate));
        let key = setup.file("server-key.pem", &own.key.serialize_pem());
        let tls = format!("tls = {{ certificate_file = {certificate:?}, key_file = {key:?} }}");
        setup.listener("127.0.0.1:0", &tls)
    };
    let checked = faulty();
    let mut command = bondgate();
    command.args(["check", "--config"]).arg(checked.config_file());
    for ended in [finished(command).await, start_fails(faulty(), &[]).await] {
        assert_eq!(ended.code, Some(3), "{ended:?}");
        for fix in FIXES.iter().chain(&["server.pem", "listener[0].tls"]) {
            assert!(ended.lines().any(|line| line.contains(fix)), "{fix}: {ended:?}");
        }
        let is_foreign = |line: &str| line.contains("UnsupportedCertVersion");
        assert!(!ended.lines().any(is_foreign), "{ended:?}");
    }
}

#[tokio::test]
async fn an_authority_of_version_1_is_trusted_as_any_other() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let authority = version_1("an-old-authority", issuer.key(), &issuer);
    let key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(["caller".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let certificates = Certificates {
        ca: certificates.ca.clone() + &pem(&authority),
        client: (client.pem(), key.serialize_pem()),
        ..certificates
    };
    let daemon = certificates.daemon(&cisco, true).await;
    let (_, answer) = certificates.pulled(&daemon, &[], true).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn an_upstreams_certificate_of_version_1_is_reported_as_one() {
    let (cisco, api) = (simulator(Options::default()).await, VersionOne::new());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(api.certified());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    let daemon = Setup::apart(&cisco, &url, &api.ca, "").start().await;
    let answer = daemon.get(PULL).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.body().contains("X.509 version 1"), "{answer:?}");
    assert!(!answer.body().contains("UnsupportedCertVersion"), "{answer:?}");

    // The same at the token endpoint, by the log and by `check --live`.
    let tokens = Setup::apart(&cisco, &cisco.url(), &api.ca, "").environment(
        "BONDGATE__UPSTREAM__CISCO__TOKEN_URL",
        &format!("{url}/oauth2/default/v1/token"),
    );
    let mut command = bondgate();
    command
        .args(["check", "--live", "--config"])
        .arg(tokens.config_file())
        .envs(tokens.environment.clone());
    let checked = finished(command).await;
    let fault = "is X.509 version 1";
    assert!(checked.stdout.contains("[certificate-version-1]"), "{checked:?}");
    let mut daemon = tokens.start_without_token().await;
    daemon.logged(fault).await;
    accepting.abort();
}

/// Files as a person makes them with openssl: the server's certificate and key, the callers' authority, a caller's
/// certificate and key.
struct Made(Vec<String>);

impl Made {
    fn new(setup: &Setup, more: &str) -> Self {
        setup.file("v3.ext", "basicConstraints = CA:FALSE\n");
        let script = format!(
            "set -e; cd {}; new='-newkey rsa:2048 -nodes'
             openssl req -x509 $new -keyout server.key -out server.pem -subj /CN=server -addext subjectAltName=DNS:localhost
             openssl req -x509 $new -keyout ca.key -out openssl-ca.pem -subj /CN=ca
             openssl req $new -keyout caller.key -out caller.csr -subj /CN=caller
             openssl x509 -req -in caller.csr -CA openssl-ca.pem -CAkey ca.key -CAcreateserial -out caller.pem {more}",
            setup.directory.path().display(),
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let path = |name| setup.directory.path().join(name).display().to_string();
        Self(
            [
                "server.pem",
                "server.key",
                "openssl-ca.pem",
                "caller.pem",
                "caller.key",
            ]
            .map(path)
            .into(),
        )
    }
}

/// A daemon with a TLS listener that wants such certificates.
async fn before_openssl(cisco: &Handle, more: &str) -> (Daemon, Made) {
    let setup = setup(cisco);
    let made = Made::new(&setup, more);
    let [certificate, key, ca, ..] = &made.0[..] else {
        unreachable!()
    };
    let tls = format!(
        "tls = {{ certificate_file = {certificate:?}, key_file = {key:?}, client_ca_file = {ca:?} }}"
    );
    (setup.listener("127.0.0.1:0", &tls).start().await, made)
}

async fn curl(to: SocketAddr, Made(files): &Made, more: &[&str]) -> Ended {
    let mut command = Command::new("curl");
    command
        .args([
            "--disable",
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
        ])
        .args(["--cacert", &files[0], "--cert", &files[3], "--key", &files[4]])
        .args(["--connect-to", &format!("localhost:443:{to}")])
        .args(more)
        .arg(format!("https://localhost{PULL}"));
    finished(command).await
}

#[tokio::test]
#[ignore = "needs curl and openssl; .ci/run installs them"]
async fn curl_0_over_tls_is_served_by_a_version_3_certificate_of_openssl_and_told_of_version_1() {
    let cisco = simulator(Options::default()).await;
    // The fix, as the log has it.
    let (daemon, made) = before_openssl(&cisco, "-extfile v3.ext").await;
    for more in [&["-0"][..], &[], &["--http1.1"], &["--http2"]] {
        let ended = curl(daemon.address(), &made, more).await;
        assert_eq!(ended.code, Some(0), "{more:?}: {ended:?}");
    }
    let mut command = Command::new("sh");
    let asked = format!(
        "printf 'GET {PULL} HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect {} -servername localhost -quiet -ign_eof \
         -alpn http/1.0 -CAfile {} -cert {} -key {}",
        daemon.address(),
        made.0[0],
        made.0[3],
        made.0[4]
    );
    command.args(["-c", &asked]);
    let ended = finished(command).await;
    assert!(ended.stdout.starts_with("HTTP/1.0 200 "), "{ended:?}");

    let (mut daemon, made) = before_openssl(&cisco, "").await;
    let ended = curl(daemon.address(), &made, &[]).await;
    assert_ne!(ended.code, Some(0), "{ended:?}");
    logs_version_1(&mut daemon, "the client certificate is X.509 version 1").await;
}

/// Reads one response to its length, as `http.client` and Wget do: TLS's close_notify would stay unread, and the system
/// of the caller would reset the connection.
const READ_TO_LENGTH: &str = "
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection('localhost', int(sys.argv[1]), context=context)
connection.request('GET', sys.argv[2])
response = connection.getresponse()
print(response.status, len(response.read()))
connection.close()
";

#[tokio::test]
#[ignore = "needs python3; .ci/run installs it"]
async fn a_tls_caller_that_reads_a_message_to_its_length_has_it() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, false).await;
    for (delivered, size) in [(1, 300), (2, 5_000), (3, 60_000)] {
        cisco.put_raw_message("demo", format!("{{\"Calls\":\"{}\"}}", "x".repeat(size - 12)));
        let mut python = std::process::Command::new("python3");
        python.args(["-c", READ_TO_LENGTH, &daemon.address().port().to_string()]);
        python.arg(crate::harness::PULL);
        let ended = crate::harness::finished(python).await;
        assert_eq!(
            (ended.code, ended.stdout.trim()),
            (Some(0), format!("200 {size}").as_str()),
            "{ended:?}"
        );
        daemon.logged_times("pulled message delivered", delivered).await;
    }
    assert!(!daemon.log().iter().any(|line| line.contains("delivery failed")));
}
