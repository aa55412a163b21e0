use http::header::CONTENT_TYPE;

use super::*;
use crate::telemetry::metrics::Metrics;

fn route() -> String {
    "GET /push".to_owned()
}

fn status(metrics: &Arc<Metrics>) -> ApiStatus {
    ApiStatus::new(&"https://api.example".parse().unwrap(), metrics.upstream("cisco"))
}

#[test]
fn a_problem_lasts_from_the_first_failure_to_the_next_good_response() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    assert!(status.get().problem.is_none() && status.get().last_response.is_none());
    status.responded(route, StatusCode::BAD_GATEWAY, &HeaderMap::new());
    let (problem, since) = status.get().problem.unwrap();
    assert_eq!(problem.code(), "api-unavailable");
    status.responded(route, StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new());
    assert_eq!(status.get().problem.unwrap().1, since);
    assert_eq!(status.get().last_response.unwrap().1, 503);

    status.failed(api::silent("api.example:443", 25));
    assert_eq!(status.get().problem.unwrap().0.code(), "api-silent");
    status.responded(route, StatusCode::OK, &HeaderMap::new());
    assert!(status.get().problem.is_none());
}

#[test]
fn a_rejected_token_is_the_last_response_and_no_problem_of_the_api_yet() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    assert_eq!(status.get().text(), "no response yet");
    assert_eq!(status.get().name(), "no_response");
    status.rejected_token(StatusCode::UNAUTHORIZED);
    let state = status.get();
    assert_eq!(state.text(), "rejected the token");
    assert_eq!(state.name(), "token_rejected");
    assert_eq!(state.last_response.unwrap().1, 401);
    assert!(state.problem.is_none());
    status.responded(route, StatusCode::OK, &HeaderMap::new());
    assert_eq!(status.get().text(), "responds");
    status.responded(route, StatusCode::UNAUTHORIZED, &HeaderMap::new());
    assert_eq!(status.get().text(), "fails");
}

#[test]
fn a_forbidden_route_lasts_until_it_is_allowed_whatever_other_routes_do() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    let code = || status.get().problem.map(|(problem, _)| problem.code());
    let other = || "GET /pull".to_owned();
    status.responded(route, StatusCode::FORBIDDEN, &HeaderMap::new());
    assert!(status.get().problem.unwrap().0.cause().contains("/push"));
    for response in [StatusCode::OK, StatusCode::BAD_GATEWAY, StatusCode::OK] {
        status.responded(other, response, &HeaderMap::new());
    }
    status.responded(route, StatusCode::NOT_FOUND, &HeaderMap::new());
    assert_eq!(code(), Some("api-forbidden"));
    status.responded(other, StatusCode::BAD_GATEWAY, &HeaderMap::new());
    let codes: Vec<_> = status.problems().iter().map(Problem::code).collect();
    assert_eq!(codes, ["api-unavailable", "api-forbidden"]);
    status.responded(other, StatusCode::OK, &HeaderMap::new());
    status.responded(route, StatusCode::OK, &HeaderMap::new());
    assert_eq!(code(), None);
}

#[test]
fn the_oldest_forbidden_route_makes_room_for_a_new_one() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    for number in 0..100 {
        let route = || format!("GET /{number}");
        status.responded(route, StatusCode::FORBIDDEN, &HeaderMap::new());
    }
    let forbidden = &status.0.current.lock().forbidden;
    assert_eq!(forbidden.len(), MOST_FORBIDDEN);
    assert_eq!(forbidden.last().unwrap().route, "GET /99");
}

#[tokio::test(start_paused = true)]
async fn a_route_is_forbidden_no_longer_ten_minutes_after_its_last_refusal() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    for _ in 0..2 {
        status.responded(route, StatusCode::FORBIDDEN, &HeaderMap::new());
        tokio::time::advance(FORBIDDEN_FOR / 2).await;
    }
    assert!(status.get().problem.is_some());
    tokio::time::advance(FORBIDDEN_FOR / 2).await;
    assert!(status.get().problem.is_none());
}

#[test]
fn a_page_is_one_problem_that_ends_with_a_body_that_is_none() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    let html = HeaderMap::from_iter([(CONTENT_TYPE, "text/html".parse().unwrap())]);
    let began = |body: &str| {
        assert!(status.responded(route, StatusCode::OK, &html));
        let before = status.get().problem.map(|(_, since)| since);
        status.body_began(body.as_bytes());
        (before, status.get().problem)
    };
    assert!(began("[]").1.is_none());
    let (problem, since) = began("<html>").1.unwrap();
    assert_eq!(problem.code(), "login-page");
    assert_eq!(began("<html>").0, Some(since));
    assert!(began("[]").1.is_none());
}

#[test]
fn a_cut_response_counts_until_one_is_whole() {
    let metrics = Metrics::new();
    let status = status(&metrics);
    for _ in 0..2 {
        status.responded(route, StatusCode::OK, &HeaderMap::new());
        status.body_failed("it reset the connection");
        assert_eq!(status.get().problem.unwrap().0.code(), RESPONSE_CUT);
    }
    status.responded(route, StatusCode::OK, &HeaderMap::new());
    assert!(status.get().problem.is_some());
    status.body_ended();
    assert!(status.get().problem.is_none());
}

#[test]
fn a_response_is_a_problem_of_the_api_if_it_says_so_of_more_than_one_request() {
    let html = HeaderMap::from_iter([(CONTENT_TYPE, "text/HTML; charset=utf-8".parse().unwrap())]);
    for (code, headers, expected) in [
        (200, HeaderMap::new(), None),
        (404, HeaderMap::new(), None),
        (403, HeaderMap::new(), None),
        (304, HeaderMap::new(), None),
        (401, HeaderMap::new(), Some("api-rejects-token")),
        (429, HeaderMap::new(), Some("api-rate-limited")),
        (596, HeaderMap::new(), Some("api-unavailable")),
        (302, HeaderMap::new(), Some("api-redirect")),
        (407, HeaderMap::new(), Some("proxy-transparent")),
        (200, html.clone(), None),
        (403, html, Some("api-page")),
    ] {
        let found = response_problem("api.example:443", StatusCode::from_u16(code).unwrap(), &headers);
        assert_eq!(found.map(|found| found.code()), expected, "{code}");
    }
}
