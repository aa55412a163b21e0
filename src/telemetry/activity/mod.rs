//! What the callers' requests did lately, for the status page: the last hundred requests, and a count for each minute of
//! the last hour.
//!
//! Every worker records each of its requests here. A record takes a short lock and reuses the memory of the oldest one;
//! no timer runs, and nothing is done while no request ends.

mod minutes;
mod recent;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::minutes::Minutes;
use self::recent::Recent;

pub use self::minutes::Minute;
pub use self::recent::RecentRequest;

/// The recent activity of all listeners.
pub struct Activity {
    state: Mutex<State>,
    recorded: Notify,
}

#[derive(Default)]
struct State {
    /// Requests since the start.
    count: u64,
    recent: Recent,
    /// By the upstream's name. Few, and those of the present requests are nearly all there are.
    upstreams: Vec<(String, Minutes)>,
}

/// A request that has ended. None of its texts holds a body, a query or a credential.
#[derive(Clone, Debug)]
pub struct FinishedRequest<'a> {
    /// When it ended.
    pub at: SystemTime,
    /// The name of its upstream; empty if it was refused before the listener's router.
    pub upstream: &'a str,
    /// The address of its listener.
    pub listener: &'a str,
    /// The caller's name.
    pub caller: Option<&'a str>,
    /// The caller's address.
    pub address: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The rule that allowed it.
    pub rule: Option<&'a str>,
    /// The response's status; 0 if the caller disconnected before its response.
    pub status: u16,
    /// Where the response came from: `upstream`, `bondgate` or `spool`.
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
    /// The caller's identifier of the request.
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

fn is_error(status: u16, origin: &str) -> bool {
    status == 0 || status >= 500 || (status >= 400 && origin == "bondgate")
}

impl Activity {
    /// No activity yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            recorded: Notify::new(),
        })
    }

    /// Records a request.
    pub fn record(&self, request: &FinishedRequest<'_>) {
        let mut state = self.state.lock();
        state.count += 1;
        state.recent.add(request);
        if !request.upstream.is_empty() {
            state.minutes_of(request.upstream, request.at).add(request);
        }
        drop(state);
        // An atomic read while nobody waits.
        self.recorded.notify_waiters();
    }

    /// The number of requests since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// Resolves when more requests than these have been recorded. Cancel safe.
    pub async fn more_than(&self, count: u64) {
        loop {
            let recorded = self.recorded.notified();
            if self.count() > count {
                return;
            }
            recorded.await;
        }
    }

    /// The last hundred requests, the newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<RecentRequest> {
        self.state.lock().recent.newest_first().cloned().collect()
    }

    /// The last hour of an upstream, the oldest minute first; the last one is the current minute.
    #[must_use]
    pub fn last_hour(&self, upstream: &str, now: SystemTime) -> [Minute; 60] {
        let state = self.state.lock();
        let minutes = state.upstreams.iter().find(|(name, _)| name == upstream);
        minutes.map_or([Minute::default(); 60], |(_, minutes)| minutes.until(now))
    }
}

impl State {
    fn minutes_of(&mut self, upstream: &str, now: SystemTime) -> &mut Minutes {
        let known = self.upstreams.iter().position(|(name, _)| name == upstream);
        let at = known.unwrap_or_else(|| {
            // A reload may have renamed upstreams.
            self.upstreams.retain(|(_, minutes)| !minutes.is_idle(now));
            self.upstreams.push((upstream.to_owned(), Minutes::default()));
            self.upstreams.len() - 1
        });
        &mut self.upstreams[at].1
    }
}

#[cfg(test)]
mod tests;
