//! The response on `/metrics`.

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::authorization::refuse;
use super::sources::Sources;
use crate::problems::Problem;
use crate::problems::request::bug;
use crate::telemetry::metrics::{LastingProblem, TextFormat};

/// The metrics, in the format that the scraper asks for.
pub(super) async fn respond(sources: &Sources, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).iter().map(HeaderValue::to_str);
    let accept: Vec<_> = accept.filter_map(Result::ok).collect();
    let format = TextFormat::accepted(&accept.join(","));
    let (metrics, problems) = (sources.metrics.clone(), problems(sources));
    // Listing the open files of the process takes a while if there are thousands.
    let text = tokio::task::spawn_blocking(move || metrics.text(format, &problems)).await;
    match text {
        Ok(text) => ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], text).into_response(),
        Err(_) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            bug("bondgate could not read its metrics"),
        ),
    }
}

/// What fails now.
fn problems(sources: &Sources) -> Vec<LastingProblem> {
    let facts = &sources.facts;
    let mut problems = Vec::new();
    let mut add = |upstream: Option<&str>, call, problem: &Problem| {
        problems.push(LastingProblem {
            upstream: upstream.map(str::to_owned),
            call,
            code: problem.code(),
        });
    };
    for (name, tokens) in sources.readiness.upstreams.load().iter() {
        if let Some(problem) = tokens.status().any_problem() {
            add(Some(name), "token", problem);
        }
        let of_this = facts.upstreams.iter().find(|facts| facts.name == *name);
        for problem in of_this.map(|facts| facts.api.problems()).unwrap_or_default() {
            add(Some(name), "api", &problem);
        }
    }
    for lasting in facts.rejected_reload.get() {
        add(None, "configuration", &lasting.problem);
    }
    for lasting in sources.spool.problems() {
        add(None, "spool", &lasting.problem);
    }
    problems
}
