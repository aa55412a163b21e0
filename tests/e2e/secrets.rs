//! No secret and no token is in a log, a response,
//! the metrics or the status, whatever fails and however much is logged.

use std::os::unix::process::ExitStatusExt as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::{Client, Endpoint, Fault, Handle, Kind, On, Options, Simulator, Then};
use http::StatusCode;

use crate::harness::{Daemon, PULL, PUSH, Setup, send, simulator};

const ID: &str = "client";
const SECRET: &str = "hunter2+%&=/ \u{fc}";
/// The same as form encoding writes it, and as other percent encodings would.
const ENCODED: [&str; 3] = [
    "hunter2%2B%25%26%3D%2F+%C3%BC",
    "hunter2%2B%25%26%3D%2F%20%C3%BC",
    "hunter2+%25&=/%20%C3%BC",
];

/// Every way in which a token request goes wrong here, each at an upstream of its own.
fn token_faults() -> Vec<(&'static str, Kind)> {
    let status = |code, name: &str, value: &str, body: &str| Kind::Status {
        code,
        headers: vec![(name.to_owned(), value.to_owned())],
        body: body.to_owned(),
    };
    let [form, strict, loose] = ENCODED;
    let echo = |text: &str| {
        let reply = serde_json::json!({ "error": "invalid_client", "error_description": text });
        let kind = "application/json";
        status(400, "content-type", kind, &reply.to_string())
    };
    let location = format!("https://localhost:1/token?client_secret={form}");
    vec![
        ("reset", Kind::Reset),
        ("close", Kind::Close),
        ("hang", Kind::Hang),
        ("half", Kind::Half { then: Then::Reset }),
        ("empty", Kind::Empty),
        ("truncated", Kind::TruncatedJson),
        ("tokenless", Kind::NoAccessToken),
        ("badtoken", Kind::BadToken),
        ("html", Kind::Html { status: 200 }),
        (
            "limited",
            Kind::RateLimited {
                retry_after: Some(30),
                reset_in: 30,
            },
        ),
        (
            "raw",
            Kind::Raw {
                bytes: "no HTTP at all\r\n\r\n".into(),
            },
        ),
        ("unavailable", Kind::status(StatusCode::SERVICE_UNAVAILABLE)),
        ("redirect", status(307, "location", &location, "")),
        ("plain_echo", echo(SECRET)),
        ("form_echo", echo(form)),
        ("strict_echo", echo(strict)),
        ("loose_echo", echo(loose)),
    ]
}

async fn cisco(secret: &str) -> Handle {
    simulator(Options {
        clients: vec![Client {
            id: ID.to_owned(),
            secret: secret.to_owned(),
        }],
        ..Options::default()
    })
    .await
}

