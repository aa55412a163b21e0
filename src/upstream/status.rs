//! What is known of an upstream's API from its responses: when it last responded, with which status, and what fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;

use crate::config::Endpoint;
use crate::problems::{Problem, api};
use crate::telemetry::metrics::UpstreamMetrics;

/// The state of an upstream's API; clones share it.
#[derive(Clone)]
pub struct ApiStatus(Arc<Inner>);

struct Inner {
    /// Host and port.
    to: String,
    metrics: UpstreamMetrics,
    /// Milliseconds since 1970; 0 for never.
    last_response: AtomicU64,
    last_status: AtomicU16,
    /// Whether there is a `problem`: a look without a lock for each response.
    has_problem: AtomicBool,
    problem: Mutex<Option<(Problem, SystemTime)>>,
}

/// The state at one moment.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// When the API last responded, and with which status.
    pub last_response: Option<(SystemTime, u16)>,
    /// What fails, and since when.
    pub problem: Option<(Problem, SystemTime)>,
}

impl ApiStatus {
    /// The state of an API that has not been asked yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint, metrics: UpstreamMetrics) -> Self {
        Self(Arc::new(Inner {
            to: format!("{}:{}", endpoint.authority().host(), endpoint.port()),
            metrics,
            last_response: AtomicU64::new(0),
            last_status: AtomicU16::new(0),
            has_problem: AtomicBool::new(false),
            problem: Mutex::default(),
        }))
    }

    /// The state now.
    #[must_use]
    pub fn get(&self) -> ApiState {
        let last_response = Some(self.0.last_response.load(Ordering::Relaxed)).filter(|at| *at > 0);
        let last_status = self.0.last_status.load(Ordering::Relaxed);
        ApiState {
            last_response: last_response.map(|at| (UNIX_EPOCH + Duration::from_millis(at), last_status)),
            problem: self.0.problem.lock().clone(),
        }
    }

    /// Records a response.
    pub fn responded(&self, status: StatusCode, headers: &HeaderMap) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.last_response.store(now, Ordering::Relaxed);
        self.0.last_status.store(status.as_u16(), Ordering::Relaxed);
        match response_problem(&self.0.to, status, headers) {
            Some(problem) => self.failed(problem),
            None if self.0.has_problem.load(Ordering::Relaxed) => self.recovered(),
            None => {}
        }
    }

    /// Records a request without a response. A change is logged once.
    pub fn failed(&self, problem: Problem) {
        let mut current = self.0.problem.lock();
        let known = current.as_ref().map(|(known, _)| known.code());
        if known == Some(problem.code()) {
            return;
        }
        tracing::warn!(
            upstream = self.0.metrics.name(),
            problem = problem.code(),
            error = %problem,
            "requests to the API fail"
        );
        self.0.metrics.set_problem("api", known, Some(problem.code()));
        *current = Some((problem, SystemTime::now()));
        self.0.has_problem.store(true, Ordering::Relaxed);
    }

    fn recovered(&self) {
        let mut current = self.0.problem.lock();
        self.0.has_problem.store(false, Ordering::Relaxed);
        if let Some((problem, _)) = current.take() {
            let upstream = self.0.metrics.name();
            tracing::info!(
                upstream,
                was = problem.code(),
                "requests to the API succeed again"
            );
            self.0.metrics.set_problem("api", Some(problem.code()), None);
        }
    }
}

/// What a response says about the API itself. What it says about one request, such as 404, is the caller's.
pub(super) fn response_problem(to: &str, status: StatusCode, headers: &HeaderMap) -> Option<Problem> {
    let is_html = || {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        kind.and_then(|kind| kind.get(..9))
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
    };
    match status.as_u16() {
        401 => Some(api::rejects_token(to, 401)),
        429 => Some(api::rate_limited(to)),
        _ if is_html() => Some(api::page(to, status.as_u16(), "")),
        code @ 500.. => Some(api::unavailable(to, code)),
        300..=303 | 307..=399 => {
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let place = location.and_then(|location| location.split(['?', '#']).next());
            Some(api::redirects(to, place.unwrap_or("another place")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn status(metrics: &Arc<Metrics>) -> ApiStatus {
        ApiStatus::new(&"https://api.example".parse().unwrap(), metrics.upstream("cisco"))
    }

    #[test]
    fn a_problem_lasts_from_the_first_failure_to_the_next_good_response() {
        let metrics = Metrics::new();
        let status = status(&metrics);
        assert!(status.get().problem.is_none() && status.get().last_response.is_none());
        status.responded(StatusCode::BAD_GATEWAY, &HeaderMap::new());
        let (problem, since) = status.get().problem.unwrap();
        assert_eq!(problem.code(), "api-unavailable");
        status.responded(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new());
        assert_eq!(status.get().problem.unwrap().1, since);
        assert_eq!(status.get().last_response.unwrap().1, 503);
        let gauge = "bondgate_problem{upstream=\"cisco\",call=\"api\",code=\"api-unavailable\"} 1";
        assert!(metrics.encode().contains(gauge), "{}", metrics.encode());

        status.failed(api::silent("api.example:443", 25));
        assert_eq!(status.get().problem.unwrap().0.code(), "api-silent");
        assert!(!metrics.encode().contains("api-unavailable"));
        status.responded(StatusCode::OK, &HeaderMap::new());
        assert!(status.get().problem.is_none());
        assert!(!metrics.encode().contains("bondgate_problem{"));
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
            (200, html.clone(), Some("api-page")),
            (403, html, Some("api-page")),
        ] {
            let found = response_problem("api.example:443", StatusCode::from_u16(code).unwrap(), &headers);
            assert_eq!(found.map(|found| found.code()), expected, "{code}");
        }
    }
}
