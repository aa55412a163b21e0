//! The clients of the field, as they come: what they send gets to Cisco, and what Cisco answers gets to them.
//!
//! A wiretap stands between client and daemon: it shows that the client did what its test is named for.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Options, Seen};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::harness::{Daemon, PULL, PUSH, Setup, TSP_CODES, simulator};
use wiretap::Wiretap;

mod wiretap;

/// Text that any re-encoding would change.
const MESSAGE: &str = "{\"Calls\": {\"CustCallID\":\"INC1\",  \"Remarks\":\"Gerät \\u00e4 ✓\"}, \"n\": 1.0}";
const EMPTY: &str = "No messages available to Send";

/// A client that runs longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn curl_pulls_with_http_1_0() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);

    let output = curl(&["--http1.0", &field.url(PULL)]).await;

    assert_eq!(text(&output.stdout), MESSAGE);
    assert!(field.tap.heard().contains(" HTTP/1.0\r\n"));
}

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn curl_pulls_again_on_a_new_connection_after_a_message() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);

    let output = curl(&["--http1.1", &field.url(PULL), &field.url(PULL)]).await;

    let output = text(&output.stdout);
    assert!(output.starts_with(MESSAGE) && output.contains(EMPTY), "{output}");
    // A response with a message is the last on its connection.
    assert_eq!(field.tap.connections(), 2);
}

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn curl_is_told_to_continue_before_it_pushes_megabytes() {
    let field = Field::new().await;
    let (ticket, file) = field.ticket(3_000_000);

    // Without the 100 it would wait longer than the test does.
    let output = curl(&[
        "--verbose",
        "--expect100-timeout",
        "600",
        "--header",
        "Content-Type: application/json",
        "--data-binary",
        &format!("@{file}"),
        &field.url(PUSH),
    ])
    .await;

    assert!(text(&output.stdout).contains("Message received"));
    let told = text(&output.stderr);
    assert!(told.contains("< HTTP/1.1 100 Continue"), "{told}");
    assert!(field.tap.heard().contains("\r\nExpect: 100-continue\r\n"));
    let push = field.push(&ticket);
    assert!(push.header("expect").is_empty());
}

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn curl_pushes_chunked() {
    let field = Field::new().await;
    let (ticket, file) = field.ticket(3_000_000);

    let output = curl(&[
        "--header",
        "Transfer-Encoding: chunked",
        "--data-binary",
        &format!("@{file}"),
        &field.url(PUSH),
    ])
    .await;

    assert!(text(&output.stdout).contains("Message received"));
    assert!(field.tap.heard().contains("\r\nTransfer-Encoding: chunked\r\n"));
    field.push(&ticket);
}

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn curl_uploads_a_file_and_then_a_stream() {
    let field = Field::new().await;
    let (ticket, file) = field.ticket(500_000);
    let upload = ["--request", "POST", "--upload-file"];

    let output = curl(&[&upload[..], &[&file, &field.url(PUSH)]].concat()).await;
    assert!(text(&output.stdout).contains("Message received"));
    let length = format!("\r\nContent-Length: {}\r\n", ticket.len());
    assert!(field.tap.heard().contains(&length));
    field.push(&ticket);
    field.cisco.forget_seen();

    let stream = std::fs::File::open(&file).unwrap();
    let mut command = Command::new("curl");
    command.args(CURL).args(upload).args(["-", &field.url(PUSH)]);
    let output = run(command.stdin(stream)).await;
    assert!(text(&output.stdout).contains("Message received"));
    assert!(field.tap.heard().contains("\r\nTransfer-Encoding: chunked\r\n"));
    field.push(&ticket);
}

#[tokio::test]
#[ignore = "needs wget; .ci/run installs it"]
async fn wget_pulls_and_pushes() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);
    let wget = ["--no-config", "--no-verbose", "--tries=1", "--output-document=-"];

    let output = run(Command::new("wget").args(wget).arg(field.url(PULL))).await;
    assert_eq!(text(&output.stdout), MESSAGE);

    let (ticket, file) = field.ticket(200_000);
    let post = format!("--post-file={file}");
    let output = run(Command::new("wget").args(wget).args([&post, &field.url(PUSH)])).await;
    assert!(text(&output.stdout).contains("Message received"));
    field.push(&ticket);
}

