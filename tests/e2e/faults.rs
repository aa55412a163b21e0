//! What a caller gets when the upstream fails: 503 where nothing was sent, 502 and 504 where it may
//! have been executed, a cut where the answer was cut, and never nothing.

use std::time::Duration;

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Options, Then};
use bytes::Bytes;
use http::StatusCode;
use tokio::net::TcpSocket;

use crate::harness::{Daemon, PATIENCE, PULL, Setup, relayed, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::{Caller, End, Message};

const GET: &str = "GET /simulator/bytes/100000 HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn asked(daemon: &Daemon, request: impl AsRef<[u8]>) -> Message {
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request).await;
    caller.message().await
}

fn token_requests(cisco: &Handle) -> usize {
    let seen = cisco.seen();
    seen.iter()
        .filter(|seen| seen.endpoint == Endpoint::Token)
        .count()
}

/// An answer of ours by which nothing was sent.
fn is_undone(answer: &Message, error: &str) {
    answer.is_ours(503, error);
    assert_eq!(answer.error(), error, "{answer:?}");
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(
        answer.text().contains("it is safe to send it again"),
        "{answer:?}"
    );
}

/// An answer of ours by which the upstream may have acted.
fn is_unknown(answer: &Message, status: u16, error: &str) {
    answer.is_ours(status, error);
    assert_eq!(answer.error(), error, "{answer:?}");
    assert_eq!(answer.field("retry-after"), None);
    assert!(
        answer.text().contains("may have executed the request"),
        "{answer:?}"
    );
    let status = answer.field("proxy-status").unwrap();
    assert_eq!(status.matches("executed").count(), 1, "said twice: {status}");
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_503_and_safe_to_repeat() {
    let cisco = simulator(Options::default()).await;
    // Bound and not listening: nobody else gets the port, and connecting to it is refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("https://{}", socket.local_addr().unwrap());
    let daemon = Setup::apart(&cisco, &url, "", "").start().await;

    is_undone(&asked(&daemon, GET).await, "connection_refused");
    let post = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    is_undone(&asked(&daemon, post).await, "connection_refused");
}

#[tokio::test]
async fn an_upstream_whose_name_is_unknown_is_503() {
    let cisco = simulator(Options::default()).await;
    let url = "https://no-such-name.invalid";
    let daemon = Setup::apart(&cisco, url, "", "").start().await;

    is_undone(&asked(&daemon, GET).await, "dns_error");
}

#[tokio::test]
async fn an_upstream_whose_certificate_is_not_trusted_is_503_and_sees_nothing() {
    let cisco = simulator(Options::default()).await;
    let stranger = simulator(Options::default()).await;
    let daemon = Setup::apart(&cisco, &stranger.url(), "", "").start().await;

    let answer = asked(&daemon, GET).await;

    is_undone(&answer, "tls_certificate_error");
    assert!(answer.text().contains("ca_file"), "{answer:?}");
    assert!(stranger.seen().is_empty());
}

#[tokio::test]
async fn an_upstream_that_does_not_finish_the_handshake_is_503() {
    let cisco = simulator(Options::default()).await;
    let silent = RawUpstream::bind().await;
    let timeout = "timeout = { connect = \"300ms\" }";
    let daemon = Setup::apart(&cisco, &silent.url(), &silent.ca_pem, timeout)
        .start()
        .await;

    is_undone(&asked(&daemon, GET).await, "connection_timeout");
}

#[tokio::test]
async fn an_upstream_that_leaves_without_an_answer_is_502_and_asked_once() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let garbage = Bytes::from_static(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");

    let mut caller = Caller::to(daemon.address()).await;
    for (kind, error) in [
        (Kind::Close, "http_response_incomplete"),
        (Kind::Reset, "connection_terminated"),
        (Kind::Raw { bytes: garbage }, "http_protocol_error"),
    ] {
        for path in [PULL, "/simulator/echo"] {
            for method in ["GET", "POST"] {
                let request =
                    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
                // A connection that has served is kept: on such a one the request fails.
                caller.say(GET).await;
                assert_eq!(caller.message().await.status(), 200);
                let before = relayed(&cisco).len();
                cisco.script(Fault::on(On::Path(path.to_owned()), kind.clone()));
                caller.say(&request).await;
                is_unknown(&caller.message().await, 502, error);
                assert_eq!(relayed(&cisco).len(), before + 1, "{request}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504_after_timeout_head() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "timeout = { head = \"300ms\" }")
        .start()
        .await;
    cisco.script(Fault::on(On::Any, Kind::Hang).times(2));

    is_unknown(&asked(&daemon, GET).await, 504, "http_response_timeout");
    let post = "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    is_unknown(&asked(&daemon, post).await, 504, "http_response_timeout");

    let left = cisco.wait_for(|seen| seen.iter().filter(|seen| seen.abandoned).count() == 2);
    tokio::time::timeout(PATIENCE, left)
        .await
        .expect("nobody waits for the answer any longer");
}

#[tokio::test]
async fn timeout_head_begins_when_the_upload_has_ended() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "timeout = { head = \"300ms\" }")
        .start()
        .await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhel")
        .await;
    let early = tokio::time::timeout(Duration::from_millis(900), caller.head()).await;
    assert!(early.is_err(), "{early:?}");
    caller.say("lo").await;

    assert_eq!(caller.message().await.status(), 200);
}

#[tokio::test]
async fn half_an_answer_is_a_cut_for_the_caller_too() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "timeout = { idle = \"300ms\" }")
        .start()
        .await;

    for then in [Then::Close, Then::Reset, Then::Hang] {
        for target in ["/simulator/bytes/100000", "/simulator/bytes/100000?chunked"] {
            for version in ["1.1", "1.0"] {
                cisco.script(Fault::on(On::Any, Kind::Half { then }));
                let mut caller = Caller::to(daemon.address()).await;
                caller
                    .say(format!("GET {target} HTTP/{version}\r\nHost: localhost\r\n\r\n"))
                    .await;
                let head = caller.head().await;
                assert_eq!(head.status(), 200);
                let (body, end) = caller.rest().await;
                let what = format!("{then:?} {target} {version}: {} bytes, {end:?}", body.len());
                assert!(
                    body.len() < 100_000 && !body.ends_with(b"\r\n0\r\n\r\n"),
                    "{what}"
                );
                if version == "1.0" {
                    assert_eq!(head.field("transfer-encoding"), None);
                    assert_eq!(end, End::Reset, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_cut_behind_its_head_still_shows_the_head() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let head = format!("HTTP/1.1 201 Created\r\nX-A: 1\r\n{framing}\r\n\r\n");
        let bytes = Bytes::from(head);
        cisco.script(Fault::on(On::Any, Kind::Raw { bytes }).times(40));
        for round in 0..40 {
            let version = if round % 2 == 0 { "1.1" } else { "1.0" };
            let mut caller = Caller::to(daemon.address()).await;
            caller
                .say(format!("GET /a HTTP/{version}\r\nHost: localhost\r\n\r\n"))
                .await;
            let head = caller.head().await;
            assert_eq!((head.status(), head.field("x-a")), (201, Some("1")));
            let (body, end) = caller.rest().await;
            assert_eq!(body.len(), 0, "{framing} {version}: {body:?}");
            assert!(version == "1.1" || end == End::Reset, "{framing}");
        }
    }
}

#[tokio::test]
async fn error_pages_of_gateways_pass_as_they_are() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for code in [403, 500, 502, 503, 504] {
        cisco.script(Fault::on(On::Any, Kind::Html { status: code }));
        let answer = asked(&daemon, GET).await;
        assert_eq!((answer.status(), answer.field("proxy-status")), (code, None));
        assert!(answer.field("content-type").unwrap().starts_with("text/html"));
        assert!(answer.text().contains("<html"), "{answer:?}");
    }
    assert_eq!(relayed(&cisco).len(), 5);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_request_goes_out_again_as_it_was() {
    let cisco = simulator(Options::default()).await;
    let head = "/simulator/echo?a=%2f HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-A: 2\r\n";

    for (request, body) in [
        (format!("GET {head}\r\n"), ""),
        (format!("GET {head}Expect: 100-continue\r\n\r\n"), ""),
        (format!("POST {head}Content-Length: 0\r\n\r\n"), ""),
        (format!("POST {head}Content-Length: 5\r\n\r\nhello"), "hello"),
        (
            format!("POST {head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            "hello",
        ),
    ] {
        // Each time another daemon: where new tokens are refused again and again, the next one is
        // waited for longer.
        let daemon = Setup::open(&cisco, "wait = \"10s\"").start().await;
        cisco.tokens.revoke(None);
        cisco.forget_seen();

        assert_eq!(asked(&daemon, &request).await.status(), 200, "{request}");

        assert_eq!(token_requests(&cisco), 1, "{request}");
        let seen = relayed(&cisco);
        let statuses: Vec<_> = seen.iter().map(|seen| seen.status).collect();
        assert_eq!(statuses, [Some(401), Some(200)], "{request}");
        for seen in &seen {
            assert_eq!(seen.target, "/simulator/echo?a=%2f");
            assert_eq!(seen.header("x-a"), ["1", "2"]);
            assert_eq!(seen.header("authorization").len(), 1);
            assert!(
                !body.is_empty() || seen.header("transfer-encoding").is_empty(),
                "{request}"
            );
            assert_eq!(
                (&seen.body[..], seen.body_complete),
                (body.as_bytes(), true),
                "{request}"
            );
        }
        assert_ne!(seen[0].header("authorization"), seen[1].header("authorization"));
    }
}

#[tokio::test]
async fn a_second_401_is_the_callers() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.script(Fault::on(On::Pull, Kind::status(StatusCode::UNAUTHORIZED)).forever());
    cisco.forget_seen();

    let answer = asked(&daemon, format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;

    assert_eq!((answer.status(), answer.field("proxy-status")), (401, None));
    assert!(answer.text().contains("Simulated fault"), "{answer:?}");
    assert_eq!((relayed(&cisco).len(), token_requests(&cisco)), (2, 1));
}

#[tokio::test]
async fn a_body_too_long_to_be_kept_is_503_after_a_401_and_goes_through_the_next_time() {
    let cisco = simulator(Options::default()).await;
    let head = "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n";
    let body = "a".repeat(2048);

    for request in [
        format!("{head}Content-Length: 2048\r\n\r\n{body}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n800\r\n{body}\r\n0\r\n\r\n"),
    ] {
        let daemon = Setup::open(&cisco, "replay = \"1KiB\"\nwait = \"10s\"")
            .start()
            .await;
        cisco.tokens.revoke(None);
        cisco.forget_seen();
        let answer = asked(&daemon, &request).await;
        answer.is_ours(503, &request[..80]);
        assert_eq!(answer.field("retry-after"), Some("1"));
        assert!(answer.text().contains("safe to send it again"), "{answer:?}");

        // A request without a body waits for the new token.
        assert_eq!(asked(&daemon, GET).await.status(), 200);
        assert_eq!(asked(&daemon, &request).await.status(), 200);
    }
}

#[tokio::test]
async fn a_401_before_the_upload_has_ended_is_503_and_whole() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.script(Fault::on(On::Any, Kind::status(StatusCode::UNAUTHORIZED)).early());

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhello")
        .await;

    let answer = caller.message().await;
    answer.is_ours(503, "early");
    assert_eq!(
        (answer.field("retry-after"), answer.field("connection")),
        (Some("1"), Some("close"))
    );
    caller.is_over().await;
}
