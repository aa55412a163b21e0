//! The section of the last requests.

use std::sync::Arc;

use askama::Template;

use super::level::Level;
use super::now::Now;
use super::text::{Clock, TimeOfDay, When, bytes, duration};
use crate::telemetry::activity::RecentRequest;

#[derive(Template)]
#[template(path = "requests.html", config = "src/admin/page/askama.toml")]
pub(super) struct Requests {
    requests: Vec<Row>,
    errors: usize,
}

struct Row {
    at: TimeOfDay,
    method: String,
    path: String,
    listener: Arc<str>,
    level: Level,
    status: String,
    outcome: String,
    caller: Arc<str>,
    address: Arc<str>,
    upstream: Arc<str>,
    own_time: Option<String>,
    upstream_time: Option<String>,
    duration: String,
    sent: String,
    received: String,
    rule: Option<Arc<str>>,
    problem: Option<&'static str>,
    correlation_id: String,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> Requests {
    Requests {
        requests: now.requests.iter().map(|request| row(request, clock)).collect(),
        errors: now.requests.iter().filter(|request| request.is_error()).count(),
    }
}

fn row(request: &RecentRequest, clock: Clock) -> Row {
    let has_response = request.status > 0;
    let level = match request.status {
        _ if request.is_error() => Level::Failing,
        _ if !request.is_complete || request.status >= 400 => Level::Warning,
        _ => Level::Well,
    };
    let outcome = match (request.origin, request.status) {
        (_, 0) => "caller disconnected",
        ("bondgate", 400..=499) => "refused by bondgate",
        ("bondgate", _) => "by bondgate",
        ("spool", _) => "from the spool",
        (_, 500..) => "Cisco failed",
        (_, 400..) => "refused by Cisco",
        _ => "by Cisco",
    };
    let cut = if has_response && !request.is_complete {
        ", cut short"
    } else {
        ""
    };
    Row {
        at: TimeOfDay(When {
            at: request.at,
            now: clock,
        }),
        method: request.method.clone(),
        path: request.path.clone(),
        listener: request.listener.clone(),
        level,
        status: if has_response {
            request.status.to_string()
        } else {
            "none".to_owned()
        },
        outcome: format!("{outcome}{cut}"),
        caller: request.caller.clone().unwrap_or_default(),
        address: request.address.clone().unwrap_or_default(),
        upstream: request.upstream.clone(),
        own_time: has_response.then(|| duration(request.own_time)),
        upstream_time: request.is_sent.then(|| duration(request.upstream_time)),
        duration: duration(request.duration),
        sent: bytes(request.request_bytes),
        received: bytes(request.response_bytes),
        rule: request.rule.clone(),
        problem: request.problem,
        correlation_id: request.correlation_id.clone(),
    }
}
