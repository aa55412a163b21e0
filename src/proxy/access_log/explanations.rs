//! Explains the problems of requests in the log: the line of a request has the code of its problem alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::problems::{Area, Problem};

/// How long a problem is not explained again.
const PAUSE: Duration = Duration::from_secs(3600);

/// When each problem of the requests to one upstream was last explained, by its code.
#[derive(Default)]
pub(in crate::proxy) struct Explanations(Mutex<HashMap<&'static str, Instant>>);

impl Explanations {
    /// Logs cause and fix of a problem, at most once an hour. What keeps requests from the upstream is explained where it
    /// begins.
    pub(super) fn explain(&self, upstream: &str, problem: &Problem) {
        if !matches!(problem.entry().area, Area::Request | Area::Spool)
            || !self.is_due(problem, Instant::now())
        {
            return;
        }
        let (problem, cause, fix) = (problem.code(), problem.cause(), problem.fix());
        tracing::warn!(
            upstream,
            problem,
            cause,
            fix,
            "requests get a response of bondgate itself"
        );
    }

    fn is_due(&self, problem: &Problem, now: Instant) -> bool {
        let mut explained = self.0.lock();
        let last = explained.get(problem.code());
        let is_due = last.is_none_or(|last| now.duration_since(*last) >= PAUSE);
        if is_due {
            explained.insert(problem.code(), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::request::{loops, path_refused};

    #[test]
    fn a_problem_is_explained_once_an_hour() {
        let (explanations, start) = (Explanations::default(), Instant::now());
        let is_due = |problem, after| explanations.is_due(&problem, start + Duration::from_secs(after));
        assert!(is_due(loops(), 0));
        assert!(is_due(path_refused("cisco"), 1));
        assert!(!is_due(loops(), 3599));
        assert!(is_due(loops(), 3600));
        assert!(!is_due(loops(), 3601));
    }
}
