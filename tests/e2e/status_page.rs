//! The status page and its events.

use std::time::Duration;

use bondgate::simulator::{Fault, Kind, On, Options};
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::confidential;
use crate::harness::{Daemon, PATIENCE, PULL, PUSH, Setup, seen_when, simulator};

/// The event stream of a viewer.
struct Viewer {
    stream: TcpStream,
    /// What was read, and not taken yet.
    bytes: Vec<u8>,
}

impl Viewer {
    /// Opens a stream, and reads its head.
    async fn of(daemon: &Daemon) -> Self {
        let mut stream = TcpStream::connect(daemon.admin()).await.unwrap();
        // HTTP/1.0 has no chunks.
        stream
            .write_all(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut viewer = Self {
            stream,
            bytes: Vec::new(),
        };
        let head = viewer.part("\r\n\r\n").await.unwrap();
        assert!(head.contains(" 200 OK\r\n"), "{head}");
        assert!(head.contains("Content-Type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
        viewer
    }

    /// The text up to a separator; `None` at the end of the stream.
    async fn part(&mut self, end: &str) -> Option<String> {
        let end = end.as_bytes();
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|bytes| bytes == end) {
                let part: Vec<u8> = self.bytes.drain(..at + end.len()).collect();
                confidential::assert_clean(&part);
                return Some(String::from_utf8(part).unwrap());
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.bytes)).await;
            if read.expect("the stream goes on or ends").unwrap() == 0 {
                assert_eq!(self.bytes, b"", "the stream ends with a whole event");
                return None;
            }
        }
    }

    /// The sections of the next event, without comments; `None` at the end of the stream.
    async fn event(&mut self) -> Option<Value> {
        loop {
            let part = self.part("\n\n").await?;
            if let Some((_, data)) = part.split_once("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                return Some(data["sections"].clone());
            }
        }
    }

    /// The first section of this name that holds a text.
    async fn shows(&mut self, section: &str, text: &str) {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if event[section].as_str().is_some_and(|html| html.contains(text)) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn the_page_is_complete_without_a_script_and_loads_nothing_from_elsewhere() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    daemon.get(PULL).await;

    let page = daemon.ask("/").await;
    assert_eq!(page.status(), 200);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    assert_eq!(
        page.field("content-security-policy").unwrap(),
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let html = page.body();
    let address = daemon.address().to_string();
    for part in [
        "<span id=\"verdict\">Ready</span>",
        "No problem lasts.",
        "fresh</span>",
        "responds</span>",
        "Requests per minute",
        "this machine only",
        "Waiting",
        "CN=",
        " ago</span>",
        &cisco.url(),
        &address,
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    for (name, kind) in [
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("page.svg", "image/svg+xml"),
    ] {
        assert!(html.contains(&format!("=\"{name}\"")), "{name}: {html}");
        let file = daemon.ask(&format!("/{name}")).await;
        assert_eq!(file.status(), 200);
        assert!(file.field("content-type").unwrap().starts_with(kind), "{file:?}");
        assert_eq!(file.field("x-content-type-options"), Some("nosniff"));
    }
    for elsewhere in [
        "src=\"http",
        "href=\"http",
        "url(http",
        "@import",
        "style=",
        "<script>",
    ] {
        assert!(!html.contains(elsewhere), "{elsewhere}: {html}");
    }
}

#[tokio::test]
async fn a_stream_shows_each_change_of_the_state() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let mut viewer = Viewer::of(&daemon).await;
    let first = viewer.event().await.unwrap();
    assert!(first["overview"].as_str().unwrap().contains("Ready"), "{first}");
    assert!(
        first["upstreams"].as_str().unwrap().contains("no response yet"),
        "{first}"
    );

    cisco.script(Fault::on(On::Push, Kind::status(StatusCode::BAD_GATEWAY)));
    daemon.get(PUSH).await;
    viewer.shows("problems", "api-unavailable").await;
    daemon.get(PUSH).await;
    viewer.shows("problems", "No problem lasts.").await;
}

#[tokio::test]
async fn a_stream_outlasts_the_timeouts_of_its_connection_and_a_reload_begins_another_one() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).and("[limits]\nkeep_alive = \"1s\"\nstall = \"1s\"\nfirst_byte = \"1s\"\n");
    let mut daemon = setup.start().await;
    let mut viewer = Viewer::of(&daemon).await;
    viewer.event().await.unwrap();
    // Each comment follows seconds of silence.
    assert_eq!(viewer.part("\n\n").await.unwrap(), ":\n\n");

