use sha2::{Digest as _, Sha256};

use super::super::record::Record;
use super::*;

#[tokio::test]
async fn a_request_is_recorded_byte_for_byte() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let head = format!(
        "POST {PUSH_PATH}?a=%2F&b=;,*'x HTTP/1.1\r\nX-B: 1\r\nhost: localhost\r\nX-a: 2\r\nx-b:  3 \r\n\
         AUTHORIZATION: Bearer {token}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    let (response, end) = fixture.exchange(head.as_bytes()).await;
    assert!(response.starts_with(b"HTTP/1.1 200 "), "{end:?}");
    let seen = &fixture.cisco.seen()[1];
    assert_eq!((seen.sequence, seen.connection), (2, 2));
    assert_eq!(seen.endpoint, Endpoint::Push);
    assert_eq!((seen.method.as_str(), seen.version), ("POST", "HTTP/1.1"));
    assert_eq!(seen.target, format!("{PUSH_PATH}?a=%2F&b=;,*'x"));
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            "X-B",
            "host",
            "X-a",
            "x-b",
            "AUTHORIZATION",
            "Connection",
            "Transfer-Encoding"
        ]
    );
    assert_eq!(seen.header("x-b"), ["1", "3"]);
    assert_eq!(&seen.body[..], b"{}");
    assert_eq!(seen.body_sha256, Some(format!("{:x}", Sha256::digest("{}"))));
    assert!(seen.body_complete && !seen.abandoned);
    assert_eq!(seen.token_client.as_deref(), Some("demo"));
    assert_eq!((seen.status, &seen.fault), (Some(200), &None));
}

#[tokio::test]
async fn pipelined_requests_are_recorded_one_by_one() {
    let fixture = Fixture::start().await;
    let two = "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET http://b/c?d HTTP/1.0\r\n\r\n";
    let (_, end) = fixture.exchange(two.as_bytes()).await;
    assert!(end.is_ok());
    let seen = fixture.cisco.seen();
    let shown: Vec<_> = seen
        .iter()
        .map(|seen| (&*seen.target, seen.version, seen.connection, seen.status))
        .collect();
    assert_eq!(
        shown,
        [
            ("/a", "HTTP/1.1", 1, Some(404)),
            ("http://b/c?d", "HTTP/1.0", 1, Some(404))
        ]
    );
}

#[tokio::test]
async fn a_body_is_recorded_as_it_arrives_and_when_it_breaks_off() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let mut stream = fixture.connect().await;
    let head = format!(
        "POST /simulator/sink HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let seen = fixture
        .cisco
        .wait_for(|seen| seen.len() == 2 && seen[1].body_bytes == 3)
        .await;
    assert!(!seen[1].body_complete && seen[1].body_sha256.is_none());
    stream.write_all(b"def").await.unwrap();
    fixture.cisco.wait_for(|seen| seen[1].body_bytes == 6).await;
    drop(stream);
    let seen = fixture
        .cisco
        .wait_for(|seen| seen[1].abandoned || seen[1].status.is_some())
        .await;
    assert!(!seen[1].body_complete);
    assert_eq!(&seen[1].body[..], b"abcdef");
}

#[tokio::test]
async fn only_the_first_64_kib_of_a_body_are_kept() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let body: Vec<u8> = pattern(100_000).collect();
    fixture.push(&token, body.clone()).await;
    let seen = &fixture.cisco.seen()[1];
    assert_eq!(&seen.body[..], &body[..BODY_KEPT]);
    assert_eq!(seen.body_bytes, 100_000);
    assert_eq!(seen.body_sha256, Some(pattern_sha256(100_000)));
}

#[tokio::test]
async fn a_cleared_record_is_empty_and_the_numbers_continue() {
    let fixture = Fixture::start().await;
    fixture.token().await;
    fixture.cisco.forget_seen();
    assert_eq!(fixture.cisco.seen(), []);
    fixture.token().await;
    assert_eq!(fixture.cisco.seen()[0].sequence, 2);
}

#[tokio::test]
async fn later_heads_on_a_connection_are_recorded_byte_for_byte_too() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let mut stream = fixture.connect().await;
    for number in 2..5 {
        let head = format!(
            "PUT /simulator/sink?{number} HTTP/1.1\r\nhOst: a\r\nAuthorization: Bearer {token}\r\n\
             Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let body = "1c;q=1\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n\r\n0\r\nTrailer: 1\r\n\r\n";
        for piece in [head.as_bytes(), body.as_bytes()].concat().chunks(7) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut response = Vec::new();
        while !response.ends_with(b"}") {
            response.push(stream.read_u8().await.unwrap());
        }
        let seen = fixture.cisco.seen().pop().unwrap();
        assert_eq!((seen.sequence, seen.body_bytes), (number, 28));
        assert_eq!(seen.target, format!("/simulator/sink?{number}"));
        assert_eq!(seen.headers[0], ("hOst".to_owned(), "a".to_owned()));
        assert_eq!(seen.headers.len(), 4);
    }
}

#[test]
fn the_oldest_entries_are_dropped() {
    let mut record = Record::default();
    for _ in 0..=ENTRIES_KEPT {
        record.add(&mut Seen::default());
    }
    let dropped = (ENTRIES_KEPT + 1).div_ceil(8);
    assert_eq!(record.list.len(), ENTRIES_KEPT + 1 - dropped);
    assert_eq!(record.list[0].sequence, dropped as u64 + 1);
    record.update(1, |_| panic!("the first entry has been dropped"));

    let target = "x".repeat(BYTES_KEPT / 4);
    for _ in 0..5 {
        record.add(&mut Seen {
            target: target.clone(),
            ..Seen::default()
        });
    }
    assert_eq!(record.list.len(), 4);
}

#[tokio::test]
async fn a_predicate_that_panics_leaves_the_record_usable() {
    let fixture = Fixture::start().await;
    let cisco = fixture.cisco.clone();
    let wait = async move { cisco.wait_for(|_| panic!("an assertion of a test")).await };
    assert!(tokio::spawn(wait).await.is_err());
    fixture.token().await;
    assert_eq!(fixture.cisco.seen().len(), 1);
}
