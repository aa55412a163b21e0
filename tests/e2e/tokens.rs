//! How tokens are requested, awaited and kept fresh.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::{Client, ClientAuth, Endpoint, Fault, Handle, Kind, On, Options, Seen};
use http::StatusCode;
use tokio::task::JoinSet;

use crate::harness::{Answer, PULL, Setup, seen_when, send, simulator};

/// Every character that a form has to encode, and some that it has not.
const ID: &str = "0oa+id %&=/\u{e9}";
const ID_ENCODED: &str = "0oa%2Bid+%25%26%3D%2F%C3%A9";
const SECRET: &str = "s+3%c&r=e/t \u{fc}\u{20ac}";
const SECRET_ENCODED: &str = "s%2B3%25c%26r%3De%2Ft+%C3%BC%E2%82%AC";

/// The demo client's secret, form-encoded.
const DEMO_ENCODED: &str = "canary%2B4+%26%3D%25%2F%C3%A4";

const TOKEN_PATH: &str = "/oauth2/default/v1/token";
const FORM: &str = "application/x-www-form-urlencoded";

async fn simulator_with(id: &str, secret: &str) -> Handle {
    let client = Client {
        id: id.to_owned(),
        secret: secret.to_owned(),
    };
    simulator(Options {
        clients: vec![client],
        ..Options::default()
    })
    .await
}

/// The token request that a daemon with these settings sends; it was granted.
async fn token_request(more: &str) -> Seen {
    let cisco = simulator_with(ID, SECRET).await;
    let setup = Setup::new().upstream("cisco", &cisco, ID, SECRET, more);
    let _daemon = setup.listener("127.0.0.1:0", "").start().await;
    let request = cisco.seen().remove(0);
    assert_eq!((request.endpoint, request.status), (Endpoint::Token, Some(200)));
    assert_eq!((request.method.as_str(), request.version), ("POST", "HTTP/1.1"));
    assert_eq!(request.header("content-type"), [FORM]);
    assert_eq!(
        request.header("content-length"),
        [request.body_bytes.to_string().as_str()]
    );
    assert!(request.header("transfer-encoding").is_empty() && request.body_complete);
    request
}

fn body(request: &Seen) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

fn token_requests(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|request| request.endpoint == Endpoint::Token)
        .count()
}

#[tokio::test]
async fn client_auth_query_sends_all_three_parameters_in_the_query_and_no_body() {
    let request = token_request("client_auth = \"query\"").await;
    let expected = format!(
        "{TOKEN_PATH}?grant_type=client_credentials&client_id={ID_ENCODED}&client_secret={SECRET_ENCODED}"
    );
    assert_eq!(request.target, expected);
    assert_eq!(
        (body(&request), request.header("content-length")),
        ("", vec!["0"])
    );
    assert!(request.header("authorization").is_empty());
    assert_eq!(request.client_auth, Some(ClientAuth::Query));
}

#[tokio::test]
async fn client_auth_form_sends_all_three_parameters_in_the_body_and_no_query() {
    let request = token_request("client_auth = \"form\"").await;
    assert_eq!(request.target, TOKEN_PATH);
    let expected =
        format!("grant_type=client_credentials&client_id={ID_ENCODED}&client_secret={SECRET_ENCODED}");
    assert_eq!(body(&request), expected);
    assert!(request.header("authorization").is_empty());
    assert_eq!(request.client_auth, Some(ClientAuth::Form));
}

#[tokio::test]
async fn client_auth_mixed_sends_the_grant_type_in_body_and_query_and_credentials_in_the_query() {
    let request = token_request("client_auth = \"mixed\"").await;
    let expected = format!(
        "{TOKEN_PATH}?grant_type=client_credentials&client_id={ID_ENCODED}&client_secret={SECRET_ENCODED}"
    );
    assert_eq!(request.target, expected);
    assert_eq!(body(&request), "grant_type=client_credentials");
    assert!(request.header("authorization").is_empty());
    assert_eq!(request.client_auth, Some(ClientAuth::Mixed));
}

