//! What is known of an upstream's API from its responses: when it last responded, with which status, and what fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::html::{declares_html, is_html};
use crate::config::Endpoint;
use crate::problems::{Problem, api, network, outbound_proxy};
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
    /// That response rejected the token, which says nothing yet about the next one.
    has_rejected: AtomicBool,
    /// Whether there is a problem, and a forbidden route, in `current`: a look without a lock for each response.
    has_problem: AtomicBool,
    has_forbidden: AtomicBool,
    current: Mutex<Current>,
}

/// What fails, and since when.
#[derive(Default)]
struct Current {
    problem: Option<(Problem, SystemTime)>,
    forbidden: Vec<Forbidden>,
}

/// A route that the API forbids: until it allows a request of the route, or has forbidden none for [`FORBIDDEN_FOR`].
struct Forbidden {
    route: String,
    problem: Problem,
    since: SystemTime,
    last: Instant,
}

/// Ends only with a whole body: such a response begins like a good one.
const RESPONSE_CUT: &str = "api-response-cut";
const FORBIDDEN: &str = "api-forbidden";
/// How many forbidden routes are remembered.
const MOST_FORBIDDEN: usize = 16;
const FORBIDDEN_FOR: Duration = Duration::from_secs(10 * 60);

/// The state at one moment.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// When the API last responded, and with which status.
    pub last_response: Option<(SystemTime, u16)>,
    /// What fails, and since when.
    pub problem: Option<(Problem, SystemTime)>,
    /// The last response rejected the token, and none has shown whether the API accepts the next one.
    pub has_rejected: bool,
}

impl ApiState {
    /// The state as a name for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name_and_text().0
    }

    /// The state in words.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.name_and_text().1
    }

    fn name_and_text(&self) -> (&'static str, &'static str) {
        match (&self.problem, self.last_response) {
            (Some(_), _) => ("fails", "fails"),
            (None, None) => ("no_response", "no response yet"),
            (None, Some(_)) if self.has_rejected => ("token_rejected", "rejected the token"),
            (None, Some(_)) => ("responds", "responds"),
        }
    }
}

