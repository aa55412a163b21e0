//! Which callers get the recent log.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::status::Facts;
use super::*;
use crate::config::Config;
use crate::server::stopping;
use crate::spool::Spool;
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{LastingProblems, RecentLog};

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
        rejected_reload: Arc::new(LastingProblems::new("configuration", metrics.clone())),
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

async fn ask(path: &str, caller: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::get(path)
        .header("Host", "localhost")
        .body(Body::empty())
        .unwrap();
    let address = caller.map(|caller| format!("{caller}:40000").parse().unwrap());
    request.extensions_mut().insert(Peer {
        address,
        ..Peer::default()
    });
    let response = router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn only_callers_on_this_machine_get_the_recent_log() {
    for caller in [
        None,
        Some("127.0.0.1"),
        Some("[::1]"),
        Some("[::ffff:127.0.0.1]"),
        Some("10.0.0.5"),
    ] {
        assert_eq!(ask("/log", caller).await, (StatusCode::OK, "a line\n".to_owned()));
        assert_eq!(ask("/problems", caller).await.0, StatusCode::OK, "{caller:?}");
    }
    for caller in ["10.0.0.6", "[2001:db8::1]", "[::ffff:10.0.0.6]"] {
        for path in ["/log", "/problems"] {
            let (status, body) = ask(path, Some(caller)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {caller}");
            assert!(body.contains("urn:bondgate:problem:admin-only-local"), "{body}");
            assert!(!body.contains("a line"), "{body}");
        }
        assert_eq!(ask("/status.json", Some(caller)).await.0, StatusCode::OK);
    }
}
