//! The operator's listener: health, readiness, metrics, status.

use std::time::Duration;

use bondgate::simulator::{Fault, Kind, On, Options};
use http::StatusCode;

use crate::harness::{PULL, Setup, send, simulator};

#[tokio::test]
async fn readyz_is_503_until_the_first_token_and_says_why() {
    let cisco = simulator(Options::default()).await;
    let failure = Kind::status(StatusCode::BAD_GATEWAY);
    cisco.script(Fault::on(On::Token, failure));
    let mut daemon = Setup::at(&cisco).start_without_token().await;
    daemon.logged("no valid token").await;

    let response = daemon.ask("/readyz").await;
    assert_eq!(response.status(), 503);
    assert!(
        response
            .body()
            .contains("upstream cisco has no valid token: localhost is temporarily unavailable (502)"),
        "{response:?}"
    );
    assert_eq!(daemon.ask("/livez").await.status(), 200, "it lives all the same");

    daemon.logged("token acquired").await;
    for path in ["/readyz", "/readyz?token"] {
        let response = daemon.ask(path).await;
        assert_eq!((response.status(), response.body()), (200, "ready\n"), "{path}");
    }
}

#[tokio::test]
async fn a_token_lost_later_shows_in_readyz_token_and_takes_no_pod_out_of_service() {
    let cisco = simulator(Options::default()).await;
    cisco.options().token_lifetime = Duration::from_secs(1);
    let failure = Kind::status(StatusCode::SERVICE_UNAVAILABLE);
    let mut daemon = Setup::at(&cisco).start().await;
    cisco.script(Fault::on(On::Token, failure).forever());
    daemon.logged("the current token is still valid").await;
    daemon.logged("no valid token").await;

    assert_eq!(daemon.get(PULL).await.status(), 503);
    let general = daemon.ask("/readyz").await;
    assert_eq!(general.status(), 200);
    assert!(
        general.body().contains("upstream cisco has no valid token"),
        "{general:?}"
    );
    for path in ["/readyz?token", "/readyz?token=", "/readyz?a&token=1"] {
        assert_eq!(daemon.ask(path).await.status(), 503, "{path}");
    }
    let token = daemon.status().await["upstreams"][0]["token"].clone();
    assert_eq!(token["state"], "expired");
    assert!(
        daemon
            .ask("/metrics")
            .await
            .body()
            .contains("bondgate_token_state{upstream=\"cisco\",state=\"expired\"} 1\n")
    );

    cisco.options().token_lifetime = Duration::from_secs(3600);
    cisco.faults().clear();
    daemon.logged_times("token acquired", 2).await;
    assert_eq!(daemon.ask("/readyz?token").await.status(), 200);
}

#[tokio::test]
async fn health_accepts_any_host_and_every_other_path_only_the_listeners_names() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let ask = async |path: &str, field: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{field}\r\nConnection: close\r\n\r\n");
        send(daemon.admin(), request).await
    };
    for host in ["Host: evil.example", "Host: 10.0.0.7:9180", "Host: "] {
        for path in ["/livez", "/readyz", "/readyz?token"] {
            assert_eq!(ask(path, host).await.status(), 200, "{path} {host}");
        }
    }
    let bare = send(daemon.admin(), "GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!((bare.status(), bare.body()), (200, "live\n"));
    for path in [
        "/",
        "/events",
        "/page.js",
        "/status.json",
        "/metrics",
        "/recent",
        "/log",
        "/unknown",
    ] {
        assert_eq!(ask(path, "Host: evil.example").await.status(), 421, "{path}");
        let page = "Host: localhost\r\nOrigin: https://evil.example";
        assert_eq!(ask(path, page).await.status(), 403, "{path}");
    }
    assert_eq!(ask("/metrics", "Host: 10.0.0.7:9180").await.status(), 200);
}

