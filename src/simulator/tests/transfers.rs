use reqwest::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::*;

#[tokio::test]
async fn bytes_come_with_their_count_or_chunked() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    for (query, header) in [("", CONTENT_LENGTH), ("?chunked", TRANSFER_ENCODING)] {
        let path = format!("/simulator/bytes/200000{query}");
        let request = stand.request(Method::GET, &path).bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key(header));
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.iter().copied().eq(pattern(200_000)));
    }
    for path in ["/simulator/bytes/many", "/simulator/bytes/1?chunky"] {
        let request = stand.request(Method::GET, path).bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), 400);
    }
}

#[tokio::test]
async fn the_sink_weighs_what_it_swallows() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let body: Vec<u8> = pattern(1_000_000).collect();
    for method in [Method::POST, Method::PUT] {
        let request = stand.request(method, "/simulator/sink").bearer_auth(&token);
        let reply = json(request.body(body.clone()).send().await.unwrap()).await;
        let sha256 = pattern_sha256(1_000_000);
        assert_eq!(reply, json!({"bytes": 1_000_000, "sha256": sha256}));
    }
}

#[tokio::test]
async fn the_echo_tells_the_request_as_it_came() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let request = format!(
        "PATCH /simulator/echo?x=%2f HTTP/1.1\r\nhOst: a\r\nB: 1\r\nAuthorization: Bearer {token}\r\n\
         b: 2\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    );
    let (answer, _) = stand.exchange(request.as_bytes()).await;
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let reply: Value = serde_json::from_slice(&answer[at + 4..]).unwrap();
    assert_eq!(reply["method"], "PATCH");
    assert_eq!(reply["target"], "/simulator/echo?x=%2f");
    assert_eq!(reply["headers"][0], json!(["hOst", "a"]));
    assert_eq!(reply["headers"][3], json!(["b", "2"]));
    let sha256 = format!("{:x}", Sha256::digest("hi"));
    assert_eq!(reply["body"], json!({"bytes": 2, "sha256": sha256}));
}

#[tokio::test]
async fn transfers_need_a_token() {
    let stand = Stand::start().await;
    for path in ["/simulator/bytes/1", "/simulator/echo", "/simulator/no"] {
        let request = stand.request(Method::GET, path);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}