impl ApiStatus {
    /// The state of an API that has not responded yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint, metrics: UpstreamMetrics) -> Self {
        Self(Arc::new(Inner {
            to: format!("{}:{}", endpoint.authority().host(), endpoint.port()),
            metrics,
            last_response: AtomicU64::new(0),
            last_status: AtomicU16::new(0),
            has_rejected: AtomicBool::new(false),
            has_problem: AtomicBool::new(false),
            has_forbidden: AtomicBool::new(false),
            current: Mutex::default(),
        }))
    }

    /// The state now.
    #[must_use]
    pub fn get(&self) -> ApiState {
        let last_response = Some(self.0.last_response.load(Ordering::Relaxed)).filter(|at| *at > 0);
        let last_status = self.0.last_status.load(Ordering::Relaxed);
        let mut current = self.0.current.lock();
        self.update_forbidden(&mut current, |_| {});
        let forbidden = current.forbidden.first();
        let forbidden = forbidden.map(|forbidden| (forbidden.problem.clone(), forbidden.since));
        ApiState {
            last_response: last_response.map(|at| (UNIX_EPOCH + Duration::from_millis(at), last_status)),
            problem: current.problem.clone().or(forbidden),
            has_rejected: self.0.has_rejected.load(Ordering::Relaxed),
        }
    }

    /// Every problem that lasts: what fails, and a route that is forbidden.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut current = self.0.current.lock();
        self.update_forbidden(&mut current, |_| {});
        let failing = current.problem.iter().map(|(problem, _)| problem);
        let forbidden = current.forbidden.first().map(|forbidden| &forbidden.problem);
        failing.chain(forbidden).cloned().collect()
    }

    /// Records a response to a request of a route, whose name is needed only while something fails. Returns whether its
    /// body has to show that it is no page, by `body_began`.
    pub fn responded(&self, route: impl FnOnce() -> String, status: StatusCode, headers: &HeaderMap) -> bool {
        self.last_response(status, false);
        if status.is_success() && declares_html(headers) {
            return true;
        }
        if let Some(problem) = response_problem(&self.0.to, status, headers) {
            self.failed(problem);
            return false;
        }
        self.recovered(|code| code != RESPONSE_CUT);
        if status == StatusCode::FORBIDDEN {
            self.forbids(route());
        } else if status.is_success() && self.0.has_forbidden.load(Ordering::Relaxed) {
            self.allows(&route());
        }
        false
    }

    /// Records a response that rejects the token, to a request that is sent again with the next one.
    pub fn rejected_token(&self, status: StatusCode) {
        self.last_response(status, true);
    }

    fn last_response(&self, status: StatusCode, has_rejected: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.last_response.store(now, Ordering::Relaxed);
        self.0.last_status.store(status.as_u16(), Ordering::Relaxed);
        self.0.has_rejected.store(has_rejected, Ordering::Relaxed);
    }

    /// Records how the body of a successful response begins that calls itself HTML.
    pub(super) fn body_began(&self, beginning: &[u8]) {
        if is_html(beginning) {
            let host = self.0.to.rsplit_once(':').map_or(&*self.0.to, |(host, _)| host);
            self.failed(network::login_page("API request", host, ""));
        } else {
            self.recovered(|code| code != RESPONSE_CUT);
        }
    }

    /// Records a request without a response. A change is logged once.
    pub fn failed(&self, problem: Problem) {
        let mut current = self.0.current.lock();
        let known = current.problem.as_ref().map(|(known, _)| known.code());
        if known == Some(problem.code()) {
            return;
        }
        self.log(&problem);
        current.problem = Some((problem, SystemTime::now()));
        self.0.has_problem.store(true, Ordering::Relaxed);
    }

    /// Records that the body of a response ended early. Returns the problem.
    pub(super) fn body_failed(&self, reason: &str) -> Problem {
        let problem = api::cut_short(&self.0.to, reason);
        self.failed(problem.clone());
        problem
    }

    /// Records that the body of a response is complete.
    pub(super) fn body_ended(&self) {
        self.recovered(|code| code == RESPONSE_CUT);
    }

    /// The oldest route makes room for a new one, which is not logged: callers can name any number of paths.
    fn forbids(&self, route: String) {
        let (since, last) = (SystemTime::now(), Instant::now());
        self.update_forbidden(&mut self.0.current.lock(), |forbidden| {
            if let Some(known) = forbidden.iter_mut().find(|known| known.route == route) {
                known.last = last;
                return;
            }
            let problem = api::forbidden(&self.0.to, &route);
            if forbidden.len() < MOST_FORBIDDEN {
                self.log(&problem);
            } else {
                forbidden.remove(0);
            }
            forbidden.push(Forbidden {
                route,
                problem,
                since,
                last,
            });
        });
    }

    fn allows(&self, route: &str) {
        self.update_forbidden(&mut self.0.current.lock(), |forbidden| {
            if let Some(at) = forbidden.iter().position(|known| known.route == route) {
                forbidden.remove(at);
                let upstream = self.0.metrics.name();
                tracing::info!(
                    upstream,
                    was = FORBIDDEN,
                    route,
                    "requests to the API succeed again"
                );
            }
        });
    }

    /// Changes the forbidden routes, without those that are forbidden no longer.
    fn update_forbidden(&self, current: &mut Current, change: impl FnOnce(&mut Vec<Forbidden>)) {
        current.forbidden.retain(|Forbidden { route, last, .. }| {
            let lasts = last.elapsed() < FORBIDDEN_FOR;
            if !lasts {
                let upstream = self.0.metrics.name();
                tracing::info!(
                    upstream,
                    was = FORBIDDEN,
                    route,
                    "API has forbidden no request for 10 minutes"
                );
            }
            lasts
        });
        change(&mut current.forbidden);
        self.0
            .has_forbidden
            .store(!current.forbidden.is_empty(), Ordering::Relaxed);
    }

    /// Ends the problem if it is one of those that are over.
    fn recovered(&self, is_over: impl Fn(&str) -> bool) {
        if !self.0.has_problem.load(Ordering::Relaxed) {
            return;
        }
        let mut current = self.0.current.lock();
        if let Some((problem, _)) = current.problem.take_if(|(problem, _)| is_over(problem.code())) {
            let (upstream, was) = (self.0.metrics.name(), problem.code());
            tracing::info!(upstream, was, "requests to the API succeed again");
            self.0.has_problem.store(false, Ordering::Relaxed);
        }
    }

    fn log(&self, problem: &Problem) {
        let (upstream, code) = (self.0.metrics.name(), problem.code());
        tracing::warn!(upstream, problem = code, error = %problem, "requests to the API fail");
    }
}

/// What a response says about the API itself. What it says about one request, such as 404, is the caller's. Whether a
/// successful one is a page is for its body to say.
pub(super) fn response_problem(to: &str, status: StatusCode, headers: &HeaderMap) -> Option<Problem> {
    let mashery = || headers.get("x-mashery-error-code").map(HeaderValue::as_bytes);
    match status.as_u16() {
        401 => Some(api::rejects_token(to)),
        403 if mashery() == Some(b"ERR_403_NOT_AUTHORIZED") => Some(api::rejects_token(to)),
        403 if mashery().is_some_and(|code| code.ends_with(b"_RATE")) => Some(api::rate_limited(to)),
        407 => Some(outbound_proxy::transparent("API request", to)),
        429 => Some(api::rate_limited(to)),
        200..=299 => None,
        _ if declares_html(headers) => Some(api::page(to, status.as_u16(), "")),
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
mod tests;
