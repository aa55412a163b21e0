use reqwest::header::{HOST, ORIGIN};
use serde_json::json;

use super::*;

impl Fixture {
    async fn control(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = self.http.request(method, self.cisco.control_url() + path);
        let response = request.body(body.to_owned()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn control_json(&self, method: Method, path: &str, body: &str) -> Value {
        let (status, text) = self.control(method, path, body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn messages_are_queued_listed_and_dropped() {
    let fixture = Fixture::with(Options {
        clients: vec![client("demo", "demo-secret"), client("other", "x")],
        ..Options::default()
    })
    .await;
    let two = r#"[{"n":1},{"n":2}]"#;
    fixture.control_json(Method::POST, "/messages", two).await;
    let one = r#"{"n":3}"#;
    fixture
        .control_json(Method::POST, "/messages?client=other", one)
        .await;
    let list = fixture.control_json(Method::GET, "/messages", "").await;
    assert_eq!(list, json!([{"n": 1}, {"n": 2}]));
    let dropped = fixture
        .control_json(Method::DELETE, "/messages?client=demo", "")
        .await;
    assert_eq!(dropped["dropped"], 2);
    assert_eq!(fixture.cisco.queue_len(), 1);
    fixture.control_json(Method::DELETE, "/messages", "").await;
    assert_eq!(fixture.cisco.queue_len(), 0);
}

#[tokio::test]
async fn faults_tokens_and_their_expiry_are_controlled() {
    let fixture = Fixture::start().await;
    let fault = r#"{"on":"pull","kind":{"html":{"status":502}}}"#;
    fixture.control_json(Method::POST, "/faults", fault).await;
    let listed = fixture.control_json(Method::GET, "/faults", "").await;
    assert_eq!(listed[0]["kind"]["html"]["status"], 502);
    let token = fixture.token().await;
    assert_eq!(fixture.pull(&token).await.status(), 502);
    fixture.control_json(Method::POST, "/faults", fault).await;
    fixture.control_json(Method::DELETE, "/faults", "").await;
    assert_eq!(fixture.pull(&token).await.status(), 200);
    let revoked = fixture
        .control_json(Method::POST, "/revoke?client=demo", "")
        .await;
    assert_eq!(revoked["revoked"], 1);
    assert_eq!(fixture.pull(&token).await.status(), 401);
    fixture.control_json(Method::PUT, "/lifetime", "60").await;
    let token = fixture.token().await;
    fixture.control_json(Method::POST, "/advance", "61\n").await;
    assert_eq!(fixture.pull(&token).await.status(), 401);
}

#[tokio::test]
async fn recorded_requests_are_shown_without_secrets_and_tokens() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let query = LOGIN.replace("demo-secret", "demo%2Dsecret");
    fixture.login(&format!("?{query}"), "").await;
    let basic = fixture.login_request("", "grant_type=client_credentials");
    let basic = basic.basic_auth("demo", Some("demo-secret"));
    basic.send().await.unwrap();
    fixture.login("", r#"{"client_secret":"demo-secret"}"#).await;
    fixture.pull(&token).await;
    let (_, text) = fixture.control(Method::GET, "/seen", "").await;
    for secret in [&token, "demo-secret", "demo%2Dsecret", "ZGVtbzpkZW1v"] {
        assert!(!text.contains(secret), "{text}");
    }
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen.as_array().unwrap().len(), 5);
    assert_eq!(seen[0]["client_auth"], "form");
    assert_eq!(
        seen[0]["body"],
        "grant_type=client_credentials&client_id=demo&[redacted]"
    );
    let last = fixture.control_json(Method::GET, "/seen?last=1", "").await;
    assert_eq!(last[0]["endpoint"], "pull");
    assert_eq!(last[0]["token_client"], "demo");
    fixture.control_json(Method::DELETE, "/seen", "").await;
    assert_eq!(fixture.cisco.seen(), []);
}

#[tokio::test]
async fn an_error_says_how_to_fix_the_request() {
    let fixture = Fixture::start().await;
    for (method, path, body, expected) in [
        (Method::POST, "/messages", "{n:1}", "quote it for the shell"),
        (Method::POST, "/messages?client=x", "{}", "the clients are demo"),
        (Method::POST, "/messages?cliend=x", "{}", "expected `client`"),
        (Method::POST, "/faults", r#"{"kind":"x"}"#, "expected one of"),
        (
            Method::POST,
            "/faults",
            r#"[{"kind":"hang"},{"kind":"hang","on":"x"}]"#,
            "item 2",
        ),
        (Method::PUT, "/lifetime", "1h", "curl -d 60"),
        (Method::PUT, "/lifetime", "99999999999999", "curl -d 60"),
        (Method::GET, "/seen?last=x", "", "last: invalid digit"),
        (Method::GET, "/seen?last=%zz", "", "last: invalid digit"),
    ] {
        let (status, text) = fixture.control(method, path, body).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(*fixture.cisco.faults(), []);
    let (status, _) = fixture.control(Method::GET, "/nowhere", "").await;
    assert_eq!(status, 404);
    let (status, _) = fixture.control(Method::PATCH, "/faults", "").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn the_help_names_this_simulators_addresses() {
    let fixture = Fixture::start().await;
    let (status, text) = fixture.control(Method::GET, "/", "").await;
    assert_eq!(status, 200);
    assert!(text.contains(&fixture.cisco.url()));
    assert!(text.contains(&format!("curl {}/seen", fixture.cisco.control_url())));
}

#[tokio::test]
async fn browsers_and_foreign_names_are_refused() {
    let fixture = Fixture::start().await;
    let get = || fixture.http.get(fixture.cisco.control_url());
    for (request, status) in [
        (get().header(HOST, "localhost"), 200),
        (get().header(HOST, "[::1]:80"), 200),
        (get().header(HOST, "127.8.8.8"), 200),
        (get().header(HOST, "attacker.example"), 403),
        (get().header(HOST, "localhost.attacker.example"), 403),
        (get().header(ORIGIN, "http://localhost"), 403),
        (get().header("sec-fetch-site", "cross-site"), 403),
    ] {
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}
