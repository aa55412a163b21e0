use sha2::{Digest as _, Sha256};

use super::super::tap::RawHead;
use super::*;

#[tokio::test]
async fn a_request_is_recorded_byte_for_byte() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let head = format!(
        "POST {PUSH_PATH}?a=%2F&b=;,*'x HTTP/1.1\r\nX-B: 1\r\nhost: localhost\r\nX-a: 2\r\nx-b:  3 \r\n\
         AUTHORIZATION: Bearer {token}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    let (answer, end) = stand.exchange(head.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{end:?}");
    let seen = &stand.cisco.seen()[1];
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
    assert_eq!((seen.status, seen.fault), (Some(200), None));
}

#[tokio::test]
async fn requests_on_one_connection_are_told_apart() {
    let stand = Stand::start().await;
    let two = "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET http://b/c?d HTTP/1.0\r\n\r\n";
    let (_, end) = stand.exchange(two.as_bytes()).await;
    assert!(end.is_ok());
    let seen = stand.cisco.seen();
    let shown: Vec<_> = seen
        .iter()
        .map(|seen| (&*seen.target, seen.version, seen.connection, seen.status))
        .collect();
    assert_eq!(
        shown,
        [
            ("/a", "HTTP/1.1", 1, Some(401)),
            ("http://b/c?d", "HTTP/1.0", 1, Some(401))
        ]
    );
}

#[tokio::test]
async fn a_body_is_seen_as_it_comes_and_when_it_breaks_off() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let mut stream = stand.connect().await;
    let head = format!(
        "POST /simulator/sink HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let seen = stand
        .cisco
        .wait_for(|seen| seen.len() == 2 && seen[1].body_bytes == 3)
        .await;
    assert!(!seen[1].body_complete && seen[1].body_sha256.is_none());
    stream.write_all(b"def").await.unwrap();
    stand.cisco.wait_for(|seen| seen[1].body_bytes == 6).await;
    drop(stream);
    let seen = stand
        .cisco
        .wait_for(|seen| seen[1].abandoned || seen[1].status.is_some())
        .await;
    assert!(!seen[1].body_complete);
    assert_eq!(&seen[1].body[..], b"abcdef");
}

#[tokio::test]
async fn only_the_first_64_kib_of_a_body_are_kept() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let body: Vec<u8> = pattern(100_000).collect();
    stand.push(&token, body.clone()).await;
    let seen = &stand.cisco.seen()[1];
    assert_eq!(&seen.body[..], &body[..BODY_KEPT]);
    assert_eq!(seen.body_bytes, 100_000);
    assert_eq!(seen.body_sha256, Some(pattern_sha256(100_000)));
}

#[tokio::test]
async fn what_is_forgotten_is_not_seen_and_the_count_goes_on() {
    let stand = Stand::start().await;
    stand.token().await;
    stand.cisco.forget_seen();
    assert_eq!(stand.cisco.seen(), []);
    stand.token().await;
    assert_eq!(stand.cisco.seen()[0].sequence, 2);
}

#[test]
fn the_oldest_entries_make_room() {
    let record = Arc::new(Record::default());
    let head = RawHead {
        method: "GET".to_owned(),
        target: "/".to_owned(),
        version: "HTTP/1.1",
        headers: Vec::new(),
    };
    let oldest = record.begin(head.clone(), Endpoint::Other, 1, true);
    for _ in 0..ENTRIES_KEPT {
        record.begin(head.clone(), Endpoint::Other, 1, true);
    }
    oldest.answered(StatusCode::OK);
    let seen = record.seen();
    assert_eq!((seen.len(), seen[0].sequence), (ENTRIES_KEPT, 2));
    assert_eq!(seen[0].status, None);

    let large = "x".repeat(BYTES_KEPT / 4);
    for _ in 0..4 {
        let target = large.clone();
        record.begin(
            RawHead {
                target,
                ..head.clone()
            },
            Endpoint::Other,
            1,
            true,
        );
    }
    assert_eq!(record.seen().len(), 4);
}

#[tokio::test]
async fn a_predicate_that_panics_leaves_the_record_whole() {
    let stand = Stand::start().await;
    let cisco = stand.cisco.clone();
    let wait = async move { cisco.wait_for(|_| panic!("a test's own assertion")).await };
    assert!(tokio::spawn(wait).await.is_err());
    stand.token().await;
    assert_eq!(stand.cisco.seen().len(), 1);
}
