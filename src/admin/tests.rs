//! Which callers get what is for the operator alone.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::status::Facts;
use super::*;
use crate::config::Config;
use crate::server::{Peer, stopping};
use crate::spool::Spool;
use crate::telemetry::RecentLog;
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::Metrics;

/// The router of a daemon whose admin listener is at 10.0.0.5.
fn router() -> MethodRouter {
    let text =
        "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
    let config = Config::parse(text, "test.toml", []).unwrap();
    let metrics = Metrics::new();
    let facts = Facts {
        started: SystemTime::now(),
        configured: SystemTime::now(),
        configuration: None,
        rejected_reload: Arc::default(),
        listeners: Vec::new(),
        certificates: Vec::new(),
        upstreams: Vec::new(),
    };
    let sources = Sources {
        facts,
        readiness: Readiness::new(Vec::new(), stopping().1),
        spool: Spool::open(&config.spool, metrics.clone()).unwrap(),
        metrics,
        activity: Activity::new(),
        log: RecentLog::of_line("a line\n"),
    };
    super::router(&config.admin, &["10.0.0.5:9180".parse().unwrap()], sources)
}

/// The status and the body of a response to a peer with this address, or at a unix socket.
async fn ask(path: &str, address: Option<&str>) -> (StatusCode, String) {
    respond(get(path, address)).await
}

fn get(path: &str, address: Option<&str>) -> http::request::Builder {
    let address = address.map(|address| format!("{address}:40000").parse().unwrap());
    let peer = Peer {
        address,
        ..Peer::default()
    };
    Request::get(path).extension(peer)
}

async fn respond(request: http::request::Builder) -> (StatusCode, String) {
    let request = request.header("Host", "localhost").body(Body::empty()).unwrap();
    let response = router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn only_callers_on_this_machine_get_what_is_for_the_operator() {
    for address in [
        None,
        Some("127.0.0.1"),
        Some("[::1]"),
        Some("[::ffff:127.0.0.1]"),
        Some("10.0.0.5"),
    ] {
        assert_eq!(
            ask("/log", address).await,
            (StatusCode::OK, "a line\n".to_owned())
        );
        assert_eq!(ask("/recent", address).await.0, StatusCode::OK, "{address:?}");
        let status = ask("/status.json", address).await.1;
        assert!(status.contains("\"pid\""), "{address:?}: {status}");
    }
    for address in ["10.0.0.6", "[2001:db8::1]", "[::ffff:10.0.0.6]"] {
        for path in ["/log", "/recent"] {
            let (status, body) = ask(path, Some(address)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {address}");
            assert!(body.contains("urn:bondgate:problem:admin-only-local"), "{body}");
            assert!(!body.contains("a line"), "{body}");
        }
        let (code, status) = ask("/status.json", Some(address)).await;
        assert_eq!(code, StatusCode::OK);
        assert!(!status.contains("\"pid\""), "{address}: {status}");
    }
}

#[tokio::test]
async fn a_browser_keeps_only_the_files_of_the_page_and_guesses_no_type() {
    for (path, caching) in [
        ("/", "no-store"),
        ("/events", "no-store"),
        ("/status.json", "no-store"),
        ("/metrics", "no-store"),
        ("/recent", "no-store"),
        ("/log", "no-store"),
        ("/livez", "no-store"),
        ("/readyz", "no-store"),
        ("/unknown", "no-store"),
        ("/page.js", "no-cache"),
    ] {
        let request = get(path, None).header("Host", "localhost");
        let response = router()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let field = |name| response.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(field("cache-control"), [caching], "{path}");
        assert_eq!(field("x-content-type-options"), ["nosniff"], "{path}");
    }
}

#[tokio::test]
async fn what_a_proxy_on_this_machine_relays_is_not_of_this_machine() {
    for field in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Real-IP",
        "Via",
    ] {
        for address in [None, Some("127.0.0.1"), Some("10.0.0.5")] {
            let ask = async |path| respond(get(path, address).header(field, "x")).await;
            for path in ["/log", "/recent"] {
                let (status, body) = ask(path).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{path} {address:?} {field}");
                assert!(body.contains("a proxy relayed this request"), "{body}");
            }
            let (code, status) = ask("/status.json").await;
            assert_eq!(code, StatusCode::OK);
            assert!(!status.contains("\"pid\""), "{address:?} {field}: {status}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_known_caller_is_refused() {
    for path in ["/log", "/recent", "/status.json", "/", "/livez"] {
        let (status, body) = respond(Request::get(path)).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {body}");
        assert!(!body.contains("a line"), "{body}");
    }
}