#[tokio::test]
async fn client_auth_basic_sends_form_encoded_credentials_by_http_basic() {
    let request = token_request("client_auth = \"basic\"").await;
    assert_eq!(request.target, TOKEN_PATH);
    assert_eq!(body(&request), "grant_type=client_credentials");
    let pair = BASE64_STANDARD.encode(format!("{ID_ENCODED}:{SECRET_ENCODED}"));
    assert_eq!(request.header("authorization"), [format!("Basic {pair}")]);
    assert_eq!(request.client_auth, Some(ClientAuth::Basic));
}

#[tokio::test]
async fn a_scope_goes_where_the_credentials_go() {
    let request = token_request("scope = \"a b/c\"").await;
    assert!(body(&request).ends_with("&scope=a+b%2Fc"), "{}", body(&request));
    let request = token_request("client_auth = \"query\"\nscope = \"a b/c\"").await;
    assert!(request.target.ends_with("&scope=a+b%2Fc"), "{}", request.target);
}

#[tokio::test]
async fn a_grant_type_pasted_into_token_url_is_not_doubled() {
    for (client_auth, expected) in [
        ("form", TOKEN_PATH.to_owned()),
        (
            "query",
            format!("{TOKEN_PATH}?grant_type=client_credentials&client_id=demo&client_secret={DEMO_ENCODED}"),
        ),
    ] {
        let cisco = simulator(Options::default()).await;
        let pasted = format!("{}?grant_type=client_credentials", cisco.token_url());
        let _daemon = Setup::at(&cisco)
            .environment("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", &pasted)
            .environment("BONDGATE__UPSTREAM__CISCO__CLIENT_AUTH", client_auth)
            .start()
            .await;
        assert_eq!(cisco.seen()[0].target, expected);
    }
}

#[tokio::test]
async fn two_upstreams_keep_their_tokens_apart_under_concurrent_requests() {
    let ciscos = [
        simulator_with("first", "first-secret").await,
        simulator_with("second", "second-secret").await,
    ];
    let daemon = Setup::new()
        .upstream("first", &ciscos[0], "first", "first-secret", "")
        .upstream("second", &ciscos[1], "second", "second-secret", "")
        .listener("127.0.0.1:0", "upstream = \"first\"")
        .listener("127.0.0.1:0", "upstream = \"second\"")
        .start()
        .await;

    let addresses = daemon.addresses();
    let mut requests = JoinSet::new();
    for number in 0..60 {
        requests.spawn(send(addresses[number % 2], get(PULL)));
    }
    let responses = requests.join_all().await;

    assert!(
        responses.iter().all(|response| response.status() == 200),
        "{responses:?}"
    );
    let bearers = ["first", "second"].map(|client| {
        let cisco = &ciscos[usize::from(client == "second")];
        let seen = api_requests(&cisco.seen());
        assert_eq!(seen.len(), 30);
        let owners = seen.iter().map(|request| request.token_client.as_deref());
        assert!(owners.into_iter().all(|owner| owner == Some(client)));
        bearers(&seen)
    });
    assert_eq!((bearers[0].len(), bearers[1].len()), (1, 1));
    assert!(bearers[0].is_disjoint(&bearers[1]));
}

#[tokio::test]
async fn a_request_before_the_first_token_waits_for_it_and_is_relayed() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Token, Kind::Slow { ms: 800 }));
    let daemon = Setup::at(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__WAIT", "20s")
        .start_without_token()
        .await;
    assert_eq!(daemon.ask("/readyz").await.status(), 503, "there is no token yet");

    assert_eq!(daemon.get(PULL).await.status(), 200);
    assert_eq!(token_requests(&cisco.seen()), 1);
}