/// One working upstream, one upstream per fault, and all output of the daemon with them.
async fn all_output(level: &str) -> (Vec<String>, Vec<String>) {
    let query = "client_auth = \"query\"\nwait = \"100ms\"";
    let good = cisco(SECRET).await;
    let mut setup = Setup::new()
        .upstream("good", &good, ID, SECRET, query)
        .listener("127.0.0.1:0", "upstream = \"good\"")
        .environment("BONDGATE_LOG", level);
    let mut keep = Vec::new();
    for (name, kind) in token_faults() {
        let cisco = cisco(SECRET).await;
        cisco.script(Fault::on(On::Token, kind).forever());
        setup = setup
            .upstream(name, &cisco, ID, SECRET, query)
            .listener("127.0.0.1:0", &format!("upstream = \"{name}\""));
        keep.push(cisco);
    }
    // Never run: its socket takes connections and never starts TLS.
    let silent = Simulator::bind(Options::default()).await.unwrap();
    let closed = silent.handle();
    drop(silent);
    let other = cisco("another").await;
    for (name, cisco) in [("refused", &closed), ("wrong", &other), ("untrusted", &good)] {
        setup = setup
            .upstream(name, cisco, ID, SECRET, query)
            .listener("127.0.0.1:0", &format!("upstream = \"{name}\""));
    }
    let wrong_ca = setup.file("wrong-ca.pem", other.ca_pem());
    let mut daemon = setup
        .environment(
            "BONDGATE__UPSTREAM__UNTRUSTED__CA_FILE",
            wrong_ca.to_str().unwrap(),
        )
        .start_without_token()
        .await;
    daemon.logged("token acquired").await;
    daemon
        .logged_times("no valid token", token_faults().len() + 3)
        .await;

    let mut output = Vec::new();
    for address in daemon.addresses() {
        output.push(send(address, request("GET", PULL)).await.0);
    }
    assert!(output[0].starts_with("HTTP/1.1 200"), "{}", output[0]);
    assert!(
        output[1..]
            .iter()
            .all(|response| response.starts_with("HTTP/1.1 503"))
    );
    for kind in [
        Kind::Reset,
        Kind::Close,
        Kind::Empty,
        Kind::Half { then: Then::Close },
        Kind::status(StatusCode::FORBIDDEN),
    ] {
        good.script(Fault::on(On::Push, kind));
        output.push(daemon.send(request("POST", PUSH)).await.0);
    }
    for path in [
        "/metrics",
        "/status.json",
        "/readyz",
        "/readyz?token",
        "/recent",
        "/log",
        "/",
    ] {
        output.push(daemon.ask(path).await.0);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    output.extend(daemon.log());

    let seen = good.seen();
    let api = seen.iter().filter(|request| request.endpoint != Endpoint::Token);
    let bearers = api.flat_map(|request| request.header("authorization"));
    let mut secrets: Vec<_> = bearers
        .map(|bearer| bearer.trim_start_matches("Bearer ").to_owned())
        .collect();
    assert!(!secrets.is_empty());
    secrets.push(SECRET.to_owned());
    secrets.extend(ENCODED.map(str::to_owned));
    secrets.push(BASE64_STANDARD.encode(SECRET));
    secrets.push(BASE64_STANDARD.encode(format!("{ID}:{SECRET}")));
    secrets.extend(ENCODED.map(|encoded| BASE64_STANDARD.encode(format!("{ID}:{encoded}"))));
    // The part that every way of writing it has.
    secrets.push("hunter2".to_owned());
    (output, secrets)
}

fn request(method: &str, path: &str) -> String {
    let more = if method == "POST" {
        "Content-Length: 2\r\n\r\n{}"
    } else {
        "\r\n"
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}")
}

async fn assert_nothing_leaks(level: &str) {
    let (output, secrets) = all_output(level).await;
    assert!(output.iter().any(|line| line.contains("\"level\":\"DEBUG\"")));
    for line in &output {
        // JSON may write the same character in two ways.
        let plain = line.replace("\\u00fc", "\u{fc}");
        for secret in &secrets {
            assert!(!plain.contains(secret.as_str()), "{secret} is in {line}");
        }
    }
}

#[tokio::test]
async fn a_daemon_leaves_no_core_and_shows_no_other_process_its_memory() {
    let cisco = simulator(Options::default()).await;
    let mut command = std::process::Command::new("sh");
    let setup = Setup::at(&cisco);
    let program = format!(
        "ulimit -c unlimited; exec {} run --config {}",
        env!("CARGO_BIN_EXE_bondgate"),
        setup.config_file().display()
    );
    command.args(["-c", &program]).env_clear();
    let mut daemon = Daemon::spawn(command, setup.into_file());
    daemon.logged("token acquired").await;

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    daemon.signal("ABRT");
    assert!(!daemon.ended().await.core_dumped());
}

#[tokio::test]
async fn no_secret_is_in_the_output_at_level_trace() {
    assert_nothing_leaks("trace").await;
}

#[tokio::test]
async fn no_secret_is_in_the_output_when_every_library_logs_at_trace() {
    assert_nothing_leaks("trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,h2=trace").await;
}
