use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER};
use serde_json::json;

use super::*;

fn raw_pull(token: &str) -> Vec<u8> {
    format!("GET {PULL_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

#[tokio::test]
async fn faults_are_injected_in_order_and_as_often_as_scripted() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let status = |code| Kind::status(StatusCode::from_u16(code).unwrap());
    fixture.cisco.script(Fault::on(On::Push, status(500)));
    fixture.cisco.script(Fault::on(On::Pull, status(503)).times(2));
    fixture.cisco.script(Fault::on(On::Any, status(596)));
    fixture
        .cisco
        .script(Fault::on(On::Path(PULL_PATH.to_owned()), Kind::Empty).forever());
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(fixture.pull(&token).await.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 596, 200]);
    assert_eq!(fixture.pull(&token).await.text().await.unwrap(), "");
    assert_eq!(fixture.cisco.faults().len(), 2);
    assert_eq!(fixture.push(&token, "{}").await.status(), 500);
    fixture.cisco.faults().clear();
    assert_ne!(fixture.pull(&token).await.text().await.unwrap(), "");
    assert_eq!(fixture.cisco.seen()[1].fault, Some("status".to_owned()));
}

#[tokio::test]
async fn a_reset_before_the_effect_leaves_the_message() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    fixture.cisco.script(Fault::on(On::Pull, Kind::Reset));
    let (response, end) = fixture.exchange(&raw_pull(&token)).await;
    assert_eq!(response, b"");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(fixture.cisco.queue_len(), 1);
    let seen = fixture.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!((seen[1].status, seen[1].fault.as_deref()), (None, Some("reset")));
}

#[tokio::test]
async fn a_reset_after_the_effect_loses_the_message() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    fixture
        .cisco
        .script(Fault::on(On::Pull, Kind::Reset).after_effect());
    assert!(fixture.pull_request(&token).send().await.is_err());
    assert_eq!(fixture.cisco.queue_len(), 0);
}

#[tokio::test]
async fn a_close_ends_the_connection_without_a_reset() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.script(Fault::on(On::Pull, Kind::Close));
    let (response, end) = fixture.exchange(&raw_pull(&token)).await;
    assert_eq!((response, end.unwrap()), (Vec::new(), 0));
}

#[tokio::test]
async fn raw_bytes_replace_the_response() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    fixture
        .cisco
        .script(Fault::on(On::Pull, Kind::Raw { bytes: bytes.clone() }));
    let (response, end) = fixture.exchange(&raw_pull(&token)).await;
    assert_eq!((response, end.unwrap()), (bytes.to_vec(), bytes.len()));
}

#[tokio::test]
async fn half_a_response_has_its_whole_head_and_half_its_body() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (then, is_reset) in [(Then::Reset, true), (Then::Close, false)] {
        fixture.cisco.put_raw_message("demo", "x".repeat(1000));
        fixture.cisco.script(Fault::on(On::Pull, Kind::Half { then }));
        let (response, end) = fixture.exchange(&raw_pull(&token)).await;
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 1000"), "{head}");
        assert_eq!(body, "x".repeat(500));
        assert_eq!(end.is_err(), is_reset);
    }
}

#[tokio::test]
async fn half_a_response_can_hang_until_the_client_leaves() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    let then = Then::Hang;
    fixture.cisco.script(Fault::on(On::Pull, Kind::Half { then }));
    let mut response = fixture.pull(&token).await;
    assert!(response.content_length().unwrap() > 1);
    assert!(response.chunk().await.unwrap().is_some());
}

#[tokio::test]
async fn truncated_json_is_a_complete_response_with_half_the_text() {
    let fixture = Fixture::start().await;
    fixture.cisco.script(Fault::on(On::Token, Kind::TruncatedJson));
    let response = fixture.login("", LOGIN).await;
    let length = response.headers()[CONTENT_LENGTH].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(length, text.len().to_string());
    assert!(text.starts_with("{\"access_token\":\"") && !text.ends_with('}'));
}

#[tokio::test]
async fn a_hanging_request_ends_when_its_client_leaves() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    fixture
        .cisco
        .script(Fault::on(On::Pull, Kind::Hang).after_effect());
    let pull = tokio::spawn(fixture.pull_request(&token).send());
    fixture
        .cisco
        .wait_for(|seen| seen.len() == 2 && seen[1].token_client.is_some())
        .await;
    pull.abort();
    let seen = fixture.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!(seen[1].fault.as_deref(), Some("hang"));
    assert_eq!(fixture.cisco.queue_len(), 0);
}