    daemon.signal("HUP");
    daemon.logged("reload found no changes").await;
    while viewer.event().await.is_some() {}
    Viewer::of(&daemon).await.event().await.unwrap();
}

#[tokio::test]
async fn the_connection_of_a_viewer_who_is_gone_is_dropped() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let mut viewer = Viewer::of(&daemon).await;
    viewer.event().await.unwrap();
    drop(viewer);
    daemon.logged("connection ended early").await;
}

#[tokio::test]
async fn a_drain_ends_the_streams_and_later_ones_show_it_once() {
    let cisco = simulator(Options::default()).await;
    let slow = Kind::Slow {
        ms: Duration::from_secs(600).as_millis().try_into().unwrap(),
    };
    cisco.script(Fault::on(On::Push, slow));
    let setup = Setup::open(&cisco, "").environment("BONDGATE__SERVER__DRAIN", "10m");
    let daemon = setup.start().await;
    let mut viewer = Viewer::of(&daemon).await;
    viewer.event().await.unwrap();
    let mut caller = TcpStream::connect(daemon.address()).await.unwrap();
    let request = format!("GET {PUSH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    seen_when(&cisco, |seen| seen.iter().any(|seen| seen.target == PUSH)).await;

    daemon.signal("TERM");
    viewer.shows("overview", "Stopping").await;
    assert_eq!(viewer.event().await, None);
    let mut later = Viewer::of(&daemon).await;
    later.shows("overview", "Stopping").await;
    assert_eq!(later.event().await, None);
}

#[tokio::test]
async fn an_open_stream_does_not_delay_a_stop() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).environment("BONDGATE__SERVER__DRAIN", "10m");
    let mut daemon = setup.start().await;
    let mut viewer = Viewer::of(&daemon).await;
    viewer.event().await.unwrap();
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_that_ends_at_once_completes_the_streams() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(daemon.admin()).await.unwrap();
        let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n\n\r\n") {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        }
        streams.push(stream);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    for mut stream in streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.contains("Stopping"), "{rest}");
        assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn refused_heads_are_shown_with_caller_listener_and_count_and_move_no_request_out() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    daemon.get(PULL).await;
    for _ in 0..200 {
        let secret = "GET /hidden-path HTTP/1.1\r\nHost: a b\r\nX: hidden-field\r\n\r\n";
        assert_eq!(daemon.send(secret).await.status(), 400);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9000));
    assert_eq!(daemon.send(long).await.status(), 414);

    daemon.logged_times("request head refused", 201).await;
    let all = daemon.status().await["refusals"].clone();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    let listener = format!("127.0.0.1:0 ({})", daemon.address());
    for (refusal, problem, status, number) in [
        (&all[0], "request-too-large", 414, 1),
        (&all[1], "request-malformed", 400, 200),
    ] {
        assert_eq!(refusal["problem"], problem, "{refusal}");
        assert_eq!(refusal["status"], status, "{refusal}");
        assert_eq!(refusal["number"], number, "{refusal}");
        assert_eq!(refusal["listener"], listener, "{refusal}");
        assert_eq!(refusal["callers"], serde_json::json!(["127.0.0.1"]), "{refusal}");
    }
    let page = daemon.ask("/").await;
    let html = page.body();
    for part in ["request-malformed</span>", "200 times", &listener, PULL] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("hidden-"), "{html}");
}
