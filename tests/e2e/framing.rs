//! Where a message ends: HTTP/1.0 and 1.1, lengths and chunks, bodies that are none, and the word
//! before a body.

use bondgate::simulator::{EmptyQueue, Fault, Kind, On, Options, pattern};
use bytes::Bytes;

use crate::harness::{PULL, Setup, relayed, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::{Caller, End};

#[tokio::test]
async fn http_1_0_without_host_is_served_and_the_connection_closed() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for (request, length) in [
        ("GET /simulator/bytes/10 HTTP/1.0\r\n\r\n", Some("10")),
        ("GET /simulator/bytes/100000?chunked HTTP/1.0\r\n\r\n", None),
        (
            "GET /simulator/bytes/10 HTTP/1.0\r\nConnection: close\r\n\r\n",
            Some("10"),
        ),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request).await;
        let head = caller.head().await;
        assert_eq!(head.status(), 200, "{request}");
        assert_eq!(head.field("transfer-encoding"), None, "{request}");
        assert_eq!(head.field("content-length"), length, "{request}");
        let (body, end) = caller.rest().await;
        let count = length.map_or(100_000, |length| length.parse().unwrap());
        assert!(body.into_iter().eq(pattern(count)), "{request}");
        assert_eq!(end, End::Closed, "{request}");
    }

    let seen = relayed(&cisco);
    assert!(seen.iter().all(|seen| seen.version == "HTTP/1.1"));
}

