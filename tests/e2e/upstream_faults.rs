//! An upstream that speaks HTTP as it should not: each fault ends as a clear answer or, in the body, as a cut
//! that the caller can see.

use std::time::Duration;

use bondgate::simulator::Options;
use tokio::task::JoinHandle;

use crate::harness::{Daemon, PATIENCE, Setup, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::{Caller, End, Message};

const GET: &str = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn before(upstream: &RawUpstream, more: &str) -> Daemon {
    let cisco = simulator(Options::default()).await;
    Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, more)
        .start()
        .await
}

/// Answers the next request with these bytes and closes in good order.
async fn says(upstream: &RawUpstream, bytes: &[u8]) {
    let mut line = upstream.accept().await;
    line.message().await;
    line.say(bytes).await;
    line.finish().await;
}

fn get(version: &str) -> String {
    format!("GET /a HTTP/{version}\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn what_is_no_answer_is_502() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let many_fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: 1\r\n".repeat(2000));
    let answers = [
        "\0\0\0\0",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 000 Nothing\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: 1",
        "",
        &many_fields,
    ];
    let mut caller = Caller::to(daemon.address()).await;
    for answer in answers {
        caller.say(GET).await;
        says(&upstream, answer.as_bytes()).await;
        let told = caller.message().await;
        told.is_ours(502, answer);
        assert!(told.text().contains("may have executed the request"), "{told:?}");
    }
}

#[tokio::test]
async fn an_endless_head_is_502_and_a_slow_one_504() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "timeout = { head = \"1s\" }").await;

    let mut caller = Caller::to(daemon.address()).await;
    caller.say(GET).await;
    let mut line = upstream.accept().await;
    line.message().await;
    line.say("HTTP/1.1 200 OK\r\n").await;
    let (_reader, mut writer) = tokio::io::split(line.into_stream());
    let field = format!("X-A: {}\r\n", "a".repeat(4000));
    let flood = async {
        let mut written = 0;
        while tokio::io::AsyncWriteExt::write_all(&mut writer, field.as_bytes())
            .await
            .is_ok()
        {
            written += field.len();
        }
        written
    };
    let (answer, written) = tokio::join!(caller.message(), flood);
    answer.is_ours(502, "an endless head");
    println!("the upstream got rid of {written} bytes of a head");

    caller.say(GET).await;
    let mut line = upstream.accept().await;
    line.message().await;
    let drip = async {
        for byte in b"HTTP/1.1 200 OK\r\nX-A: ".iter().chain(std::iter::repeat(&b'a')) {
            line.say([*byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::select! {
        answer = caller.message() => answer,
        () = drip => unreachable!("it goes on for ever"),
    };
    answer.is_ours(504, "a slow head");
}

#[tokio::test]
async fn a_few_interim_answers_are_passed_over_and_a_flood_is_502() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let mut caller = Caller::to(daemon.address()).await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";

    caller.say(GET).await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    says(&upstream, format!("{}{ok}", interim.repeat(20)).as_bytes()).await;
    let answer = caller.message().await;
    assert_eq!((answer.status(), answer.text()), (200, "ok"));

    caller.say(GET).await;
    let mut line = upstream.accept().await;
    line.message().await;
    let mut line = line.into_stream();
    let flood: JoinHandle<()> = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while line.write_all(interim.as_bytes()).await.is_ok() {}
    });
    let answer = caller.message().await;
    answer.is_ours(502, "a flood");
    assert!(answer.text().contains("1xx"), "{answer:?}");
    let ended = tokio::time::timeout(PATIENCE, flood).await;
    ended.expect("its connection is closed").unwrap();
}

#[tokio::test]
async fn what_follows_an_answer_never_answers_the_next_request() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(GET).await;
        let mut line = upstream.accept().await;
        line.message().await;
        line.say(format!("{first}{second}")).await;
        let status = caller.message().await.status();
        assert!(first.contains(&status.to_string()), "{status}");

        // The connection is left open, and not used again.
        caller.say(GET).await;
        says(&upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest").await;
        assert_eq!(caller.message().await.text(), "honest", "{first}");
    }
}

#[tokio::test]
async fn chunked_coding_beats_a_content_length_and_nothing_of_the_body_is_lost() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: Chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    for version in ["1.1", "1.0"] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(get(version)).await;
        says(&upstream, answer).await;
        assert_eq!(caller.message().await.text(), "hello world", "{version}");
    }
}

