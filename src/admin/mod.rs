//! The operator's listener: health, readiness, status and metrics, never on the proxied one.

mod authorization;
mod metrics;
mod readiness;
mod status;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use self::authorization::{Access, check_caller, check_host, refuse};
use crate::config;
use crate::problems::admin as problems;
use crate::server::Peer;
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;

pub use self::readiness::Readiness;
pub use self::status::{Facts, UpstreamFacts};

struct Admin {
    facts: Facts,
    readiness: Readiness,
    spool: Spool,
    metrics: Arc<Metrics>,
}

/// The admin listener's router; `own` are the listener's addresses.
pub fn router(
    config: &config::Admin,
    own: &[SocketAddr],
    facts: Facts,
    readiness: Readiness,
    spool: Spool,
    metrics: Arc<Metrics>,
) -> Router {
    let access = Arc::new(Access::new(config, own));
    let documents = Router::new()
        .route("/", get(page))
        .route("/status.json", get(status_json))
        .route("/metrics", get(metrics_text))
        .fallback(not_found)
        .layer(from_fn_with_state(access.clone(), check_host));
    // Any Host may ask for health: kubelets send an IP literal or none, load balancers any name.
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .merge(documents)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(access, check_caller))
        .with_state(Arc::new(Admin {
            facts,
            readiness,
            spool,
            metrics,
        }))
}

async fn wrong_method() -> impl IntoResponse {
    (
        [(ALLOW, "GET, HEAD")],
        refuse(StatusCode::METHOD_NOT_ALLOWED, problems::read_only()),
    )
}

async fn ready(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    peer: Option<Extension<Peer>>,
) -> Response {
    let query = query.unwrap_or_default();
    // Some clients write `token=` for a name without a value.
    let needs_token = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "token");
    let is_local = is_local(peer);
    let (is_ready, mut text) = admin.readiness.check(needs_token, is_local);
    for lasting in admin.spool.problems() {
        let _ = writeln!(text, "spool: {}", lasting.problem.for_caller(is_local));
    }
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

async fn status_json(State(admin): State<Arc<Admin>>, peer: Option<Extension<Peer>>) -> impl IntoResponse {
    let spool = (admin.spool.totals().await, admin.spool.problems());
    let document = status::document(is_local(peer), &admin.facts, &admin.readiness, spool);
    ([(CONTENT_TYPE, "application/json")], document)
}

/// Whether the caller is on this machine: it may see names of files, client ids and proxies.
fn is_local(peer: Option<Extension<Peer>>) -> bool {
    let address = peer.and_then(|peer| peer.address);
    address.is_none_or(|address| address.ip().to_canonical().is_loopback())
}

async fn metrics_text(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    // A failure is a problem, which the metrics show.
    let _ = admin.spool.totals().await;
    for upstream in &admin.facts.upstreams {
        // Ends what is over.
        let _ = upstream.api.get();
    }
    metrics::respond(admin.metrics.clone(), &headers).await
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";
    let headers = [(CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(include_str!("status.html")))
}

async fn not_found() -> Response {
    refuse(StatusCode::NOT_FOUND, problems::path_unknown())
}
