//! Failures of a call, injected one by one with real sockets: the check, the log, the status and the response each name the
//! one code, for the token request and for the API request alike.

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

#[tokio::test]
async fn each_failure_of_tls_is_named_in_each_place() {
    type Row = (&'static str, &'static str, fn() -> Made);
    let mut all = Vec::new();
    let certificates: [Row; 8] = [
        ("expired", "certificate-expired", || {
            let mut params = leaf(&["localhost"]);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
            trusted(&params)
        }),
        ("not yet valid", "certificate-not-yet-valid", || {
            let mut params = leaf(&["localhost"]);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2091, 1, 1));
            trusted(&params)
        }),
        ("wrong name", "certificate-wrong-name", || {
            trusted(&leaf(&["api.example", "2001:db8::1"]))
        }),
        ("self-signed", "certificate-self-signed", || self_signed(false)),
        ("an authority's", "certificate-is-ca", || {
            let (chain, key, _) = self_signed(true);
            let pem = bondgate_pem(&chain[0]);
            (chain, key, pem)
        }),
        ("unknown authority", "unknown-ca", || {
            issued("Example Corp Root CA", &leaf(&["localhost"])).0
        }),
        ("Zscaler", "tls-intercepted", || {
            issued("Zscaler Root CA", &leaf(&["localhost"])).0
        }),
        ("Fortinet", "tls-intercepted", || {
            issued("FG100F FortiGate CA", &leaf(&["localhost"])).0
        }),
    ];
    for (name, code, make) in certificates {
        both(&mut all, name, code, "", move || Box::pin(tls_server(make())));
    }
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let name = format!("client certificate, {name}");
        both(&mut all, &name, "tls-client-certificate-wanted", "", move || {
            Box::pin(server_for_clients(version))
        });
    }
    let bytes: [(&str, &'static str, &'static [u8]); 4] = [
        (
            "plain HTTP",
            "tls-not-spoken",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ),
        ("old version", "tls-version-old", &[0x15, 3, 1, 0, 2, 2, 70]),
        (
            "no common cipher",
            "tls-no-common-cipher",
            &[0x15, 3, 3, 0, 2, 2, 40],
        ),
        ("unknown name", "tls-alert", &[0x15, 3, 3, 0, 2, 2, 112]),
    ];
    for (name, code, bytes) in bytes {
        both(&mut all, name, code, "", move || Box::pin(says(bytes)));
    }
    both(&mut all, "silent", "tls-silent", NO_WAIT, || Box::pin(says(b"")));
    assert_each_is_reported(all).await;
}

fn bondgate_pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn each_failure_of_the_network_is_named_in_each_place() {
    let mut all = Vec::new();
    both(&mut all, "refused", "connection-refused", NO_WAIT, || {
        Box::pin(async {
            // Bound and not listening: nobody else gets the port.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let url = format!("https://{}", socket.local_addr().unwrap());
            std::mem::forget(socket);
            (url, String::new())
        })
    });
    both(&mut all, "reset", "connection-reset", NO_WAIT, || {
        Box::pin(async {
            let address = serve(|stream| async move {
                let _ = stream.set_zero_linger();
            });
            (
                format!("https://localhost:{}", address.await.port()),
                String::new(),
            )
        })
    });
    both(&mut all, "unknown name", "name-not-found", "", || {
        Box::pin(async { ("https://no-such-host.invalid".to_owned(), String::new()) })
    });
    both(&mut all, "black hole", "connection-timed-out", NO_WAIT, || {
        Box::pin(black_hole())
    });
    assert_each_is_reported(all).await;
}

/// A listener whose queue is full: the system drops what else connects.
async fn black_hole() -> (String, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        held.push(stream.unwrap());
    }
    std::mem::forget((listener, held));
    (format!("https://{address}"), String::new())
}

/// An outbound proxy that says these bytes to CONNECT, each time.
async fn proxy_that_says(bytes: &'static [u8]) -> String {
    let address = serve(move |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(bytes).await;
        if bytes.is_empty() {
            let _ = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 4096])).await;
        }
    });
    address.await.to_string()
}

