//! A bundle of a run with secrets in each place, and in each encoding.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::{Client, Fault, Handle, Kind, On, Options, Then};
use http::StatusCode;

use super::{assert_holds, bundle_of, missing};
use crate::confidential;
use crate::corporate::Corporate;
use crate::harness::{DEMO_SECRET, Daemon, PULL, PUSH, Setup, send, simulator};

/// Each secret of the test of secrets; as they are, all of them are searched for in the bundle.
const KEY: &str = "callers+key %&=/\u{e4}1";
const OTHER_KEY: &str = "wrong+key %&=/\u{e4}2";
const PASSWORD: &str = "proxy-pass-word-3";
const VARIABLE: &str = "proxy-of-environment-4";
const BODY: &str = "ticket+body %&=/\u{e4}5";
const PUSHED: &str = "pushed+body %&=/\u{e4}6";
const QUERY: &str = "query-secret-7";
const TOKEN_QUERY: &str = "token-query-secret-8";
const AUTHORIZATION: &str = "callers-own-bearer-9";
const REFUSED_BODY: &str = "upstream+error %&=/\u{e4}10";
const SECRET: &str = "client+secret %&=/\u{e4}11";
const REFUSED_SECRET: &str = "refused+secret %&=/\u{e4}12";

#[tokio::test]
async fn a_bundle_has_every_part_of_a_run_and_none_of_its_secrets_in_any_encoding() {
    let options = Options {
        clients: vec![Client {
            id: "demo".to_owned(),
            secret: SECRET.to_owned(),
        }],
        ..Options::default()
    };
    let (cisco, proxy) = (simulator(options).await, Corporate::start().await);
    let mut daemon = start(&cisco, &proxy).await;
    send_secrets(&cisco, &mut daemon).await;

    // A manual may have the secret in the URL.
    let file = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("/v1/token\"").unwrap();
    let with_query = format!("{before}/v1/token?client_secret={TOKEN_QUERY}\"{after}");
    std::fs::write(&file, with_query).unwrap();
    let in_variable = format!("http://user:{VARIABLE}@127.0.0.1:9");
    let (bundle, ended) = bundle_of(&daemon, &[("HTTPS_PROXY", &in_variable)]).await;

    assert_clean(&bundle);
    assert_complete(&bundle, &daemon);
    assert_eq!(missing(&bundle), ["- nothing"], "{ended:?}");
    assert!(bundle.contains(": no line holds one."), "{bundle}");
    for part in [
        "wrote bundle (",
        "contains: program, machine, configuration, check, status, problems, last hour, spool, log, metrics\n",
        "read it before you send it",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
}

/// A daemon with one upstream that works and one whose secret is refused.
async fn start(cisco: &Handle, proxy: &Corporate) -> Daemon {
    let setup = Setup::new();
    let keys = setup.file("callers", &format!("snow:{KEY}\n"));
    let spool = setup.directory.path().join("spool");
    let proxied = format!("proxy = \"http://user:{PASSWORD}@{}\"", proxy.address);
    let mut daemon = setup
        .upstream("cisco", cisco, "demo", SECRET, &proxied)
        .upstream("refused", cisco, "demo", REFUSED_SECRET, "wait = \"100ms\"")
        .listener(
            "127.0.0.1:0",
            &format!("upstream = \"cisco\"\nkeys = {{ file = {keys:?} }}"),
        )
        .listener("127.0.0.1:0", "upstream = \"refused\"")
        .and(&format!("[spool]\ndirectory = {spool:?}\n"))
        .start_without_token()
        .await;
    daemon.logged("token acquired").await;
    daemon.logged("client-secret-refused").await;
    daemon
}

/// Sends a secret to each place that a caller and Cisco can send one to.
async fn send_secrets(cisco: &Handle, daemon: &mut Daemon) {
    cisco.put_raw_message("demo", message(BODY));
    let [listener, refused] = daemon.addresses()[..] else {
        panic!("two listeners")
    };
    let basic = basic();
    let request = |authorization: &str, request: &str, body: &str| {
        format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let ask =
        async |line: &str, body: &str| send(listener, request(&format!("Basic {basic}"), line, body)).await;
    let pulled = ask(&format!("GET {PULL}?a={QUERY}"), "").await;
    assert!(
        pulled.status() == 200 && pulled.body().contains("ticket+body"),
        "{pulled:?}"
    );
    daemon.logged("\"pull\":\"ticket\"").await;
    let wrong = BASE64_STANDARD.encode(format!("snow:{OTHER_KEY}"));
    for authorization in [format!("Basic {wrong}"), format!("Bearer {AUTHORIZATION}")] {
        let line = format!("GET {PULL}?a={QUERY}");
        assert_eq!(
            send(listener, request(&authorization, &line, "")).await.status(),
            401
        );
    }
    assert_eq!(ask(&format!("GET /nowhere?a={QUERY}"), "").await.status(), 403);
    assert_eq!(ask(&format!("GET {PUSH}?a={QUERY} x"), "").await.status(), 400);
    for kind in [
        Kind::Reset,
        Kind::Half { then: Then::Close },
        Kind::Status {
            code: 500,
            headers: Vec::new(),
            body: message(REFUSED_BODY),
        },
        Kind::status(StatusCode::FORBIDDEN),
    ] {
        cisco.script(Fault::on(On::Push, kind));
        ask(&format!("POST {PUSH}?a={QUERY}"), &message(PUSHED)).await;
    }
    let plain = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(send(refused, plain).await.status(), 503);
    daemon.logged_times("\"message\":\"request completed\"", 8).await;
    daemon.logged("pulled message delivered").await;
}

fn message(text: &str) -> String {
    serde_json::json!({ "Calls": { "CustCallID": text } }).to_string()
}

fn basic() -> String {
    BASE64_STANDARD.encode(format!("snow:{KEY}"))
}

fn assert_clean(bundle: &str) {
    for secret in [
        KEY,
        OTHER_KEY,
        PASSWORD,
        VARIABLE,
        BODY,
        PUSHED,
        QUERY,
        TOKEN_QUERY,
        AUTHORIZATION,
        REFUSED_BODY,
        SECRET,
        REFUSED_SECRET,
    ] {
        for spelling in confidential::spellings(secret) {
            let found = memchr_find(bundle.as_bytes(), &spelling);
            assert!(
                !found,
                "{} of {secret} is in\n{bundle}",
                String::from_utf8_lossy(&spelling)
            );
        }
    }
    assert!(
        !bundle.contains(&basic()) && !bundle.contains("BEGIN "),
        "{bundle}"
    );
}

/// Each section has what the run left there: an empty bundle would be clean, too.
fn assert_complete(bundle: &str, daemon: &Daemon) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let address = daemon.address().to_string();
    for (title, parts) in [
        (
            "Program",
            &[concat!("version: ", env!("CARGO_PKG_VERSION"), " (commit ")][..],
        ),
        (
            "Machine",
            &[
                kernel.trim(),
                "HTTPS_PROXY",
                "open files of the daemon",
                "disk of the spool",
            ],
        ),
        (
            "Configuration",
            &[
                "upstream.cisco.client_id = \"demo\"",
                "upstream.cisco.proxy = [redacted]",
                "/v1/token?[redacted]\"",
                "cisco.secret",
                "bondgate.toml:",
            ],
        ),
        (
            "Check",
            &["bondgate.toml is valid", "descriptors", "spool", "\nexit code 0"],
        ),
        (
            "Status",
            &[
                "\"state\": \"fresh\"",
                "\"code\": \"client-secret-refused\"",
                &address,
            ],
        ),
        (
            "Problems",
            &["ok: cisco (", "failed: refused: ", "[client-secret-refused]"],
        ),
        (
            "Last hour",
            &[
                ", 2 times: WARN request completed [caller-key-refused]",
                "once: WARN request completed [path-not-allowed]",
                "INFO token acquired",
                "ERROR token refresh failed, no valid token [client-secret-refused]",
                "caller=\"snow\"",
                "status=500",
            ],
        ),
        ("Spool", &["messages: 1", " bytes, delivered at 20", PULL]),
        (
            "Log",
            &[
                "\"message\":\"starting\"",
                "\"pull\":\"ticket\"",
                "\"level\":\"TRACE\"",
            ],
        ),
        (
            "Metrics",
            &["bondgate_requests_total{upstream=\"cisco\",status=\"401\"} 2"],
        ),
    ] {
        assert_holds(bundle, title, parts);
    }
}

fn memchr_find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

#[tokio::test]
async fn a_line_that_holds_a_secret_is_left_out() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
    let keys = setup.file("callers", "snow:key-in-a-path\n");
    let listener = format!("keys = {{ file = {keys:?} }}");
    let mut daemon = setup.listener("127.0.0.1:0", &listener).start().await;
    for path in ["/x/key-in-a-path", "/x/%6bey-in-a-path", "/x/other"] {
        assert_eq!(daemon.get(path).await.status(), 401);
    }
    daemon.logged_times("/x/", 3).await;
    let (bundle, ended) = bundle_of(&daemon, &[]).await;
    assert!(!bundle.contains("ey-in-a-path"), "{bundle}");
    assert!(bundle.contains("lines hold one and are left out."), "{bundle}");
    assert_holds(
        &bundle,
        "Log",
        &[
            "/x/other",
            "[line left out: it holds a secret of the configuration]",
        ],
    );
    assert_eq!(ended.code, Some(0));
}