#[tokio::test]
#[ignore = "needs Python with requests; .ci/run installs it"]
async fn python_requests_pulls_and_pushes_in_one_session() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);

    let output = field.python("pull_and_push").await;

    let lines: Vec<&str> = output.lines().collect();
    let pulled = format!("200 {MESSAGE}");
    assert_eq!(lines[0], pulled);
    assert!(lines[1].starts_with("200 Message received"), "{output}");
    assert_eq!(lines[2], "200 INC2");
    // A response with a message is the last on its connection.
    assert_eq!(field.tap.connections(), 2);
}

#[tokio::test]
#[ignore = "needs Python with requests; .ci/run installs it"]
async fn python_requests_streams_the_tsp_codes_down() {
    let field = Field::new().await;
    let codes = curl(&[&field.url(TSP_CODES)]).await.stdout;
    assert!(codes.len() > 3_000_000);

    let output = field.python("download").await;

    let told = format!("200 {} {}", codes.len(), sha256(&codes));
    assert_eq!(output.trim_end(), told);
}

#[tokio::test]
#[ignore = "needs Python with requests; .ci/run installs it"]
async fn python_requests_uploads_from_a_generator() {
    let field = Field::new().await;

    let output = field.python("upload").await;

    assert_eq!(output.trim_end(), "200 200");
    assert!(field.tap.heard().contains("\r\nTransfer-Encoding: chunked\r\n"));
    let text = format!(
        "{{\"Calls\":{{\"CustCallID\":\"INC3\",\"Description\":\"{}\"}}}}",
        "x".repeat(3_000_000)
    );
    field.push(text.as_bytes());
}

#[tokio::test]
#[ignore = "needs a JDK; .ci/run installs it"]
async fn javas_http_url_connection_pulls_and_pushes_and_takes_a_new_connection_after_a_message() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);

    let calls = [("GET", PULL, 0), ("POST", PUSH, 400_000), ("GET", PULL, 0)];
    let output = field.java("UrlConnection.java", &calls).await;

    let lines: Vec<&str> = output.lines().collect();
    let pulled = format!("200 {MESSAGE}");
    assert_eq!(lines[0], pulled);
    assert!(
        lines[1].starts_with("200 ") && lines[1].contains("Message received"),
        "{output}"
    );
    assert!(
        lines[2].starts_with("200 ") && lines[2].contains("INC4"),
        "{output}"
    );
    // A response with a message is the last on its connection.
    assert_eq!(field.tap.connections(), 2);
}

#[tokio::test]
#[ignore = "needs a JDK; .ci/run installs it"]
async fn javas_http_url_connection_never_sends_a_pull_again_when_cisco_cuts_it_off() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);
    field.cisco.script(Fault::on(On::Pull, Kind::Reset));

    // The second call is on a connection that was used before: that is where it would send again.
    let calls = [("POST", PUSH, 10), ("GET", PULL, 0)];
    let output = field.java("UrlConnection.java", &calls).await;

    assert!(output.contains("\n502 "), "{output}");
    let pulls = |seen: &Seen| seen.endpoint == Endpoint::Pull;
    assert_eq!(field.cisco.seen().into_iter().filter(pulls).count(), 1);
    assert_eq!(field.tap.heard().matches(PULL).count(), 1);
}