#[tokio::test]
async fn a_slow_request_whose_client_leaves_has_no_effect() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    let ms = 3_600_000;
    fixture.cisco.script(Fault::on(On::Pull, Kind::Slow { ms }));
    let pull = tokio::spawn(fixture.pull_request(&token).send());
    fixture.cisco.wait_for(|seen| seen.len() == 2).await;
    pull.abort();
    fixture.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!(fixture.cisco.queue_len(), 1);
}

#[tokio::test]
async fn a_slow_response_is_the_real_one() {
    let fixture = Fixture::start().await;
    fixture.cisco.script(Fault::on(On::Token, Kind::Slow { ms: 1 }));
    assert_eq!(fixture.pull(&fixture.token().await).await.status(), 200);
}

#[tokio::test]
async fn rate_limits_carry_oktas_headers() {
    let fixture = Fixture::start().await;
    fixture.cisco.script(Fault::on(
        On::Token,
        Kind::RateLimited {
            retry_after: Some(7),
            reset_in: 30,
        },
    ));
    let response = fixture.login("", LOGIN).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[RETRY_AFTER], "7");
    assert_eq!(response.headers()["x-rate-limit-remaining"], "0");
    let reset = response.headers()["x-rate-limit-reset"].to_str().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = reset.parse::<u64>().unwrap() - now.as_secs();
    assert!((29..=30).contains(&ahead), "{ahead}");
    assert_eq!(json(response).await["errorCode"], "E0000047");
}

#[tokio::test]
async fn a_token_response_can_lack_the_token_or_hold_a_bad_one() {
    let fixture = Fixture::start().await;
    fixture.cisco.script(Fault::on(On::Token, Kind::NoAccessToken));
    fixture.cisco.script(Fault::on(On::Token, Kind::BadToken));
    let reply = json(fixture.login("", LOGIN).await).await;
    assert_eq!(reply, json!({"token_type": "Bearer", "expires_in": 3599}));
    let reply = json(fixture.login("", LOGIN).await).await;
    let token = reply["access_token"].as_str().unwrap();
    assert!(http::HeaderValue::try_from(token).is_err());
}

#[tokio::test]
async fn an_early_response_does_not_wait_for_the_body() {
    let fixture = Fixture::start().await;
    let kind = Kind::status(StatusCode::SERVICE_UNAVAILABLE);
    fixture.cisco.script(Fault::on(On::Push, kind).early());
    let mut stream = fixture.connect().await;
    let head = format!("POST {PUSH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 503");
    assert!(!fixture.cisco.seen()[0].body_complete);
}

#[test]
fn a_fault_is_parsed_strictly_and_serialized_back() {
    for text in [
        r#"{"on":"pull","times":2,"kind":"reset","after_effect":true,"early":false}"#,
        r#"{"on":"/a","times":"forever","kind":{"status":{"code":596,"headers":[["a","b"],["a","c"]],"body":"x"}},"after_effect":false,"early":false}"#,
        r#"{"on":"any","times":1,"kind":{"half":{"then":"close"}},"after_effect":false,"early":false}"#,
        r#"{"on":"token","times":1,"kind":{"raw":{"bytes":"x"}},"after_effect":false,"early":true}"#,
    ] {
        let fault = Fault::parse(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&fault).unwrap(), text);
    }
    let short = Fault::parse(&json!({"kind": "hang"})).unwrap();
    assert_eq!(short, Fault::on(On::Any, Kind::Hang));
    for wrong in [
        "{}",
        r#"{"kind":"explode"}"#,
        r#"{"kind":"hang","time":2}"#,
        r#"{"kind":"hang","times":0}"#,
        r#"{"kind":"hang","times":"often"}"#,
        r#"{"kind":"hang","on":"everything"}"#,
        r#"{"kind":{"status":{"code":101}}}"#,
        r#"{"kind":{"status":{"code":500,"headers":[["a b","c"]]}}}"#,
        r#"{"kind":{"slow":{"ms":-1}}}"#,
    ] {
        assert!(
            Fault::parse(&serde_json::from_str(wrong).unwrap()).is_err(),
            "{wrong}"
        );
    }
}
