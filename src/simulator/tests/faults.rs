use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER};
use serde_json::json;

use super::*;

fn raw_pull(token: &str) -> Vec<u8> {
    format!("GET {PULL_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

#[tokio::test]
async fn faults_strike_in_order_and_as_often_as_said() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let status = |code| Kind::status(StatusCode::from_u16(code).unwrap());
    stand.cisco.script(Fault::on(On::Push, status(500)));
    stand.cisco.script(Fault::on(On::Pull, status(503)).times(2));
    stand.cisco.script(Fault::on(On::Any, status(596)));
    stand
        .cisco
        .script(Fault::on(On::Path(PULL_PATH.to_owned()), Kind::Empty).forever());
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(stand.pull(&token).await.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 596, 200]);
    assert_eq!(stand.pull(&token).await.text().await.unwrap(), "");
    assert_eq!(stand.cisco.faults().len(), 2);
    assert_eq!(stand.push(&token, "{}").await.status(), 500);
    stand.cisco.clear_faults();
    assert_ne!(stand.pull(&token).await.text().await.unwrap(), "");
    assert_eq!(stand.cisco.seen()[1].fault, Some("status"));
}

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_and_leaves_the_message() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    stand.cisco.script(Fault::on(On::Pull, Kind::Reset));
    let (answer, end) = stand.exchange(&raw_pull(&token)).await;
    assert_eq!(answer, b"");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stand.cisco.queue_len(), 1);
    let seen = stand.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!((seen[1].status, seen[1].fault), (None, Some("reset")));
}

#[tokio::test]
async fn a_reset_after_the_effect_loses_the_message() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    stand
        .cisco
        .script(Fault::on(On::Pull, Kind::Reset).after_effect());
    assert!(stand.pull_request(&token).send().await.is_err());
    assert_eq!(stand.cisco.queue_len(), 0);
}

#[tokio::test]
async fn a_close_is_an_end_in_good_order() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.script(Fault::on(On::Pull, Kind::Close));
    let (answer, end) = stand.exchange(&raw_pull(&token)).await;
    assert_eq!((answer, end.unwrap()), (Vec::new(), 0));
}

#[tokio::test]
async fn raw_bytes_take_the_place_of_an_answer() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    stand
        .cisco
        .script(Fault::on(On::Pull, Kind::Raw { bytes: bytes.clone() }));
    let (answer, end) = stand.exchange(&raw_pull(&token)).await;
    assert_eq!((answer, end.unwrap()), (bytes.to_vec(), bytes.len()));
}

#[tokio::test]
async fn half_an_answer_has_its_whole_head_and_half_its_body() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    for (then, is_reset) in [(Then::Reset, true), (Then::Close, false)] {
        stand.cisco.put_raw_message("demo", "x".repeat(1000));
        stand.cisco.script(Fault::on(On::Pull, Kind::Half { then }));
        let (answer, end) = stand.exchange(&raw_pull(&token)).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 1000"), "{head}");
        assert_eq!(body, "x".repeat(500));
        assert_eq!(end.is_err(), is_reset);
    }
}

#[tokio::test]
async fn half_an_answer_can_be_left_hanging_until_the_client_goes() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    let then = Then::Hang;
    stand.cisco.script(Fault::on(On::Pull, Kind::Half { then }));
    let mut response = stand.pull(&token).await;
    assert!(response.content_length().unwrap() > 1);
    assert!(response.chunk().await.unwrap().is_some());
}

#[tokio::test]
async fn truncated_json_is_a_whole_answer_of_half_the_text() {
    let stand = Stand::start().await;
    stand.cisco.script(Fault::on(On::Token, Kind::TruncatedJson));
    let response = stand.login("", LOGIN).await;
    let length = response.headers()[CONTENT_LENGTH].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(length, text.len().to_string());
    assert!(text.starts_with("{\"access_token\":\"") && !text.ends_with('}'));
}

#[tokio::test]
async fn a_hanging_request_ends_when_its_client_leaves() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    stand.cisco.script(Fault::on(On::Pull, Kind::Hang).after_effect());
    let pull = tokio::spawn(stand.pull_request(&token).send());
    stand
        .cisco
        .wait_for(|seen| seen.len() == 2 && seen[1].token_client.is_some())
        .await;
    pull.abort();
    let seen = stand.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!(seen[1].fault, Some("hang"));
    assert_eq!(stand.cisco.queue_len(), 0);
}

#[tokio::test]
async fn a_slow_request_that_is_left_has_no_effect() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    let ms = 3_600_000;
    stand.cisco.script(Fault::on(On::Pull, Kind::Slow { ms }));
    let pull = tokio::spawn(stand.pull_request(&token).send());
    stand.cisco.wait_for(|seen| seen.len() == 2).await;
    pull.abort();
    stand.cisco.wait_for(|seen| seen[1].abandoned).await;
    assert_eq!(stand.cisco.queue_len(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_the_real_one() {
    let stand = Stand::start().await;
    stand.cisco.script(Fault::on(On::Token, Kind::Slow { ms: 1 }));
    assert_eq!(stand.pull(&stand.token().await).await.status(), 200);
}

#[tokio::test]
async fn rate_limits_carry_oktas_headers() {
    let stand = Stand::start().await;
    stand.cisco.script(Fault::on(
        On::Token,
        Kind::RateLimited {
            retry_after: Some(7),
            reset_in: 30,
        },
    ));
    let response = stand.login("", LOGIN).await;
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
async fn token_replies_can_lack_the_token_or_hold_a_bad_one() {
    let stand = Stand::start().await;
    stand.cisco.script(Fault::on(On::Token, Kind::NoAccessToken));
    stand.cisco.script(Fault::on(On::Token, Kind::BadToken));
    let reply = json(stand.login("", LOGIN).await).await;
    assert_eq!(reply, json!({"token_type": "Bearer", "expires_in": 3599}));
    let reply = json(stand.login("", LOGIN).await).await;
    let token = reply["access_token"].as_str().unwrap();
    assert!(http::HeaderValue::try_from(token).is_err());
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let stand = Stand::start().await;
    let kind = Kind::status(StatusCode::SERVICE_UNAVAILABLE);
    stand.cisco.script(Fault::on(On::Push, kind).early());
    let mut stream = stand.connect().await;
    let head = format!("POST {PUSH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    assert!(!stand.cisco.seen()[0].body_complete);
}

#[tokio::test]
async fn idle_connections_can_be_reset_too() {
    let stand = Stand::start().await;
    let mut stream = stand.connect().await;
    let request = format!("GET {PULL_PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    stand.cisco.reset_connections();
    let end = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_fault_as_json_is_read_strictly_and_written_back() {
    for text in [
        r#"{"on":"pull","times":2,"kind":"reset","after_effect":true,"early":false}"#,
        r#"{"on":"/a","times":"forever","kind":{"status":{"code":596,"headers":[["a","b"],["a","c"]],"body":"x"}},"after_effect":false,"early":false}"#,
        r#"{"on":"any","times":1,"kind":{"half":{"then":"close"}},"after_effect":false,"early":false}"#,
        r#"{"on":"token","times":1,"kind":{"raw":{"bytes":"x"}},"after_effect":false,"early":true}"#,
    ] {
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&fault).unwrap(), text);
    }
    let short: Fault = serde_json::from_str(r#"{"kind":"hang"}"#).unwrap();
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
        assert!(serde_json::from_str::<Fault>(wrong).is_err(), "{wrong}");
    }
}