#[tokio::test]
async fn http_1_0_keeps_the_connection_where_it_asks_and_the_length_is_known() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..3 {
        caller
            .say("GET /simulator/bytes/10 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            .await;
        let answer = caller.message().await;
        assert_eq!((answer.status(), answer.body.len()), (200, 10));
        assert!(
            answer
                .field("connection")
                .is_some_and(|word| word.eq_ignore_ascii_case("keep-alive"))
        );
    }
    caller
        .say("GET /simulator/bytes/10?chunked HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        .await;
    let answer = caller.message().await;
    assert!(answer.body.into_iter().eq(pattern(10)));
    caller.is_over().await;
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body_and_the_connection_goes_on() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    cisco.script(Fault::on(On::Path("/chunked".to_owned()), Kind::Raw { bytes }));
    for (target, length) in [
        ("/simulator/bytes/1000", Some("1000")),
        ("/simulator/bytes/0", Some("0")),
        // A GET would get chunks of unknown length, which HEAD does not announce.
        ("/chunked", None),
    ] {
        caller
            .say(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let head = caller.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-length"), length, "{target}");
    }
    caller
        .say("GET /simulator/bytes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(caller.message().await.body.len(), 5);
}

#[tokio::test]
async fn an_answer_of_ours_to_a_head_request_has_no_body_either() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("HEAD /not/allowed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = caller.head().await;
    assert_eq!(head.status(), 403);
    assert!(
        head.field("content-length")
            .is_some_and(|length| length.parse::<u32>().unwrap() > 100)
    );
    daemon.logged("\"message\":\"request completed\"").await;
    caller.say("HEAD / HTTP/1.1\r\n\r\n").await;
    let head = caller.head().await;
    assert_eq!(head.status(), 400);
    caller.is_over().await;
}

#[tokio::test]
async fn statuses_without_a_body_have_none_and_the_connection_goes_on() {
    let cisco = simulator(Options {
        empty_queue: EmptyQueue::NoContent,
        ..Options::default()
    })
    .await;
    let daemon = Setup::open(&cisco, "").start().await;
    let not_modified = |lines: &str| {
        let bytes = format!("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n{lines}\r\n");
        Kind::Raw { bytes: bytes.into() }
    };

    let mut caller = Caller::to(daemon.address()).await;
    for (kind, status, length) in [
        (None, 204, None),
        (Some(not_modified("")), 304, None),
        // The length that a 200 would have had.
        (Some(not_modified("Content-Length: 1000\r\n")), 304, Some("1000")),
        (None, 204, None),
    ] {
        if let Some(kind) = kind {
            cisco.script(Fault::on(On::Pull, kind));
        }
        caller
            .say(format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let head = caller.head().await;
        assert_eq!(head.status(), status);
        assert_eq!(head.field("content-length"), length, "{status}");
        assert_eq!(head.field("transfer-encoding"), None, "{status}");
    }
}

#[tokio::test]
async fn an_upload_is_framed_upstream_as_it_came() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    for request in [
        "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;x=\"y\"\r\nhello\r\n006\r\n world\r\n0\r\n\r\n",
        "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ] {
        caller.say(request).await;
        assert_eq!(caller.message().await.status(), 200, "{request}");
    }

    let seen = relayed(&cisco);
    let bodies: Vec<&[u8]> = seen.iter().map(|seen| &seen.body[..]).collect();
    assert_eq!(bodies, [&b"hello world"[..], b"hello world", b"", b""]);
    assert_eq!(seen[0].header("content-length"), ["11"]);
    assert_eq!(seen[1].header("transfer-encoding"), ["chunked"]);
    assert_eq!(seen[2].header("transfer-encoding"), ["chunked"]);
    assert_eq!(seen[3].header("content-length"), ["0"]);
    for seen in seen {
        let framings = seen.header("content-length").len() + seen.header("transfer-encoding").len();
        assert_eq!(framings, 1, "{seen:?}");
    }
}

#[tokio::test]
async fn a_chunked_answer_comes_back_chunked() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let empty = On::Path("/simulator/bytes/0".to_owned());
    cisco.script(Fault::on(empty, Kind::Raw { bytes }));
    for count in [0, 1, 100_000] {
        caller
            .say(format!(
                "GET /simulator/bytes/{count}?chunked HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ))
            .await;
        let answer = caller.message().await;
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"), "{count}");
        assert_eq!(answer.field("content-length"), None);
        assert!(answer.body.into_iter().eq(pattern(count)), "{count}");
    }
}

#[tokio::test]
async fn an_answer_up_to_the_end_of_the_upstreams_connection_comes_back_whole() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let bytes = Bytes::from_static(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end");
    cisco.script(Fault::on(On::Any, Kind::Raw { bytes }).times(2));

    for version in ["1.1", "1.0"] {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!("GET /a HTTP/{version}\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(caller.message().await.text(), "to the end", "{version}");
    }
}

#[tokio::test]
async fn trailers_are_dropped_both_ways() {
    let cisco = simulator(Options::default()).await;
    let api = RawUpstream::bind().await;
    let daemon = Setup::apart(&cisco, &api.url(), &api.ca_pem, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(
            "POST /a HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: Authorization\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: Bearer forged\r\nX-A: 1\r\n\r\n",
        )
        .await;
    let mut upstream = api.accept().await;
    let request = upstream.message().await;
    assert_eq!((request.text(), request.trailers.len()), ("hi", 0), "{request:?}");
    assert_eq!((request.field("te"), request.field("trailer")), (None, None));
    upstream
        .say(
            "HTTP/1.1 200 OK\r\nTrailer: X-B\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-B: 1\r\n\r\n",
        )
        .await;

    let answer = caller.message().await;
    assert_eq!((answer.text(), answer.trailers.len()), ("ok", 0), "{answer:?}");
    assert_eq!(answer.field("trailer"), None);
    caller
        .say("GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        upstream.head().await.0.starts_with("GET /b "),
        "both connections go on"
    );
}

#[tokio::test]
async fn a_caller_that_expects_100_gets_it_before_there_is_a_connection_upstream() {
    let cisco = simulator(Options::default()).await;
    let api = RawUpstream::bind().await;
    let daemon = Setup::apart(&cisco, &api.url(), &api.ca_pem, "").start().await;

    for (framing, body) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!(
                "POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{framing}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        // The upstream has not even taken the connection.
        assert_eq!(caller.head().await.0, "HTTP/1.1 100 Continue\r\n\r\n");
        caller.say(body).await;

        let mut upstream = api.accept().await;
        let request = upstream.message().await;
        assert_eq!((request.text(), request.field("expect")), ("hello", None));
        upstream
            .say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
        upstream.finish().await;
        assert_eq!(caller.message().await.text(), "ok", "{framing}");
        caller.is_over().await;
    }
}

#[tokio::test]
async fn the_upstreams_own_100_does_not_come_back() {
    let cisco = simulator(Options::default()).await;
    let api = RawUpstream::bind().await;
    let daemon = Setup::apart(&cisco, &api.url(), &api.ca_pem, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let mut upstream = api.accept().await;
    upstream.message().await;
    upstream
        .say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;

    let answer = caller.message().await;
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
}

#[tokio::test]
async fn a_caller_that_expects_100_gets_a_refusal_without_it() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).and("[limits]\nbody = \"1KiB\"\n").start().await;

    for (path, framing, status) in [
        ("/not/allowed", "Content-Length: 5", 403),
        ("/not/allowed", "Transfer-Encoding: chunked", 403),
        (PULL, "Content-Length: 5000", 413),
        ("/a/../b", "Content-Length: 5", 400),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
            ))
            .await;
        let answer = caller.message().await;
        assert_eq!(answer.status(), status, "{path} {framing}");
        assert_eq!(answer.field("connection"), Some("close"), "{path} {framing}");
        caller.is_over().await;
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_its_body() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let answer = daemon
        .send("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;

    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(relayed(&cisco).last().unwrap().body, "hello".as_bytes());
}

#[tokio::test]
async fn a_body_that_never_begins_is_the_callers_fault_and_not_the_upstreams() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "timeout = { idle = \"300ms\" }")
        .start()
        .await;

    let answer = daemon
        .send("POST /simulator/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        .await;

    assert_eq!(answer.status(), 408, "{answer:?}");
}
