//! The operator's listener: health, readiness, status and metrics, never on the proxied one.

mod authorization;
mod events;
mod metrics;
mod page;
mod readiness;
mod sources;
mod status;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{RawQuery, State};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any_service, get};
use axum::{Extension, Router};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};

use self::authorization::{Access, Caller, check_caller, check_host, check_local, refuse};
use self::events::Viewers;
use self::page::Now;
use crate::config;
use crate::problems::admin as problems;
use crate::server::Peer;

pub use self::readiness::Readiness;
pub use self::sources::Sources;
pub use self::status::{CertificateFacts, Facts, ListenerFacts, UpstreamFacts};

struct Admin {
    sources: Arc<Sources>,
    viewers: Arc<Viewers>,
}

/// The admin listener's router; `own` are the listener's addresses.
pub fn router(config: &config::Admin, own: &[SocketAddr], sources: Sources) -> MethodRouter {
    let sources = Arc::new(sources);
    let access = Arc::new(Access::new(config, own));
    let mut documents = Router::new()
        .route("/", get(status_page))
        .route("/events", get(events))
        .route("/status.json", get(status_json))
        .route("/metrics", get(metrics_text))
        .fallback(not_found);
    for (path, kind, text) in page::FILES {
        documents = documents.route(path, get(async move || page::file(kind, text)));
    }
    let logs = Router::new()
        .route("/recent", get(recent_reports))
        .route("/log", get(recent_log))
        .layer(from_fn(check_local));
    let documents = documents.merge(logs);
    let documents = documents.layer(from_fn_with_state(access.clone(), check_host));
    // Any Host may ask for health: kubelets send an IP literal or none, load balancers any name.
    let router = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .merge(documents)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(access, check_caller))
        .layer(map_response(protect))
        .with_state(Arc::new(Admin {
            viewers: Viewers::new(sources.clone(), config.connections),
            sources,
        }));
    any_service(router)
}

/// Marks a response as text of bondgate: a browser neither keeps it, unless it is a file of the page, nor takes what
/// callers put into it for another type.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let caching = headers.entry(CACHE_CONTROL);
    caching.or_insert(HeaderValue::from_static("no-store"));
    response
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
    Extension(caller): Extension<Caller>,
) -> Response {
    let query = query.unwrap_or_default();
    // Some clients write `token=` for a name without a value.
    let needs_token = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "token");
    let is_local = caller.is_local();
    let (is_ready, mut text) = admin.sources.readiness.check(needs_token, is_local);
    for lasting in admin.sources.spool.problems() {
        let _ = writeln!(text, "spool: {}", lasting.problem.for_caller(is_local));
    }
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

async fn status_json(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> impl IntoResponse {
    let spool = (admin.sources.spool.totals().await, admin.sources.spool.problems());
    let document = status::document(
        caller.is_local(),
        &admin.sources.facts,
        &admin.sources.readiness,
        spool,
        &admin.sources.activity.refusals(),
    );
    ([(CONTENT_TYPE, "application/json")], document)
}

async fn metrics_text(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    // A failure is a problem, which the metrics show.
    let _ = admin.sources.spool.totals().await;
    metrics::respond(&admin.sources, &headers).await
}

async fn recent_reports(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    admin.sources.log.reports(SystemTime::now())
}

async fn recent_log(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    admin.sources.log.lines()
}

async fn status_page(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> impl IntoResponse {
    let now = Now::collect(&admin.sources, caller.is_local()).await;
    page::page(&page::render(&now, true))
}

async fn events(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
) -> Response {
    admin.viewers.add(caller.is_local(), peer.id())
}

async fn not_found() -> Response {
    refuse(StatusCode::NOT_FOUND, problems::path_unknown())
}
