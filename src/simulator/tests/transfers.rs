use reqwest::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::*;

#[tokio::test]
async fn bytes_have_a_content_length_or_are_chunked() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (query, header) in [("", CONTENT_LENGTH), ("?chunked", TRANSFER_ENCODING)] {
        let path = format!("/simulator/bytes/200000{query}");
        let request = fixture.request(Method::GET, &path).bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key(header));
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.iter().copied().eq(pattern(200_000)));
    }
    for path in ["/simulator/bytes/many", "/simulator/bytes/1?chunky"] {
        let request = fixture.request(Method::GET, path).bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), 400);
    }
}

#[tokio::test]
async fn the_sink_returns_the_size_and_hash_of_the_body() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let body: Vec<u8> = pattern(1_000_000).collect();
    for method in [Method::POST, Method::PUT] {
        let request = fixture.request(method, "/simulator/sink").bearer_auth(&token);
        let reply = json(request.body(body.clone()).send().await.unwrap()).await;
        let sha256 = pattern_sha256(1_000_000);
        assert_eq!(reply, json!({"bytes": 1_000_000, "sha256": sha256}));
    }
}

#[tokio::test]
async fn the_echo_returns_the_request_as_received() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let request = format!(
        "PATCH /simulator/echo?x=%2f HTTP/1.1\r\nhOst: a\r\nB: 1\r\nAuthorization: Bearer {token}\r\n\
         b: 2\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    );
    let (response, _) = fixture.exchange(request.as_bytes()).await;
    let at = response.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let reply: Value = serde_json::from_slice(&response[at + 4..]).unwrap();
    assert_eq!(reply["method"], "PATCH");
    assert_eq!(reply["target"], "/simulator/echo?x=%2f");
    assert_eq!(reply["headers"][0], json!(["hOst", "a"]));
    assert_eq!(reply["headers"][3], json!(["b", "2"]));
    let sha256 = format!("{:x}", Sha256::digest("hi"));
    assert_eq!(reply["body"], json!({"bytes": 2, "sha256": sha256}));
}

#[tokio::test]
async fn transfers_need_a_token() {
    let fixture = Fixture::start().await;
    for path in ["/simulator/bytes/1", "/simulator/echo"] {
        let request = fixture.request(Method::GET, path);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}