#[tokio::test]
async fn health_is_open_to_this_machine_whatever_allow_says_and_the_rest_is_not() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).environment("BONDGATE__ADMIN__ALLOW", "10.99.99.99");
    let daemon = setup.start().await;
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/status.json", 403),
        ("/metrics", 403),
        ("/recent", 403),
        ("/log", 403),
        ("/events", 403),
        ("/", 403),
    ] {
        assert_eq!(daemon.ask(path).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn the_admin_listener_refuses_malformed_requests_and_web_pages_and_a_person_may_open_its_paths() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    for (status, request) in [
        (405, "TRACE / HTTP/1.1\r\nHost: localhost"),
        (405, "CONNECT a:443 HTTP/1.1\r\nHost: localhost"),
        (405, "POST /status.json HTTP/1.1\r\nHost: localhost"),
        (417, "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: x"),
        (400, "GET / HTTP/1.1"),
        (
            400,
            "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked",
        ),
        (
            403,
            "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site",
        ),
        (
            403,
            "GET / HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: GET",
        ),
        (
            403,
            "GET /readyz HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example",
        ),
        (
            403,
            "GET /livez HTTP/1.1\r\nHost: evil.example\r\nSec-Fetch-Site: cross-site",
        ),
        (421, "GET / HTTP/1.1\r\nHost: 0.0.0.0"),
        (404, "GET /nowhere HTTP/1.1\r\nHost: localhost"),
    ] {
        let response = send(daemon.admin(), format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(response.status(), status, "{request}: {response:?}");
        let ours = response.field("proxy-status").unwrap_or_default();
        assert!(ours.starts_with("bondgate; error="), "{request}: {response:?}");
    }
    for path in ["/", "/status.json", "/metrics", "/livez", "/readyz"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\
             Connection: close\r\n\r\n"
        );
        assert_eq!(send(daemon.admin(), request).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn metrics_count_responses_and_token_requests_and_show_the_tokens_state() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    daemon.get(PULL).await;
    daemon.get(PULL).await;
    daemon.get("/nowhere").await;

    let response = daemon.ask("/metrics").await;

    let kind = response.field("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let body = response.body();
    for line in [
        "bondgate_requests_total{upstream=\"cisco\",status=\"200\"} 2",
        "bondgate_requests_total{upstream=\"cisco\",status=\"403\"} 1",
        "bondgate_own_answers_total{upstream=\"cisco\",error=\"http_request_denied\"} 1",
        "bondgate_token_requests_total{upstream=\"cisco\",outcome=\"ok\"} 1",
        "bondgate_token_state{upstream=\"cisco\",state=\"fresh\"} 1",
        "bondgate_token_state{upstream=\"cisco\",state=\"expired\"} 0",
        "bondgate_requests_in_flight{upstream=\"cisco\"} 0",
    ] {
        assert!(body.lines().any(|found| found == line), "{line}:\n{body}");
    }
    let value = |name: &str| -> f64 {
        let line = body.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let left = value("bondgate_token_expiry_timestamp_seconds{") - now.as_secs_f64();
    assert!((3500.0..3600.0).contains(&left), "{left} s to live");
    let observed = value("bondgate_request_duration_seconds_count{");
    assert!((observed - 3.0).abs() < f64::EPSILON, "{observed}");
}

#[tokio::test]
async fn the_status_document_names_listeners_upstreams_and_tokens() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;

    let status = daemon.status().await;

    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&status["phase"], &status["ready"]),
        (&"serving".into(), &true.into())
    );
    assert_eq!(status["listeners"][0]["address"], daemon.address().to_string());
    assert_eq!(status["listeners"][0]["configured"], "127.0.0.1:0");
    let bound = serde_json::json!([daemon.address().to_string()]);
    assert_eq!(status["listeners"][0]["bound"], bound);
    assert_eq!(status["listeners"][0]["upstream"], "cisco");
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "cisco");
    assert!(
        upstream["url"].as_str().unwrap().starts_with(&cisco.url()),
        "{upstream}"
    );
    assert_eq!(upstream["token"]["state"], "fresh");
    assert!(upstream["token"]["last_error"].is_null());
    assert_eq!(status["listeners"][0]["access"], serde_json::json!([]));
    assert!(upstream["token"]["next_attempt_s"].as_u64().unwrap() > 1000);
    for time in [
        &status["started"],
        &upstream["token"]["obtained"],
        &upstream["token"]["expires"],
    ] {
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
    }
}

#[tokio::test]
async fn an_unknown_path_gets_404_with_the_paths_that_exist() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let unknown = daemon.ask("/unknown").await;
    assert_eq!(unknown.status(), 404);
    assert!(unknown.body().contains("/status.json"), "{unknown:?}");
}

#[tokio::test]
async fn the_proxied_listener_serves_no_path_of_the_admin_listener() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    for path in ["/livez", "/readyz", "/metrics", "/status.json", "/"] {
        assert_eq!(daemon.get(path).await.status(), 403, "{path}");
    }
}
