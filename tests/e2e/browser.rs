//! A real browser with a page that means harm: whatever the page tries, the daemon refuses it and Cisco
//! hears nothing. Beside it, what a person sees.
//!
//! The page comes from the test. It tries every way to send a request that a page has, waits until each
//! has come to its end, and tells the test of them all.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use bondgate::simulator::{Handle, Options};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::harness::{DEMO_SECRET, Daemon, Ended, PULL, PUSH, Setup, finished, relayed, simulator};

/// Every way of the page to send a request. One request comes of each; where the browser asks for leave
/// first (JSON, DELETE), that question is the request.
const WAYS: [&str; 12] = [
    "img",
    "script",
    "iframe",
    "no-cors fetch",
    "cors fetch",
    "form GET",
    "form POST",
    "text POST",
    "JSON POST",
    "DELETE",
    "beacon",
    "WebSocket",
];

/// A page that has not told of its attempts by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the browser's resolver sends to this machine: a name that was rebound, and an address and a name
/// that the machine could have in its network.
const RESOLVER: &str =
    "MAP rebound.example 127.0.0.1, MAP 10.1.2.3 127.0.0.1, MAP bondgate.internal 127.0.0.1";

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn nothing_that_a_page_of_another_port_tries_reaches_cisco() {
    attack("http://127.0.0.1", "", &here()).await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn nothing_that_a_page_of_another_name_tries_reaches_cisco() {
    attack("http://rebound.example", "", &here()).await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn nothing_that_a_page_tries_reaches_cisco_after_its_own_name_was_rebound() {
    let cisco = simulator(Options::default()).await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let origin = format!("http://rebound.example:{}", address.port());
    let origins = [(origin.clone(), 421)];
    let mut attacker = Attacker::new(&origins, true).await;
    let _browser = Browser::open(&format!("{origin}/"));

    // The page comes from where the daemon will be: so its origin stays, and what is there changes.
    attacker.serve_until_the_page_is_there(front).await;
    let mut daemon = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, "")
        .listener(&address.to_string(), "")
        .start()
        .await;
    attacker.begin.notify_one();

    let attempts = attacker.report().await;
    assert_all_refused(&cisco, &mut daemon, &origins, &attempts).await;
    // The page may read what its own origin answers: that is how it knows.
    for way in ["cors fetch", "JSON POST", "DELETE"] {
        for attempt in attempts.iter().filter(|attempt| attempt.way == way) {
            assert_eq!(attempt.outcome, "421", "{attempt:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn a_person_who_opens_a_callers_address_is_told_what_to_do_and_takes_no_message() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let port = daemon.address().port();
    for (host, told) in [
        ("127.0.0.1", "this address is for programs, not for browsers"),
        ("localhost", "this address is for programs, not for browsers"),
        // No secure context: a browser says less there, and of a navigation enough.
        ("10.1.2.3", "this address is for programs, not for browsers"),
        ("rebound.example", "not one of this listener's names"),
        ("0.0.0.0", "not one of this listener's names"),
    ] {
        let shown = shown(&format!("http://{host}:{port}{PULL}")).await;
        assert!(shown.stdout.contains(told), "{host}: {shown:?}");
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn nothing_that_a_page_tries_reaches_cisco_by_loopback_in_the_form_of_ipv6() {
    // 127.0.0.1 by an address that a browser does not take for a secure context: it sends no Sec-Fetch
    // fields there, and with a GET no Origin.
    attack("http://rebound.example", "", &[("[::ffff:127.0.0.1]", 421)]).await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run installs it"]
async fn nothing_that_a_page_tries_reaches_cisco_in_a_network_where_a_field_is_required() {
    // A listener for other machines is called by these; a browser says less to them than to loopback,
    // since they are no secure context: a GET for an image cannot be told from a program's. There the
    // listener needs a gate, or a field that a page cannot send unasked.
    let more = "hosts = [\"bondgate.internal\"]\nrequire_header = \"X-Bondgate\"";
    let hosts = [("10.1.2.3", 403), ("bondgate.internal", 403)];
    attack("http://rebound.example", more, &hosts).await;
}

/// The hosts by which a browser comes to a listener on localhost, and how each is refused.
fn here() -> Vec<(&'static str, u16)> {
    let mut hosts = vec![
        ("127.0.0.1", 403),
        ("localhost", 403),
        ("localhost.", 403),
        ("page.localhost", 403),
        ("0.0.0.0", 421),
        ("rebound.example", 421),
    ];
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        hosts.push(("[::1]", 403));
    }
    hosts
}

/// Lets a page that was loaded from `home`, on a port of its own, try all it can at a daemon by each of
/// these hosts, which are refused with this status. `more` is TOML of the daemon's listener.
async fn attack(home: &str, more: &str, hosts: &[(&str, u16)]) {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, "")
        .listener("localhost:0", more)
        .start()
        .await;
    let port = daemon.address().port();
    let origins: Vec<(String, u16)> = hosts
        .iter()
        .map(|(host, status)| (format!("http://{host}:{port}"), *status))
        .collect();
    let mut attacker = Attacker::new(&origins, false).await;
    let _browser = Browser::open(&format!("{home}:{}/", attacker.address.port()));

    let attempts = attacker.report().await;
    assert_all_refused(&cisco, &mut daemon, &origins, &attempts).await;
}

/// Asserts that the page tried everything, that all of it came to the daemon and none to Cisco, and that
/// the daemon still serves who may call it.
async fn assert_all_refused(
    cisco: &Handle,
    daemon: &mut Daemon,
    origins: &[(String, u16)],
    attempts: &[Attempt],
) {
    let wanted: BTreeSet<String> = origins
        .iter()
        .flat_map(|(origin, _)| [PULL, PUSH].map(|path| format!("{origin}{path}")))
        .flat_map(|url| WAYS.map(|way| format!("{way} {url}")))
        .collect();
    let tried = attempts
        .iter()
        .map(|attempt| format!("{} {}", attempt.way, attempt.url));
    assert_eq!(tried.collect::<BTreeSet<_>>(), wanted);
    for attempt in attempts {
        assert!(!matches!(&*attempt.outcome, "open" | "not sent"), "{attempt:?}");
    }

    let reached: Vec<String> = relayed(cisco)
        .iter()
        .map(|seen| format!("{} {} {:?}", seen.method, seen.target, seen.header("referer")))
        .collect();
    assert!(
        reached.is_empty(),
        "{} requests reached Cisco:\n{}",
        reached.len(),
        reached.join("\n"),
    );
    // An attempt that was blocked by the browser shows nothing of the daemon: each has to be an answer of
    // its own. There may be more, since browsers send what was answered with 421 once again.
    for path in [PULL, PUSH] {
        for status in [403, 421] {
            let line = format!(
                "\"path\":\"{path}\",\"status\":{status},\"origin\":\"bondgate\",\"sent\":false,\
                 \"error\":\"http_request_denied\""
            );
            let origins = origins.iter().filter(|(_, wanted)| *wanted == status).count();
            daemon.logged_times(&line, origins * WAYS.len()).await;
        }
    }
    assert!(relayed(cisco).is_empty());

    let call =
        format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nX-Bondgate: 1\r\nConnection: close\r\n\r\n");
    assert_eq!(daemon.send(call).await.status(), 200);
}

/// What became of one attempt of the page.
#[derive(Debug, Deserialize)]
struct Attempt {
    way: String,
    url: String,
    outcome: String,
}

/// Who serves the page and hears of its attempts; runs as long as the test's runtime.
struct Attacker {
    address: SocketAddr,
    page: String,
    /// Told when a page that waits has asked whether to begin.
    is_there: Arc<Notify>,
    /// Lets it begin.
    begin: Arc<Notify>,
    reports: mpsc::UnboundedReceiver<String>,
}

impl Attacker {
    /// An attacker whose page goes to these origins.
    async fn new(origins: &[(String, u16)], waits: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origins: Vec<&str> = origins.iter().map(|(origin, _)| &**origin).collect();
        let settings = json!({
            "origins": origins,
            "paths": [PULL, PUSH],
            "ways": WAYS,
            "home": format!("http://{address}"),
            "waits": waits,
        });
        let page = include_str!("browser/page.html").replace("SETTINGS", &settings.to_string());
        let (sender, reports) = mpsc::unbounded_channel();
        let (is_there, begin) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, asked) = (is_there.clone(), begin.clone());
        let shown = page.clone();
        let router = Router::new()
            .route("/", get(move || async move { Html(shown) }))
            .route(
                "/begin",
                get(move || async move {
                    told.notify_one();
                    asked.notified().await;
                }),
            )
            .route(
                "/report",
                post(move |report: String| async move {
                    let _ = sender.send(report);
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            page,
            is_there,
            begin,
            reports,
        }
    }

    /// Serves the page from elsewhere too, until its script runs; then nothing is there any more.
    async fn serve_until_the_page_is_there(&self, front: TcpListener) {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
            self.page.len(),
            self.page
        );
        let mut connections = JoinSet::new();
        let serve = async {
            loop {
                let (mut stream, _) = front.accept().await.unwrap();
                let answer = answer.clone();
                connections.spawn(async move {
                    // A browser opens connections in advance, too, and may never use them.
                    if matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        };
        let served = async {
            tokio::select! {
                () = serve => {}
                () = self.is_there.notified() => {}
            }
        };
        let served = tokio::time::timeout(PATIENCE, served).await;
        served.expect("the page asks whether to begin");
    }

    /// What became of the page's attempts, when all have ended.
    async fn report(&mut self) -> Vec<Attempt> {
        let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        let report = report.expect("the page tells of its attempts").unwrap();
        serde_json::from_str(&report).unwrap()
    }
}

/// Chromium with a page open, in a profile of its own; ended when dropped.
struct Browser {
    child: Child,
    /// Ends when the last of its processes has.
    reader: Option<JoinHandle<()>>,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = chromium(&profile);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        });
        Self {
            child,
            reader: Some(reader),
            _profile: profile,
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its helpers end by themselves, and write to the profile until they do.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A page as a person sees it, when its script has run.
async fn shown(url: &str) -> Ended {
    let profile = tempfile::tempdir().unwrap();
    let mut command = chromium(&profile);
    // Time of its own, which stands still while the page waits for an answer.
    command.args(["--virtual-time-budget=1000", "--dump-dom", url]);
    finished(command).await
}

fn chromium(profile: &TempDir) -> Command {
    let mut command = Command::new("chromium");
    command.env("HOME", profile.path()).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // The browser's own protection of this machine must not do our work.
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
        &format!("--host-resolver-rules={RESOLVER}"),
        &format!("--user-data-dir={}", profile.path().display()),
    ]);
    command
}
