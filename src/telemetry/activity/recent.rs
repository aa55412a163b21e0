//! The last hundred requests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::finished_request::{FinishedRequest, is_error};
use crate::telemetry::excerpt;

/// A request that ended lately; see [`FinishedRequest`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "FinishedRequest has the same fields")]
pub struct RecentRequest {
    pub at: SystemTime,
    pub upstream: Arc<str>,
    pub listener: Arc<str>,
    pub caller: Option<Arc<str>>,
    pub address: Option<Arc<str>>,
    pub method: String,
    pub path: String,
    pub rule: Option<Arc<str>>,
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
            self.ring.push(RecentRequest::new(request, Texts::default()));
        } else {
            let oldest = &mut self.ring[self.next];
            *oldest = RecentRequest::new(request, oldest.take_texts());
        }
        self.next = (self.next + 1) % LENGTH;
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &RecentRequest> {
        let (newer, older) = self.ring.split_at(self.next.min(self.ring.len()));
        newer.iter().rev().chain(older.iter().rev())
    }
}

/// The texts of a request that are its own.
#[derive(Default)]
struct Texts {
    method: String,
    path: String,
    correlation_id: String,
}

impl RecentRequest {
    /// Copies a request, into the memory of these texts.
    fn new(request: &FinishedRequest<'_>, texts: Texts) -> Self {
        Self {
            at: request.at,
            upstream: request.upstream.clone(),
            listener: request.listener.clone(),
            caller: request.caller.cloned(),
            address: request.address.cloned(),
            method: copy(request.method, texts.method),
            path: copy(request.path, texts.path),
            rule: request.rule.cloned(),
            status: request.status,
            origin: request.origin,
            is_sent: request.is_sent,
            is_complete: request.is_complete,
            request_bytes: request.request_bytes,
            response_bytes: request.response_bytes,
            duration: request.duration,
            own_time: request.own_time,
            upstream_time: request.upstream_time,
            problem: request.problem,
            correlation_id: copy(request.correlation_id.unwrap_or_default(), texts.correlation_id),
        }
    }

    fn take_texts(&mut self) -> Texts {
        Texts {
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            correlation_id: std::mem::take(&mut self.correlation_id),
        }
    }

    /// Whether it counts as an error; see [`FinishedRequest::is_error`].
    #[must_use]
    pub fn is_error(&self) -> bool {
        is_error(self.status, self.origin)
    }
}

/// The start of a text, in the memory of another one.
fn copy(text: &str, mut memory: String) -> String {
    memory.clear();
    memory.push_str(excerpt(text, LONGEST));
    memory
}
