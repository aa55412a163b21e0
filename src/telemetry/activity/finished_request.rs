//! A request that has ended, as a worker records it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A request that has ended. None of its texts holds a body, a query or a credential. A text that requests have in common
/// is shared, so that the list of requests needs no copy of it.
#[derive(Clone, Debug)]
pub struct FinishedRequest<'a> {
    /// When it ended.
    pub at: SystemTime,
    /// The name of its upstream.
    pub upstream: &'a Arc<str>,
    /// The address of its listener.
    pub listener: &'a Arc<str>,
    /// The caller's name.
    pub caller: Option<&'a Arc<str>>,
    /// The caller's address.
    pub address: Option<&'a Arc<str>>,
    /// The method.
    pub method: &'a str,
    /// The beginning of the path, without the query.
    pub path: &'a str,
    /// The rule that allowed it.
    pub rule: Option<&'a Arc<str>>,
    /// The response's status; 0 if the caller disconnected before its response.
    pub status: u16,
    /// Where the response came from: `upstream`, `bondgate` or `spool`; or `caller`, which disconnected before.
    pub origin: &'static str,
    /// Whether a byte of it may have reached the upstream.
    pub is_sent: bool,
    /// Whether the response ended as it should.
    pub is_complete: bool,
    /// The size of its body.
    pub request_bytes: u64,
    /// The size of the response's body.
    pub response_bytes: u64,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// From the request's head to the response's head, without the time at the upstream.
    pub own_time: Duration,
    /// The part of the time to the response's head that the upstream took.
    pub upstream_time: Duration,
    /// The code of what went wrong.
    pub problem: Option<&'static str>,
    /// The identifier of the request, the caller's or one that bondgate added.
    pub correlation_id: Option<&'a str>,
}

impl FinishedRequest<'_> {
    /// Whether it counts as an error: no response, a failure of the upstream, or a refusal by bondgate. What the upstream
    /// refuses is between it and the caller.
    #[must_use]
    pub fn is_error(&self) -> bool {
        is_error(self.status, self.origin)
    }
}

pub(super) fn is_error(status: u16, origin: &str) -> bool {
    status == 0 || status >= 500 || (status >= 400 && origin == "bondgate")
}
