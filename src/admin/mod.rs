//! The operator's listener: health, readiness, status and metrics, never on the proxied one.

mod readiness;
mod status;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Uri};

use crate::config;
use crate::server::{Answer, HostNames, Peer, WebPage, web_page};
use crate::spool::Spool;
use crate::telemetry::metrics::Metrics;

pub use self::readiness::Readiness;
pub use self::status::Facts;

/// Who may use the admin listener and what its status shows, in one configuration.
pub struct Settings {
    allow: Option<Vec<config::Network>>,
    hosts: HostNames,
    facts: Facts,
}

impl Settings {
    /// What the configuration of the admin listener says, and what there is to tell.
    #[must_use]
    pub fn new(admin: &config::Admin, facts: Facts) -> Self {
        Self {
            allow: admin.allow.clone(),
            hosts: HostNames::new(admin.hosts.clone(), None),
            facts,
        }
    }
}

struct Admin {
    settings: Settings,
    readiness: Readiness,
    spool: Spool,
    metrics: Arc<Metrics>,
}

/// The admin listener's router.
pub fn router(settings: Settings, readiness: Readiness, spool: Spool, metrics: Arc<Metrics>) -> Router {
    let state = Arc::new(Admin {
        settings,
        readiness,
        spool,
        metrics,
    });
    let judged = Router::new()
        .route("/", get(page))
        .route("/status.json", get(document))
        .route("/metrics", get(metrics_text))
        .fallback(unknown)
        .layer(from_fn_with_state(state.clone(), judge_host));
    // A kubelet sends an IP literal or nothing for a Host, a load balancer whatever it likes.
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .merge(judged)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(judge_page))
        .layer(from_fn_with_state(state.clone(), judge_place))
        .with_state(state)
}

async fn judge_place(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    if let (Some(allow), Some(address)) = (&admin.settings.allow, address)
        && !allow.iter().any(|network| network.contains(address.ip()))
    {
        return forbidden(format!(
            "{} is in none of the networks that [admin] allows; add it to allow in [admin] if it should be",
            address.ip().to_canonical()
        ));
    }
    next.run(request).await
}

async fn judge_host(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if !admin.settings.hosts.allow(request.uri(), request.headers()) {
        let detail =
            "the request's Host is not one of the admin listener's names; add it to hosts in [admin]";
        return Answer::new(StatusCode::MISDIRECTED_REQUEST, "http_request_denied", detail).into_response();
    }
    next.run(request).await
}

/// A person may look at the page; another page may not.
async fn judge_page(request: Request, next: Next) -> Response {
    if web_page(request.headers(), &[]) == Some(WebPage::Request) {
        return forbidden("this came from a web page of another origin; open the address itself");
    }
    next.run(request).await
}

async fn wrong_method() -> Response<Body> {
    let detail = "the admin listener is read only; ask by GET";
    let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "http_request_denied", detail);
    let mut response = answer.into_response();
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn forbidden(detail: impl Into<String>) -> Response {
    Answer::new(StatusCode::FORBIDDEN, "http_request_denied", detail).into_response()
}

async fn ready(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    let needs_token = uri
        .query()
        .is_some_and(|query| query.split('&').any(|part| part == "token"));
    let (is_ready, mut text) = admin.readiness.judge(needs_token);
    for trouble in admin.spool.troubles() {
        let _ = writeln!(text, "spool: {trouble}");
    }
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

async fn document(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        status::document(
            &admin.settings.facts,
            &admin.readiness,
            admin.spool.holding().await,
            admin.spool.troubles(),
        ),
    )
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    if let Err(error) = admin.spool.holding().await {
        tracing::warn!(%error, "the spool's directory cannot be read: its numbers are those of before");
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], admin.metrics.encode())
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";
    (
        [(CONTENT_SECURITY_POLICY, policy)],
        Html(include_str!("status.html")),
    )
}

async fn unknown() -> Response<Body> {
    let detail = "here are /, /livez, /readyz, /readyz?token, /status.json and /metrics";
    Answer::new(StatusCode::NOT_FOUND, "http_request_denied", detail).into_response()
}