#[tokio::test]
async fn a_request_without_a_token_after_its_wait_gets_503_with_retry_after() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Token, Kind::Hang).forever());
    let daemon = Setup::at(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__WAIT", "300ms")
        .start_without_token()
        .await;
    let began = Instant::now();

    let response = daemon.get(PULL).await;

    assert_without_token(&response);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(
        api_requests(&cisco.seen()).is_empty(),
        "nothing goes up without a token"
    );
}

#[tokio::test]
async fn a_wait_for_a_token_ends_before_timeout_head_and_says_that_nothing_was_sent() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Token, Kind::Hang).forever());
    let daemon = Setup::at(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__WAIT", "20s")
        .environment("BONDGATE__UPSTREAM__CISCO__TIMEOUT__HEAD", "500ms")
        .start_without_token()
        .await;

    assert_without_token(&daemon.get(PULL).await);
}

#[tokio::test]
async fn after_a_failed_first_fetch_requests_get_503_at_once() {
    let cisco = simulator(Options::default()).await;
    let failure = Kind::status(StatusCode::INTERNAL_SERVER_ERROR);
    cisco.script(Fault::on(On::Token, failure).forever());
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__WAIT", "20s")
        .start_without_token()
        .await;
    daemon.logged("no valid token").await;
    let began = Instant::now();

    let response = daemon.get(PULL).await;

    assert_without_token(&response);
    assert!(
        response.body().contains("temporarily unavailable (500)"),
        "{response:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for a token");
}

#[tokio::test]
async fn a_failing_fetch_is_logged_once_never_ends_the_daemon_and_recovers() {
    let cisco = simulator(Options::default()).await;
    let failure = Kind::status(StatusCode::SERVICE_UNAVAILABLE);
    cisco.script(Fault::on(On::Token, failure).forever());
    let mut daemon = Setup::at(&cisco).start_without_token().await;
    // When the third begins, the result of the second has been logged.
    seen_when(&cisco, |seen| token_requests(seen) == 3).await;
    let failures = daemon
        .log()
        .into_iter()
        .filter(|line| line.contains("no valid token"));
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert!(
        failures[0].contains("\"problem\":\"token-unavailable\""),
        "{failures:?}"
    );

    cisco.faults().clear();
    daemon.logged("token acquired").await;

    assert_eq!(daemon.get(PULL).await.status(), 200);
    assert_eq!(cisco.tokens.max_concurrent(), 1);
}

#[tokio::test]
async fn the_daemon_waits_for_a_secret_file_that_does_not_exist_yet() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let secret = setup.file("late-secret", "");
    std::fs::remove_file(&secret).unwrap();
    let secret = secret.display().to_string();
    let mut daemon = setup
        .environment("BONDGATE_CLIENT_SECRET_FILE", &secret)
        .start_without_token()
        .await;
    daemon.logged(&format!("cannot read {secret}")).await;
    assert_without_token(&daemon.get(PULL).await);
    assert!(cisco.seen().is_empty(), "no token request without a secret");

    std::fs::write(&secret, format!("{}\n", crate::harness::DEMO_SECRET)).unwrap();
    daemon.logged("token acquired").await;

    assert_eq!(daemon.get(PULL).await.status(), 200);
}

#[tokio::test]
async fn a_malformed_token_reply_is_logged_and_the_next_one_is_used() {
    let html = |status| Kind::Html { status };
    let mut runs = JoinSet::new();
    for (kind, why) in [
        (html(200), "\"problem\":\"login-page\""),
        (Kind::Empty, "\"problem\":\"token-response-empty\""),
        (Kind::TruncatedJson, "its JSON ends early"),
        (Kind::NoAccessToken, "access_token is missing"),
        (
            Kind::BadToken,
            "access_token holds characters that no bearer token may have",
        ),
    ] {
        runs.spawn(async move {
            let cisco = simulator(Options::default()).await;
            cisco.script(Fault::on(On::Token, kind));
            let mut daemon = Setup::at(&cisco).start_without_token().await;
            daemon.logged(why).await;
            daemon.logged("token acquired").await;
            assert_eq!(daemon.get(PULL).await.status(), 200);
            assert_eq!(token_requests(&cisco.seen()), 2);
        });
    }
    runs.join_all().await;
}

