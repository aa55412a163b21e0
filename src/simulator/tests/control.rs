use reqwest::header::{HOST, ORIGIN};
use serde_json::json;

use super::*;

impl Stand {
    async fn order(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = self.http.request(method, self.cisco.control_url() + path);
        let response = request.body(body.to_owned()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn ordered(&self, method: Method, path: &str, body: &str) -> Value {
        let (status, text) = self.order(method, path, body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn messages_are_put_listed_and_dropped() {
    let stand = Stand::with(Options {
        clients: vec![client("demo", "demo-secret"), client("other", "x")],
        ..Options::default()
    })
    .await;
    let two = r#"[{"n":1},{"n":2}]"#;
    stand.ordered(Method::POST, "/messages", two).await;
    let one = r#"{"n":3}"#;
    stand.ordered(Method::POST, "/messages?client=other", one).await;
    let list = stand.ordered(Method::GET, "/messages", "").await;
    assert_eq!(list, json!([{"n": 1}, {"n": 2}]));
    let dropped = stand.ordered(Method::DELETE, "/messages?client=demo", "").await;
    assert_eq!(dropped["dropped"], 2);
    assert_eq!(stand.cisco.queue_len_of("other"), 1);
    stand.ordered(Method::DELETE, "/messages", "").await;
    assert_eq!(stand.cisco.queue_len(), 0);
}

#[tokio::test]
async fn faults_tokens_and_the_clock_take_orders() {
    let stand = Stand::start().await;
    let fault = r#"{"on":"pull","kind":{"html":{"status":502}}}"#;
    stand.ordered(Method::POST, "/faults", fault).await;
    let listed = stand.ordered(Method::GET, "/faults", "").await;
    assert_eq!(listed[0]["kind"]["html"]["status"], 502);
    let token = stand.token().await;
    assert_eq!(stand.pull(&token).await.status(), 502);
    stand.ordered(Method::POST, "/faults", fault).await;
    stand.ordered(Method::DELETE, "/faults", "").await;
    assert_eq!(stand.pull(&token).await.status(), 200);
    let revoked = stand.ordered(Method::POST, "/revoke?client=demo", "").await;
    assert_eq!(revoked["revoked"], 1);
    assert_eq!(stand.pull(&token).await.status(), 401);
    stand.ordered(Method::PUT, "/lifetime", "60").await;
    let token = stand.token().await;
    stand.ordered(Method::POST, "/advance", "61\n").await;
    assert_eq!(stand.pull(&token).await.status(), 401);
}

#[tokio::test]
async fn what_was_seen_is_shown_without_secrets_and_tokens() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let query = LOGIN.replace("demo-secret", "demo%2Dsecret");
    stand.login(&format!("?{query}"), "").await;
    let basic = stand.login_request("", "grant_type=client_credentials");
    let basic = basic.basic_auth("demo", Some("demo-secret"));
    basic.send().await.unwrap();
    stand.login("", r#"{"client_secret":"demo-secret"}"#).await;
    stand.pull(&token).await;
    let (_, text) = stand.order(Method::GET, "/seen", "").await;
    for secret in [&token, "demo-secret", "demo%2Dsecret", "ZGVtbzpkZW1v"] {
        assert!(!text.contains(secret), "{text}");
    }
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen.as_array().unwrap().len(), 5);
    assert_eq!(seen[0]["client_auth"], "form");
    assert_eq!(
        seen[0]["body"],
        "grant_type=client_credentials&client_id=demo [1 more redacted]"
    );
    let last = stand.ordered(Method::GET, "/seen?last=1", "").await;
    assert_eq!(last[0]["endpoint"], "pull");
    assert_eq!(last[0]["token_client"], "demo");
    stand.ordered(Method::DELETE, "/seen", "").await;
    assert_eq!(stand.cisco.seen(), []);
}

#[tokio::test]
async fn mistakes_are_told_with_their_mend() {
    let stand = Stand::start().await;
    for (method, path, body, mend) in [
        (Method::POST, "/messages", "{n:1}", "quote it for the shell"),
        (Method::POST, "/messages?client=x", "{}", "the clients are demo"),
        (Method::POST, "/messages?cliend=x", "{}", "?client="),
        (Method::POST, "/faults", r#"{"kind":"x"}"#, "expected one of"),
        (
            Method::POST,
            "/faults",
            r#"[{"kind":"hang"},{"kind":"hang","on":"x"}]"#,
            "item 2",
        ),
        (Method::PUT, "/lifetime", "1h", "curl -d 60"),
        (Method::PUT, "/lifetime", "99999999999999", "curl -d 60"),
        (Method::GET, "/seen?last=x", "", "/seen?last=10"),
        (Method::GET, "/seen?last=%zz", "", "hexadecimal"),
    ] {
        let (status, text) = stand.order(method, path, body).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(mend), "{text}");
    }
    assert_eq!(stand.cisco.faults(), []);
    let (status, _) = stand.order(Method::GET, "/nowhere", "").await;
    assert_eq!(status, 404);
    let (status, _) = stand.order(Method::PATCH, "/faults", "").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn the_help_names_this_simulators_addresses() {
    let stand = Stand::start().await;
    let (status, text) = stand.order(Method::GET, "/", "").await;
    assert_eq!(status, 200);
    assert!(text.contains(&stand.cisco.url()));
    assert!(text.contains(&format!("curl {}/seen", stand.cisco.control_url())));
}

#[tokio::test]
async fn web_pages_and_foreign_names_are_refused() {
    let stand = Stand::start().await;
    let get = || stand.http.get(stand.cisco.control_url());
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