#[tokio::test]
#[ignore = "needs a JDK; .ci/run installs it"]
async fn javas_http_client_offers_h2c_and_is_served_without() {
    let field = Field::new().await;
    field.cisco.put_raw_message("demo", MESSAGE);

    let calls = [("GET", PULL, 0), ("POST", PUSH, 400_000), ("GET", PULL, 0)];
    let output = field.java("ModernClient.java", &calls).await;

    let lines: Vec<&str> = output.lines().collect();
    let pulled = format!("HTTP_1_1 200 {MESSAGE}");
    assert_eq!(lines[0], pulled);
    assert!(
        lines[1].starts_with("HTTP_1_1 200 ") && lines[1].contains("Message received"),
        "{output}"
    );
    assert!(
        lines[2].starts_with("HTTP_1_1 200 ") && lines[2].contains("INC5"),
        "{output}"
    );
    assert_eq!(field.tap.heard().matches("\r\nUpgrade: h2c\r\n").count(), 3);
    for seen in field.cisco.seen() {
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(seen.header(name).is_empty(), "{name} in {seen:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs ab; .ci/run installs it"]
async fn a_thousand_pulls_of_ab_are_all_answered() {
    let field = Field::new().await;

    let report = ab(&[&field.url(PULL)]).await;

    field.judge(&report, Endpoint::Pull);
    assert!(field.tap.connections() >= 1000);
}

#[tokio::test]
#[ignore = "needs ab; .ci/run installs it"]
async fn a_thousand_pushes_of_ab_are_all_answered_on_kept_connections() {
    let field = Field::new().await;
    let (_, file) = field.ticket(1000);

    let report = ab(&["-k", "-T", "application/json", "-p", &file, &field.url(PUSH)]).await;

    field.judge(&report, Endpoint::Push);
    assert_eq!(measured(&report, "Keep-Alive requests:"), 1000, "{report}");
    assert_eq!(field.tap.connections(), AB_CONNECTIONS);
}

/// Cisco, the daemon and a wiretap before it.
struct Field {
    cisco: Handle,
    daemon: Daemon,
    tap: Wiretap,
}

impl Field {
    async fn new() -> Self {
        let cisco = simulator(Options::default()).await;
        let daemon = Setup::at(&cisco).start().await;
        let tap = Wiretap::before(daemon.address()).await;
        Self { cisco, daemon, tap }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tap.address())
    }

    /// A ticket, and the file that holds it.
    fn ticket(&self, bytes: usize) -> (Vec<u8>, String) {
        let text = "x".repeat(bytes);
        let ticket = format!("{{\"Calls\":{{\"CustCallID\":\"INC1\",\"Description\":\"{text}\"}}}}");
        let file = self.daemon.directory.path().join("ticket.json");
        std::fs::write(&file, &ticket).unwrap();
        (ticket.into_bytes(), file.display().to_string())
    }

    /// The one push that Cisco saw; its body is `ticket`, byte for byte.
    fn push(&self, ticket: &[u8]) -> Seen {
        let seen = self.cisco.seen();
        let pushes: Vec<Seen> = seen
            .into_iter()
            .filter(|seen| seen.endpoint == Endpoint::Push)
            .collect();
        let [push] = &pushes[..] else {
            panic!("{} pushes, not one", pushes.len())
        };
        assert_eq!(push.body_bytes, ticket.len() as u64);
        assert_eq!(push.body_sha256.as_deref(), Some(&*sha256(ticket)));
        push.clone()
    }

    /// Every request that ab counts was answered well, and none was sent to Cisco twice.
    fn judge(&self, report: &str, endpoint: Endpoint) {
        assert_eq!(measured(report, "Complete requests:"), 1000, "{report}");
        assert_eq!(measured(report, "Failed requests:"), 0, "{report}");
        assert!(!report.contains("Non-2xx"), "{report}");
        let seen = self.cisco.seen();
        let seen = seen.iter().filter(|seen| seen.endpoint == endpoint).count();
        // ab ends with its last answer, and other connections may have begun a request more by then.
        let sent = self.tap.heard().matches(" HTTP/1.0\r\n").count();
        assert!((1000..=sent).contains(&seen), "{seen} of {sent}");
        assert!(sent < 1000 + AB_CONNECTIONS, "{sent}");
    }

    async fn python(&self, action: &str) -> String {
        let python = std::env::var("BONDGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(python);
        command
            .arg(source("requests_session.py"))
            .args([&self.url(""), action]);
        text(&run(&mut command).await.stdout)
    }

    async fn java(&self, file: &str, calls: &[(&str, &str, usize)]) -> String {
        let mut command = Command::new("java");
        command
            .arg("-Dstdout.encoding=UTF-8")
            .arg("-Dfile.encoding=UTF-8");
        command.arg(source(file));
        for (method, path, bytes) in calls {
            command.args([(*method).to_owned(), self.url(path), bytes.to_string()]);
        }
        text(&run(&mut command).await.stdout)
    }
}

/// Nobody's own configuration, and failures that say what failed.
const CURL: [&str; 4] = ["--disable", "--silent", "--show-error", "--fail"];

async fn curl(arguments: &[&str]) -> Output {
    run(Command::new("curl").args(CURL).args(arguments)).await
}

/// How many connections ab holds at a time.
const AB_CONNECTIONS: usize = 8;

async fn ab(arguments: &[&str]) -> String {
    let connections = AB_CONNECTIONS.to_string();
    let load = ["-q", "-n", "1000", "-c", &connections];
    let output = run(Command::new("ab").args(load).args(arguments)).await;
    text(&output.stdout)
}

/// A number of ab's report.
fn measured(report: &str, name: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok())
        .unwrap_or_else(|| panic!("there is no {name:?} in {report}"))
}

/// Runs a client to its end; it has to succeed.
async fn run(command: &mut Command) -> Output {
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

fn source(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e/clients")
        .join(file)
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