#[tokio::test]
async fn a_wrong_secret_is_logged_once_and_the_state_is_misconfigured() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::new()
        .upstream("cisco", &cisco, "demo", "not-the-secret", "")
        .listener("127.0.0.1:0", "")
        .start_without_token()
        .await;
    daemon.logged("\"problem\":\"client-secret-refused\"").await;
    assert_without_token(&daemon.get(PULL).await);

    let token = daemon.status().await["upstreams"][0]["token"].clone();
    assert_eq!(
        (&token["state"], &token["last_error"]["kind"]),
        (&"misconfigured".into(), &"refused".into())
    );
    let wait = token["next_attempt_s"].as_u64().unwrap();
    assert!((20..=60).contains(&wait), "{wait} s to the next failed login");
    let failures = daemon
        .log()
        .into_iter()
        .filter(|line| line.contains("no valid token"));
    assert_eq!(failures.count(), 1);
}

#[tokio::test]
async fn a_secret_that_replaces_a_wrong_one_is_tried_at_once() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::new()
        .upstream("cisco", &cisco, "demo", "not-the-secret", "")
        .listener("127.0.0.1:0", "")
        .start_without_token()
        .await;
    daemon.logged("refuses the client secret").await;
    let secret = daemon.directory.path().join("cisco.secret");
    let next = daemon.directory.path().join("next");
    std::fs::write(&next, format!("{}\n", crate::harness::DEMO_SECRET)).unwrap();
    let began = Instant::now();
    std::fs::rename(next, secret).unwrap();

    daemon.logged("token acquired").await;

    // Unnoticed, it would be tried after 30 s at the soonest.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(daemon.get(PULL).await.status(), 200);
    assert_eq!(token_requests(&cisco.seen()), 2);
}

#[tokio::test]
async fn tokens_are_replaced_in_the_background_while_every_request_succeeds() {
    let cisco = simulator(Options::default()).await;
    cisco.options().token_lifetime = Duration::from_secs(2);
    let daemon = Setup::at(&cisco).start().await;

    while bearers(&api_requests(&cisco.seen())).len() < 4 {
        let response = daemon.get(PULL).await;
        assert_eq!(response.status(), 200, "{response:?}");
    }

    let seen = api_requests(&cisco.seen());
    assert!(seen.iter().all(|request| request.status == Some(200)));
    assert_eq!(cisco.tokens.max_concurrent(), 1);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_many_concurrent_requests() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    cisco.tokens.revoke(None);

    let mut requests = JoinSet::new();
    for _ in 0..50 {
        requests.spawn(send(daemon.address(), get(PULL)));
    }
    let responses = requests.join_all().await;

    assert!(
        responses.iter().all(|response| response.status() == 200),
        "{responses:?}"
    );
    let seen = cisco.seen();
    assert_eq!(token_requests(&seen), 2);
    let served = api_requests(&seen)
        .into_iter()
        .filter(|request| request.status == Some(200));
    assert_eq!(served.count(), 50, "each is served once");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn api_requests(seen: &[Seen]) -> Vec<Seen> {
    let api = seen.iter().filter(|request| request.endpoint != Endpoint::Token);
    api.cloned().collect()
}

fn bearers(seen: &[Seen]) -> HashSet<String> {
    seen.iter()
        .flat_map(|request| request.header("authorization"))
        .map(str::to_owned)
        .collect()
}

fn assert_without_token(response: &Answer) {
    assert_eq!(response.status(), 503, "{response:?}");
    let after: u64 = response.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&after), "{response:?}");
    let status = response.field("proxy-status").unwrap();
    assert!(status.starts_with("bondgate; error="), "{status}");
    assert!(response.body().contains("was not executed"), "{response:?}");
}
