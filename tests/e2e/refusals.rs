//! What is refused at the door: each time with a whole answer, and with nothing of it upstream.

use std::time::Duration;

use bondgate::simulator::Options;
use tokio::io::AsyncWriteExt;

use crate::harness::{Setup, relayed, simulator};
use crate::wire::{Caller, End, Message};

/// Asserts that an answer is a whole one of ours, and the last one on its connection.
fn is_refused(answer: &Message, status: u16, request: &str) {
    let start = request.get(..request.len().min(100)).unwrap_or_default();
    answer.is_ours(status, start);
    assert_eq!(answer.field("connection"), Some("close"), "{start:?}");
}

/// Malformed heads, each refused with the status before it.
const MALFORMED: &[(u16, &str)] = &[
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\nHost: localhost\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\nX: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n"),
    (
        400,
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ),
    (
        400,
        "GET / HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n",
    ),
    (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\n: no name\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: localhost\r\nX\u{e9}: y\r\n\r\n"),
    (400, "GET /#x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /?x y HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /<x> HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET ?x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET ftp://localhost/a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET http:///a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET http://[::1/a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /\r\n\r\n"),
    (400, "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    (400, "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n"),
    (400, "GET / http/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, "\u{16}\u{3}\u{1}\u{2}\0"),
    (400, "\u{1}\u{2}\u{3}"),
    (
        405,
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
    ),
    (405, "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
];

/// What comes behind `POST / HTTP/1.1` and a Host, and what of it is refused.
const MISFRAMED: &[(u16, &str)] = &[
    (400, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"),
    (400, "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"),
    (400, "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (400, "Content-Length: 3\r\ncontent-length: 4\r\n\r\nabc"),
    (400, "Content-Length: 3, 3\r\n\r\nabc"),
    (400, "Content-Length: +3\r\n\r\nabc"),
    (400, "Content-Length: -1\r\n\r\nabc"),
    (400, "Content-Length: 0x3\r\n\r\nabc"),
    (400, "Content-Length:\r\n\r\nabc"),
    (400, "Content-Length: 99999999999999999999\r\n\r\nabc"),
    (400, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (400, "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (400, "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (400, "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
    (400, "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (
        400,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (417, "Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc"),
    (417, "Expect: 100-continue, x\r\nContent-Length: 3\r\n\r\nabc"),
];

#[tokio::test]
async fn what_is_not_plainly_one_request_is_refused_with_a_whole_answer() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let heads = MALFORMED
        .iter()
        .map(|(status, head)| (*status, (*head).to_owned()));
    let bodies = MISFRAMED.iter().map(|(status, rest)| {
        (
            *status,
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n{rest}"),
        )
    });
    let http_10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned();

    for (status, request) in heads.chain(bodies).chain([(400, http_10)]) {
        let mut caller = Caller::to(daemon.address()).await;
        // What follows a bad head is never taken for a request.
        caller
            .say(format!("{request}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let answer = caller.message().await;
        is_refused(&answer, status, &request);
        if status == 405 {
            assert!(answer.field("allow").is_some_and(|list| list.contains("GET")));
        }
        caller.is_over().await;
    }

    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_head_over_a_limit_is_refused_though_its_caller_is_still_sending() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let host = "Host: localhost\r\n";
    let long = |count| "a".repeat(count);

    for (status, request) in [
        (414, format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(8192))),
        (414, format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(70_000))),
        (414, format!("GET /{}", long(1_000_000))),
        (
            431,
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", long(65_536)),
        ),
        (431, format!("GET / HTTP/1.1\r\n{host}X: {}", long(1_000_000))),
        (
            431,
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(100)),
        ),
        (
            431,
            format!("GET / HTTP/1.1\r\n{host}{}", "X: y\r\n".repeat(20_000)),
        ),
    ] {
        let (mut answers, mut sending) = Caller::to(daemon.address()).await.split();
        let sent = tokio::spawn({
            let request = request.clone();
            async move { sending.write_all(request.as_bytes()).await.map(|()| sending) }
        });
        is_refused(&answers.message().await, status, &request);
        assert!(sent.await.unwrap().is_ok(), "what is still sent is read");
    }

    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_slow_head_gets_408_and_silence_is_left_without_a_word() {
    let cisco = simulator(Options::default()).await;
    let limits = "[limits]\nfirst_byte = \"300ms\"\nkeep_alive = \"2s\"\n";
    let daemon = Setup::open(&cisco, "").and(limits).start().await;

    for request in ["G", "GET / HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request).await;
        let answer = caller.message().await;
        is_refused(&answer, 408, request);
        assert!(answer.text().contains("longer than 300ms"), "{answer:?}");
        caller.is_over().await;
    }
    let mut silent = Caller::to(daemon.address()).await;
    silent.is_over().await;

    let mut idle = Caller::to(daemon.address()).await;
    idle.say("GET /simulator/bytes/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(idle.message().await.status(), 200);
    idle.is_over().await;
}

#[tokio::test]
async fn an_idle_connection_serves_again_after_it_was_parked() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..2 {
        caller
            .say("GET /simulator/bytes/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(caller.message().await.status(), 200);
        let quiet = tokio::time::timeout(Duration::from_millis(1300), caller.rest()).await;
        assert!(quiet.is_err(), "the connection stays: {quiet:?}");
    }
    caller.say("GET / HTTP/1.1\r\n\r\n").await;
    is_refused(&caller.message().await, 400, "behind a parked time");
    caller.is_over().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_length_and_by_its_chunks() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "")
        .and("[limits]\nbody = \"1KiB\"\n")
        .start()
        .await;
    let post = "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n";
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));

    for within in [
        format!("{post}Content-Length: 1024\r\n\r\n{}", "a".repeat(1024)),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(&within).await;
        assert_eq!(caller.message().await.status(), 200);
    }
    for over in [
        format!("{post}Content-Length: 1025\r\n\r\n{}", "a".repeat(1025)),
        format!("{post}Content-Length: 100000000000\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunk}1\r\na\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n"),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(&over).await;
        is_refused(&caller.message().await, 413, &over);
        caller.is_over().await;
    }

    let seen = relayed(&cisco);
    let complete = seen.iter().filter(|seen| seen.body_complete).count();
    assert_eq!(complete, 2, "no body over the limit reached the end upstream");
}

#[tokio::test]
async fn a_chunked_body_that_is_none_gets_400_and_is_not_executed_upstream() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for body in [
        "5\r\nhello\r\nzz\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\nffffffffffffffff\r\n",
        ";\r\n",
    ] {
        let request = format!(
            "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(&request).await;
        is_refused(&caller.message().await, 400, body);
        caller.is_over().await;
    }

    assert!(
        relayed(&cisco)
            .iter()
            .all(|seen| !seen.body_complete && seen.status != Some(200))
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_executed_upstream() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for framing in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nhello",
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!(
                "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n{framing}"
            ))
            .await;
        cisco
            .wait_for(|seen| seen.last().is_some_and(|last| last.body_bytes == 5))
            .await;
        caller.finish().await;
        is_refused(&caller.message().await, 400, framing);
        caller.is_over().await;
        cisco.forget_seen();
    }
}

#[tokio::test]
async fn a_refusal_is_readable_while_a_megabyte_of_body_is_being_sent() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let body = "a".repeat(1_000_000);

    for (status, head) in [
        (403, "POST /not/allowed HTTP/1.1\r\nHost: localhost\r\n"),
        (421, "POST /a HTTP/1.1\r\nHost: evil.example\r\n"),
        (400, "POST /a/../b HTTP/1.1\r\nHost: localhost\r\n"),
        (400, "POST /a HTTP/1.1\r\n"),
        (405, "TRACE /a HTTP/1.1\r\nHost: localhost\r\n"),
    ] {
        for framing in [
            format!("Content-Length: 1000000\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\nf4240\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let (mut answers, mut sending) = Caller::to(daemon.address()).await.split();
            let request = format!("{head}{framing}");
            // A tool that sends all of it before it reads.
            sending.write_all(request.as_bytes()).await.unwrap();
            is_refused(&answers.message().await, status, head);
            drop(sending);
            let (rest, end) = answers.rest().await;
            assert_eq!((rest.len(), end), (0, End::Closed), "{head}");
        }
    }

    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_refused_request_whose_body_is_at_hand_costs_no_connection() {
    let cisco = simulator(Options::default()).await;
    let refused = Setup::at(&cisco).start().await;
    // Here the refusal comes after a part of the body was read, since the upstream is closed.
    let unreachable = Setup::apart(&cisco, "https://localhost:1", "", "").start().await;

    for (daemon, status) in [(&refused, 403), (&unreachable, 503)] {
        for body in [
            "Content-Length: 5\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-A: 1\r\n\r\n",
        ] {
            let mut caller = Caller::to(daemon.address()).await;
            for _ in 0..2 {
                caller
                    .say(format!("POST /a HTTP/1.1\r\nHost: localhost\r\n{body}"))
                    .await;
                let answer = caller.message().await;
                answer.is_ours(status, body);
                assert_eq!(answer.field("connection"), None, "{body}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_just_within_a_limit_is_served_and_one_more_is_refused() {
    let cisco = simulator(Options::default()).await;
    let limits = "[limits]\nhead = \"4KiB\"\nfields = 20\ntarget = \"1KiB\"\n";
    let daemon = Setup::open(&cisco, "").and(limits).start().await;
    let target = |length: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(length - 1)
        )
    };
    let query = |length: usize| {
        format!(
            "GET /?{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(length - 2)
        )
    };
    let fields = |count: usize| {
        let more = "X: y\r\n".repeat(count - 1);
        format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
    };
    let head = |length: usize| {
        let start = "GET /a HTTP/1.1\r\nHost: localhost\r\nX: ";
        format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4))
    };
    for (status, within, over) in [
        (414, target(1024), target(1025)),
        (414, query(1024), query(1025)),
        (431, fields(20), fields(21)),
        (431, head(4096), head(4097)),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        // Behind another request, and with another behind it: only the head counts.
        caller.say(format!("{within}{within}{over}")).await;
        for _ in 0..2 {
            let answer = caller.message().await;
            assert_eq!(answer.field("proxy-status"), None, "{status}: {answer:?}");
        }
        is_refused(&caller.message().await, status, &over);
        caller.is_over().await;
        assert_eq!(relayed(&cisco).len(), 2, "{status}");
        cisco.forget_seen();
    }
}
