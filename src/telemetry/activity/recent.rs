//! The last hundred requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finished_request::{FinishedRequest, is_error};

/// A request that ended lately; see [`FinishedRequest`]. A text that is missing is empty.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "FinishedRequest has the same fields")]
pub struct RecentRequest {
    pub at: SystemTime,
    pub upstream: String,
    pub listener: String,
    pub caller: String,
    pub address: String,
    pub method: String,
    pub path: String,
    pub rule: String,
    pub status: u16,
    pub origin: &'static str,
    pub is_sent: bool,
    pub is_complete: bool,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration: Duration,
    pub own_time: Duration,
    pub upstream_time: Duration,
    pub problem: Option<&'static str>,
    pub correlation_id: String,
}

/// A ring of requests, whose texts keep their memory when they are replaced.
#[derive(Default)]
pub(super) struct Recent {
    ring: Vec<RecentRequest>,
    /// Where the next one goes once the ring is full: where the oldest one is.
    next: usize,
}

const LENGTH: usize = 100;

/// The longest text that is kept, in bytes: callers can send long ones.
const LONGEST: usize = 256;

impl Recent {
    pub(super) fn add(&mut self, request: &FinishedRequest<'_>) {
        if self.ring.len() < LENGTH {
            self.ring.push(RecentRequest::EMPTY);
        }
        let at = self.next;
        self.next = (at + 1) % LENGTH;
        self.ring[at].replace(request);
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &RecentRequest> {
        let (newer, older) = self.ring.split_at(self.next.min(self.ring.len()));
        newer.iter().rev().chain(older.iter().rev())
    }
}

impl RecentRequest {
    const EMPTY: Self = Self {
        at: UNIX_EPOCH,
        upstream: String::new(),
        listener: String::new(),
        caller: String::new(),
        address: String::new(),
        method: String::new(),
        path: String::new(),
        rule: String::new(),
        status: 0,
        origin: "",
        is_sent: false,
        is_complete: false,
        request_bytes: 0,
        response_bytes: 0,
        duration: Duration::ZERO,
        own_time: Duration::ZERO,
        upstream_time: Duration::ZERO,
        problem: None,
        correlation_id: String::new(),
    };

    /// Whether it counts as an error; see [`FinishedRequest::is_error`].
    #[must_use]
    pub fn is_error(&self) -> bool {
        is_error(self.status, self.origin)
    }

    fn replace(&mut self, request: &FinishedRequest<'_>) {
        let end = memchr::memchr(b'?', request.path.as_bytes());
        let path = &request.path[..end.unwrap_or(request.path.len())];
        for (text, now) in [
            (&mut self.upstream, request.upstream),
            (&mut self.listener, request.listener),
            (&mut self.caller, request.caller.unwrap_or_default()),
            (&mut self.address, request.address.unwrap_or_default()),
            (&mut self.method, request.method),
            (&mut self.path, path),
            (&mut self.rule, request.rule.unwrap_or_default()),
            (
                &mut self.correlation_id,
                request.correlation_id.unwrap_or_default(),
            ),
        ] {
            text.clear();
            text.push_str(start(now));
        }
        self.at = request.at;
        self.status = request.status;
        self.origin = request.origin;
        self.is_sent = request.is_sent;
        self.is_complete = request.is_complete;
        self.request_bytes = request.request_bytes;
        self.response_bytes = request.response_bytes;
        self.duration = request.duration;
        self.own_time = request.own_time;
        self.upstream_time = request.upstream_time;
        self.problem = request.problem;
    }
}

/// The first characters of a text.
fn start(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
