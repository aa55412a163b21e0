//! The simulator over real TLS.

mod control;
mod faults;
mod identity;
mod record;
mod smart_bonding;
mod transfers;

use std::sync::Arc;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cisco::endpoint::{PULL_PATH, PUSH_PATH, TOKEN_PATH};
use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const LOGIN: &str = "grant_type=client_credentials&client_id=demo&client_secret=demo-secret";

/// A running simulator, and a client that trusts it.
struct Fixture {
    cisco: Handle,
    http: reqwest::Client,
    /// Dropping it ends the simulator.
    stop: oneshot::Sender<()>,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let simulator = Simulator::bind(options).await.unwrap();
        let cisco = simulator.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(simulator.run(async { drop(stopped.await) }));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trust(&cisco))
            .no_proxy()
            .build()
            .unwrap();
        Fixture { cisco, http, stop }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.cisco.url() + path)
    }

    /// A token request with this query and form.
    async fn login(&self, query: &str, form: &str) -> Response {
        self.login_request(query, form).send().await.unwrap()
    }

    fn login_request(&self, query: &str, form: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("{TOKEN_PATH}{query}"))
            .header(CONTENT_TYPE, FORM)
            .body(form.to_owned())
    }

    async fn token(&self) -> String {
        let reply = json(self.login("", LOGIN).await).await;
        reply["access_token"].as_str().unwrap().to_owned()
    }

    async fn pull(&self, token: &str) -> Response {
        self.pull_request(token).send().await.unwrap()
    }

    fn pull_request(&self, token: &str) -> RequestBuilder {
        self.request(Method::GET, PULL_PATH).bearer_auth(token)
    }

    async fn push(&self, token: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.request(Method::POST, PUSH_PATH);
        request.bearer_auth(token).body(body).send().await.unwrap()
    }

    /// A connection to write raw bytes to.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.cisco.address()).await.unwrap();
        TlsConnector::from(Arc::new(trust(&self.cisco)))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    }

    /// Sends these bytes and reads until the simulator closes.
    async fn exchange(&self, bytes: &[u8]) -> (Vec<u8>, std::io::Result<usize>) {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut response = Vec::new();
        let end = stream.read_to_end(&mut response).await;
        (response, end)
    }
}

fn trust(cisco: &Handle) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(cisco.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn client(id: &str, secret: &str) -> Client {
    Client {
        id: id.to_owned(),
        secret: secret.to_owned(),
    }
}

#[tokio::test]
async fn the_error_for_an_address_in_use_names_it() {
    let fixture = Fixture::start().await;
    let taken = fixture.cisco.address();
    let error = Simulator::bind(Options {
        listen: taken,
        ..Options::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn the_control_api_is_bound_to_loopback_only() {
    let control = "0.0.0.0:0".parse().unwrap();
    let error = Simulator::bind(Options {
        control,
        ..Options::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn the_certificate_holds_every_loopback_name_and_the_configured_names() {
    let fixture = Fixture::with(Options {
        names: vec!["cisco.internal".to_owned()],
        ..Options::default()
    })
    .await;
    for name in ["localhost", "127.0.0.1", "::1", "cisco.internal"] {
        let stream = TcpStream::connect(fixture.cisco.address()).await.unwrap();
        TlsConnector::from(Arc::new(trust(&fixture.cisco)))
            .connect(ServerName::try_from(name).unwrap(), stream)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn shutdown_ends_connections_that_hang() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.script(Fault::on(On::Pull, Kind::Hang));
    let pull = tokio::spawn(fixture.pull_request(&token).send());
    fixture.cisco.wait_for(|seen| seen.len() == 2).await;
    drop(fixture.stop);
    assert!(pull.await.unwrap().is_err());
}
