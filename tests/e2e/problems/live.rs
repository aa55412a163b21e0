//! Failures of a call, injected one by one with real sockets: the check, the log, the status and the response each name the
//! one code, for the token request and for the API request alike.

mod api;
mod identity_service;
mod network;
mod outbound_proxy;
mod tls;

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bondgate::simulator::{Fault, Handle, Kind, On, Options, Then};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::record;
use crate::harness::{DEMO_SECRET, Setup, bondgate, finished, simulator};

/// A request that every rule of these tests allows.
const ANY: &str = "/simulator/echo";
/// So many daemons run at a time.
const AT_ONCE: usize = 3;

/// The call that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Token,
    Api,
}

/// A failure that is ready to be met.
pub(super) struct Injected {
    setup: Setup,
    call: Call,
    code: &'static str,
    /// Whether the caller gets a response of bondgate's own.
    has_response: bool,
    /// What the failure needs for as long as it is tested.
    _alive: Vec<Handle>,
}

pub(super) type Injection = Pin<Box<dyn Future<Output = Injected> + Send>>;

/// Meets each failure in the four places, and reports every place that names no code or another one.
pub(super) async fn assert_each_is_reported(injections: Vec<(String, Injection)>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for (name, injection) in injections {
        let turns = turns.clone();
        runs.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let injected = injection.await;
            let (call, code) = (injected.call, injected.code);
            let wrong = wrong_places(&name, injected).await;
            (wrong.is_empty(), format!("{name} ({call:?}, {code}): {wrong}"))
        });
    }
    let mut faults = Vec::new();
    while let Some(ended) = runs.join_next().await {
        let (is_right, text) = ended.unwrap();
        faults.extend((!is_right).then_some(text));
    }
    faults.sort();
    assert!(
        faults.is_empty(),
        "{} are wrong:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

async fn wrong_places(name: &str, injected: Injected) -> String {
    let Injected {
        setup,
        call,
        code,
        has_response,
        _alive,
    } = injected;
    let mut wrong = String::new();
    let checked = checked_codes(&setup).await;
    if checked != [code] {
        let _ = write!(wrong, "the check has {checked:?}; ");
    }
    let mut daemon = setup.start_without_token().await;
    let key = match call {
        Call::Token => "token",
        Call::Api => "api",
    };
    let log = format!("\"problem\":\"{code}\"");
    if call == Call::Token {
        daemon.logged(&log).await;
    } else {
        daemon.logged("token acquired").await;
    }
    let answer = daemon.get(ANY).await;
    let is_ours = answer
        .body()
        .contains(&format!("\"urn:bondgate:problem:{code}\""));
    if is_ours != has_response {
        let _ = write!(wrong, "the response is {answer:?}; ");
    }
    if call == Call::Api {
        daemon.logged(&log).await;
    }
    let status = daemon.status().await;
    if status["upstreams"][0][key]["problem"]["code"] != code {
        let _ = write!(wrong, "the status has {}; ", status["problems"]);
    }
    let metrics = daemon.ask("/metrics").await;
    if !metrics.body().contains(&format!(
        "bondgate_problem{{upstream=\"cisco\",call=\"{key}\",code=\"{code}\"}} 1"
    )) {
        wrong += "the metrics do not have it; ";
    }
    let shown = status["upstreams"][0][key]["problem"]["code"].as_str();
    let response = match answer.body().split_once("urn:bondgate:problem:") {
        Some((_, named)) => named.split('"').next().unwrap(),
        None => "- the API's own response",
    };
    let places = [&*checked.join(", "), code, shown.unwrap_or("missing"), response];
    record(name, &format!("{call:?}"), code, places);
    wrong
}

/// The codes of the steps of a live check, without the warnings of the configuration's own.
pub(super) async fn checked_codes(setup: &Setup) -> Vec<String> {
    let mut command = bondgate();
    command
        .args(["check", "--live", "--json", "--config"])
        .arg(setup.config_file());
    command.envs(setup.environment.iter().cloned());
    let ended = finished(command).await;
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let steps = document["steps"].as_array().unwrap().iter();
    let steps = steps.filter(|step| step["upstream"] == "cisco" || step["step"] == "clock");
    let problems = steps.flat_map(|step| step["problems"].as_array().unwrap());
    let codes = problems.map(|problem| problem["code"].as_str().unwrap().to_owned());
    // An outbound proxy may refuse each of the two hosts.
    let mut codes: Vec<_> = codes.collect();
    codes.dedup();
    codes
}

/// A failure of the token request, where the identity service is `url`, trusted by `ca_pem`.
pub(super) async fn token_at(url: &str, ca_pem: &str, more: &str, code: &'static str) -> Injected {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::apart(&cisco, &cisco.url(), ca_pem, more);
    let setup = setup.environment(
        "BONDGATE__UPSTREAM__CISCO__TOKEN_URL",
        &format!("{url}/oauth2/default/v1/token"),
    );
    Injected {
        setup,
        call: Call::Token,
        code,
        has_response: true,
        _alive: vec![cisco],
    }
}

/// A failure of the API request, where the API is `url`, trusted by `ca_pem`.
pub(super) async fn api_at(url: &str, ca_pem: &str, more: &str, code: &'static str) -> Injected {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::apart(&cisco, url, ca_pem, more);
    Injected {
        setup,
        call: Call::Api,
        code,
        has_response: true,
        _alive: vec![cisco],
    }
}

/// The same failure for both calls.
pub(super) fn both(
    injections: &mut Vec<(String, Injection)>,
    name: &str,
    code: &'static str,
    more: &'static str,
    server: impl Fn() -> Pin<Box<dyn Future<Output = (String, String)> + Send>> + Send + Sync + Clone + 'static,
) {
    let other = server.clone();
    injections.push((
        name.to_owned(),
        Box::pin(async move {
            let (url, ca_pem) = server().await;
            token_at(&url, &ca_pem, more, code).await
        }),
    ));
    injections.push((
        name.to_owned(),
        Box::pin(async move {
            let (url, ca_pem) = other().await;
            api_at(&url, &ca_pem, more, code).await
        }),
    ));
}

/// Makes a certificate and its issuer; returns the chain to send, the key, and the PEM of what a client may trust.
pub(super) type Made = (Vec<rustls::pki_types::CertificateDer<'static>>, KeyPair, String);

pub(super) fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

fn issued(name: &str, params: &CertificateParams) -> (Made, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let pem = authority.pem();
    ((vec![certificate.der().clone()], key, String::new()), pem)
}

pub(super) fn trusted(params: &CertificateParams) -> Made {
    let ((chain, key, _), pem) = issued("trusted authority", params);
    (chain, key, pem)
}

fn self_signed(is_ca: bool) -> Made {
    let mut params = leaf(&["localhost"]);
    params.is_ca = if is_ca {
        IsCa::Ca(BasicConstraints::Unconstrained)
    } else {
        IsCa::ExplicitNoCa
    };
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (vec![certificate.der().clone()], key, String::new())
}

/// A server that presents a certificate and reads what follows.
pub(super) async fn tls_server((chain, key, ca_pem): Made) -> (String, String) {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (tls_server_with(config).await, ca_pem)
}

/// A server of this version of TLS that requires a client certificate.
async fn server_for_clients(version: &'static SupportedProtocolVersion) -> (String, String) {
    let (chain, key, ca_pem) = trusted(&leaf(&["localhost"]));
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (tls_server_with(config).await, ca_pem)
}

async fn tls_server_with(config: ServerConfig) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
            }
        }
    });
    format!("https://localhost:{}", address.await.port())
}

/// A server of plain TCP.
async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// A server that says these bytes once a client has said something, and then waits for the client's end.
async fn says(bytes: &'static [u8]) -> (String, String) {
    let address = serve(move |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(bytes).await;
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 4096])).await;
    });
    (
        format!("https://localhost:{}", address.await.port()),
        String::new(),
    )
}

pub(super) const NO_WAIT: &str = "timeout = { connect = \"500ms\" }";

fn response(code: u16, headers: &[(&str, &str)], body: &str) -> Kind {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Kind::Status {
        code,
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// A failure of the simulator's, for every request of a kind.
fn faulty(
    on: On,
    kind: Kind,
    call: Call,
    code: &'static str,
    has_response: bool,
    more: &'static str,
) -> Injection {
    Box::pin(async move {
        let cisco = simulator(Options::default()).await;
        cisco.script(Fault::on(on, kind).forever());
        let setup = Setup::open(&cisco, more);
        Injected {
            setup,
            call,
            code,
            has_response,
            _alive: vec![cisco],
        }
    })
}