#[tokio::test]
async fn a_short_or_spoilt_body_is_a_cut_that_the_caller_can_see() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello".to_owned(),
        format!("{chunked}5\r\nhello\r\n"),
        format!("{chunked}5\r\nhel"),
        format!("{chunked}5\r\nhelloworld\r\n0\r\n\r\n"),
        format!("{chunked}5\r\nhello\r\nx\r\n\r\n"),
        format!("{chunked}5\r\nhello\r\nffffffffffffffffff\r\n"),
        format!("{chunked}5\r\nhello\r\n0\r\n"),
        format!("{chunked}0\r\nX: {}\r\n\r\n", "a".repeat(600_000)),
    ] {
        for version in ["1.1", "1.0"] {
            let mut caller = Caller::to(daemon.address()).await;
            caller.say(get(version)).await;
            let mut line = upstream.accept().await;
            line.message().await;
            let answer = answer.clone();
            let told = tokio::spawn(async move {
                use tokio::io::AsyncWriteExt as _;
                let mut stream = line.into_stream();
                // It may have been left before the end of so much.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                answer
            });
            let head = caller.head().await;
            assert_eq!(head.status(), 200);
            let (body, end) = caller.rest().await;
            let what = told.await.unwrap().chars().take(90).collect::<String>();
            let seen = String::from_utf8_lossy(&body);
            match (version, head.field("content-length")) {
                ("1.0", None) => assert_eq!(end, End::Reset, "{what:?} {seen:?}"),
                (_, Some(length)) => assert!(body.len() < length.parse().unwrap(), "{what:?} {seen:?}"),
                (_, None) => assert!(!seen.ends_with("0\r\n\r\n"), "{what:?} {seen:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_up_to_the_end_of_the_connection_is_whole_only_if_tls_says_so() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    for is_whole in [true, false] {
        for version in ["1.1", "1.0"] {
            let mut caller = Caller::to(daemon.address()).await;
            caller.say(get(version)).await;
            let mut line = upstream.accept().await;
            line.message().await;
            line.say("HTTP/1.1 200 OK\r\n\r\nhello").await;
            if is_whole {
                line.finish().await;
            }
            drop(line);
            let head = caller.head().await;
            let (body, end) = caller.rest_or_last_chunk(&head).await;
            let seen = String::from_utf8_lossy(&body).into_owned();
            assert!(seen.contains("hello"), "{seen:?}");
            let looks_whole = match version {
                "1.0" => end == End::Closed,
                _ => seen.ends_with("0\r\n\r\n"),
            };
            assert_eq!(looks_whole, is_whole, "{version}: {seen:?} {end:?}");
        }
    }
}

#[tokio::test]
async fn a_drip_under_the_idle_limit_is_relayed_to_its_end() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "timeout = { head = \"500ms\", idle = \"500ms\" }").await;
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(GET).await;
    let mut line = upstream.accept().await;
    line.message().await;
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n").await;
    let drip = async {
        for _ in 0..40 {
            line.say("x").await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let (answer, ()) = tokio::join!(caller.message(), drip);
    assert_eq!(answer.text(), "x".repeat(40), "twice as long as either limit");
}

#[tokio::test]
async fn an_early_answer_to_an_unfinished_upload_reaches_the_caller_whole() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhello")
        .await;
    let mut line = upstream.accept().await;
    line.head().await;
    line.say("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        .await;
    line.finish().await;

    let answer: Message = caller.message().await;

    assert_eq!((answer.status(), answer.text()), (413, "big"));
    assert_eq!(
        (answer.field("connection"), answer.field("proxy-status")),
        (Some("close"), None)
    );
    caller.is_over().await;
}

#[tokio::test]
async fn an_upstream_that_takes_connections_and_drops_them_is_503_after_a_while() {
    let cisco = simulator(Options::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let daemon = Setup::apart(&cisco, &url, "", "").start().await;
    let storm = tokio::spawn(async move {
        let mut taken = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if taken % 2 == 0 {
                stream.set_zero_linger().unwrap();
            }
            taken += 1;
        }
    });
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let address = daemon.address();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            caller.say(GET).await;
            let answer = caller.message().await;
            answer.is_ours(503, "a storm");
            assert!(answer.text().contains("safe to send it again"), "{answer:?}");
        });
    }
    while let Some(called) = callers.join_next().await {
        called.unwrap();
    }
    storm.abort();
}