#[tokio::test]
async fn each_failure_of_an_outbound_proxy_is_named_in_each_place() {
    let mut all: Vec<(String, Injection)> = Vec::new();
    let refusals: [(&str, &'static str, &'static [u8], &str); 10] = [
        ("no login", "proxy-auth-needed", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", ""),
        ("wrong login", "proxy-auth-refused", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", "u:wrong@"),
        ("NTLM", "proxy-auth-ntlm-only", b"HTTP/1.1 407 P\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n", ""),
        ("NTLM with login", "proxy-auth-ntlm-only", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Negotiate, NTLM\r\nContent-Length: 0\r\n\r\n", "u:p@"),
        ("forbidden", "proxy-host-forbidden", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ""),
        ("bad gateway", "proxy-cannot-reach", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ""),
        ("redirect", "proxy-redirects", b"HTTP/1.1 302 Found\r\nLocation: https://login.corp/?u=x\r\nContent-Length: 0\r\n\r\n", ""),
        ("no HTTP", "proxy-not-http", b"\x05\x00 SOCKS\r\n\r\n", ""),
        ("silent", "proxy-silent", b"", ""),
        ("closed", "proxy-closed", b"HTTP/1.1 200", ""),
    ];
    for (name, code, bytes, login) in refusals {
        let login = login.to_owned();
        all.push((
            name.to_owned(),
            Box::pin(async move {
                let more = format!(
                    "proxy = \"http://{login}{}\"\n{NO_WAIT}",
                    proxy_that_says(bytes).await
                );
                let cisco = simulator(Options::default()).await;
                let setup = Setup::open(&cisco, &more);
                Injected {
                    setup,
                    call: Call::Token,
                    code,
                    has_response: true,
                    _alive: vec![cisco],
                }
            }),
        ));
    }
    all.push((
        "nobody".to_owned(),
        Box::pin(async move {
            let cisco = simulator(Options::default()).await;
            let setup = Setup::open(&cisco, &format!("proxy = \"http://127.0.0.1:1\"\n{NO_WAIT}"));
            Injected {
                setup,
                call: Call::Token,
                code: "proxy-unreachable",
                has_response: true,
                _alive: vec![cisco],
            }
        }),
    ));
    assert_each_is_reported(all).await;
}

#[tokio::test]
async fn a_login_is_sent_once_to_a_proxy_that_offers_no_basic() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counter = logins.clone();
    let proxy = serve(move |mut stream| {
        let counter = counter.clone();
        async move {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
            counter.fetch_add(head.matches("proxy-authorization").count(), Ordering::Relaxed);
            let refusal = "HTTP/1.1 407 P\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(refusal.as_bytes()).await;
        }
    });
    let proxy = format!("proxy = \"http://u:p@{}\"", proxy.await);
    let cisco = simulator(Options::default()).await;
    assert_eq!(
        checked_codes(&Setup::open(&cisco, &proxy)).await,
        ["proxy-auth-ntlm-only"]
    );
    assert_eq!(logins.swap(0, Ordering::Relaxed), 1);
    let mut daemon = Setup::open(&cisco, &proxy).start_without_token().await;
    daemon.logged("\"problem\":\"proxy-auth-ntlm-only\"").await;
    assert_eq!(logins.load(Ordering::Relaxed), 1);
}

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

#[expect(clippy::too_many_lines, reason = "it is one table")]
#[tokio::test]
async fn each_failure_of_the_identity_service_is_named_in_each_place() {
    let error = |code: &str, text: &str| format!("{{\"error\":\"{code}\",\"error_description\":\"{text}\"}}");
    let okta = |text: &str| {
        format!("{{\"errorCode\":\"invalid_client\",\"errorSummary\":\"{text}\",\"errorCauses\":[]}}")
    };
    let json = [("content-type", "application/json")];
    let mut all: Vec<(String, Injection)> = Vec::new();
    let mut add = |name: &str, kind: Kind, code: &'static str| {
        all.push((
            name.to_owned(),
            faulty(On::Token, kind, Call::Token, code, true, ""),
        ));
    };
    add(
        "secret",
        response(
            401,
            &json,
            &error(
                "invalid_client",
                "The client secret supplied for a confidential client is invalid.",
            ),
        ),
        "client-secret-refused",
    );
    add(
        "client id",
        response(400, &json, &okta("Invalid value for 'client_id' parameter.")),
        "client-id-unknown",
    );
    add(
        "no credentials",
        response(401, &json, &okta("No client credentials found.")),
        "credentials-not-found",
    );
    add(
        "two credentials",
        response(
            400,
            &json,
            &error("invalid_request", "Cannot supply multiple client credentials."),
        ),
        "credentials-twice",
    );
    add(
        "grant",
        response(400, &json, &error("unsupported_grant_type", "no")),
        "grant-refused",
    );
    add(
        "grant of client",
        response(
            403,
            &json,
            &error(
                "unauthorized_client",
                "The client is not authorized to use the provided grant type.",
            ),
        ),
        "grant-refused",
    );
    add(
        "scope",
        response(
            400,
            &json,
            &error("invalid_scope", "One or more scopes are not configured."),
        ),
        "scope-refused",
    );
    add(
        "policy",
        response(403, &json, &error("access_denied", "Policy evaluation failed.")),
        "policy-refused",
    );
    add(
        "not active",
        response(
            401,
            &json,
            &error("invalid_client", "The client is not active yet."),
        ),
        "credentials-inactive",
    );
    add(
        "not authorized",
        response(
            403,
            &json,
            &error("access_denied", "The client is not authorized."),
        ),
        "credentials-inactive",
    );
    add(
        "refused",
        response(401, &json, &error("invalid_client", "no")),
        "credentials-refused",
    );
    add(
        "refused without a body",
        response(401, &[], ""),
        "credentials-refused",
    );
    add(
        "error in 200",
        response(200, &json, &error("invalid_scope", "no")),
        "scope-refused",
    );
    add(
        "wrong path",
        response(404, &json, "{\"message\":\"not found\"}"),
        "token-path-wrong",
    );
    add("method", response(405, &json, "{}"), "token-path-wrong");
    add("transparent proxy", response(407, &[], ""), "proxy-transparent");
    add(
        "no lifetime",
        response(200, &json, "{\"access_token\":\"t\",\"expires_in\":0}"),
        "token-lifetime-short",
    );
    add("media type", response(415, &json, "{}"), "token-request-refused");
    add(
        "redirect",
        response(302, &[("location", "https://sso.corp/login?x=1")], ""),
        "token-redirect",
    );
    add(
        "limited",
        response(429, &[("retry-after", "1")], ""),
        "token-rate-limited",
    );
    add("down", response(503, &json, "{}"), "token-unavailable");
    add(
        "page 403",
        response(403, &[("content-type", "text/html")], "<title>Blocked</title>"),
        "token-page",
    );
    add("page 503", Kind::Html { status: 503 }, "token-page");
    add("page 200", Kind::Html { status: 200 }, "login-page");
    add("empty", Kind::Empty, "token-response-empty");
    add(
        "form",
        response(200, &[], "access_token=x&token_type=bearer"),
        "token-response-not-json",
    );
    add("text", response(200, &[], "ok"), "token-response-not-json");
    add("half JSON", Kind::TruncatedJson, "token-response-unusable");
    add("no token", Kind::NoAccessToken, "token-response-unusable");
    add("bad token", Kind::BadToken, "token-response-unusable");
    add(
        "other type",
        response(200, &json, "{\"access_token\":\"x\",\"token_type\":\"mac\"}"),
        "token-response-unusable",
    );
    add(
        "gzip",
        response(200, &[("content-encoding", "gzip")], "not json"),
        "token-response-encoded",
    );
    add(
        "no HTTP",
        Kind::Raw {
            bytes: "hello\r\n\r\n".into(),
        },
        "token-response-not-http",
    );
    add("closed", Kind::Close, "token-response-cut");
    add("reset", Kind::Reset, "token-response-cut");
    add("half", Kind::Half { then: Then::Close }, "token-response-cut");
    assert_each_is_reported(all).await;
}

#[tokio::test]
async fn each_failure_of_the_api_is_named_in_each_place() {
    let json = [("content-type", "application/json")];
    let mut all: Vec<(String, Injection)> = Vec::new();
    let mut add = |name: &str, kind: Kind, code: &'static str, has_response: bool, more: &'static str| {
        // The check asks for the TSP codes, a caller for something else.
        all.push((
            name.to_owned(),
            Box::pin(async move {
                let cisco = simulator(Options::default()).await;
                cisco.script(Fault::on(On::TspCodes, kind.clone()).forever());
                cisco.script(Fault::on(On::Path(ANY.to_owned()), kind).forever());
                let setup = Setup::open(&cisco, more);
                Injected {
                    setup,
                    call: Call::Api,
                    code,
                    has_response,
                    _alive: vec![cisco],
                }
            }) as Injection,
        ));
    };
    add(
        "limited",
        response(429, &json, "{}"),
        "api-rate-limited",
        false,
        "",
    );
    add("down", response(503, &json, "{}"), "api-unavailable", false, "");
    add("596", response(596, &json, "{}"), "api-unavailable", false, "");
    add("page", Kind::Html { status: 502 }, "api-page", false, "");
    add("page 200", Kind::Html { status: 200 }, "login-page", false, "");
    add(
        "refused token",
        response(401, &json, "{}"),
        "api-rejects-token",
        false,
        "",
    );
    add(
        "transparent proxy",
        response(407, &json, "{}"),
        "proxy-transparent",
        false,
        "",
    );
    add(
        "refused by Mashery",
        response(403, &[("x-mashery-error-code", "ERR_403_NOT_AUTHORIZED")], ""),
        "api-rejects-token",
        false,
        "",
    );
    add(
        "limited by Mashery",
        response(
            403,
            &[("x-mashery-error-code", "ERR_403_DEVELOPER_OVER_RATE")],
            "",
        ),
        "api-rate-limited",
        false,
        "",
    );
    add(
        "redirect",
        response(302, &[("location", "https://sso.corp/")], ""),
        "api-redirect",
        false,
        "",
    );
    add(
        "hang",
        Kind::Hang,
        "api-silent",
        true,
        "timeout = { head = \"1s\" }\nwait = \"500ms\"",
    );
    add("closed", Kind::Close, "api-response-cut", true, "");
    add(
        "no HTTP",
        Kind::Raw {
            bytes: "hello\r\n\r\n".into(),
        },
        "api-response-not-http",
        true,
        "",
    );
    assert_each_is_reported(all).await;
}

/// What a check alone can say: a caller's own request with such a response says nothing about the API.
#[tokio::test]
async fn the_check_names_what_the_api_says_of_its_request() {
    for (on, status, code, exit) in [
        (On::TspCodes, 401, "api-rejects-token", 7),
        (On::TspCodes, 403, "api-codes-forbidden", 0),
        (On::TspCodes, 404, "api-path-wrong", 7),
        (On::TspCodes, 418, "api-unexpected-status", 7),
        // It works again without a change, and does not work now.
        (On::TspCodes, 503, "api-unavailable", 7),
        (On::TspCodes, 429, "api-rate-limited", 7),
        (On::Token, 503, "token-unavailable", 6),
    ] {
        let cisco = simulator(Options::default()).await;
        cisco.script(Fault::on(on, response(status, &[], "")).forever());
        let setup = Setup::open(&cisco, "");
        assert_eq!(checked_codes(&setup).await, [code]);
        let mut command = bondgate();
        command
            .args(["check", "--live", "--config"])
            .arg(setup.config_file());
        assert_eq!(finished(command).await.code, Some(exit), "{code}");
    }
    let cisco = simulator(Options::default()).await;
    let more = "preset = \"none\"\nrules = \"any\"";
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, more)
        .listener("127.0.0.1:0", "");
    assert_eq!(checked_codes(&setup).await, ["api-not-checked"]);
}
