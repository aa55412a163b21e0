//! What the callers' requests did lately, for the status page: the last hundred requests, and a count for each minute of
//! the last hour; and what was refused before it was a request.
//!
//! Every worker records each of its requests here. A record takes a short lock and reuses the memory of the oldest one;
//! no timer runs, and nothing is done while no request ends.

mod finished_request;
mod minutes;
mod recent;
mod refusals;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use self::minutes::Minutes;
use self::recent::Recent;
use self::refusals::Refusals;

pub use self::finished_request::FinishedRequest;
pub use self::minutes::Minute;
pub use self::recent::RecentRequest;
pub use self::refusals::{Refusal, RefusalCount};

/// The recent activity of all listeners.
#[derive(Default)]
pub struct Activity {
    requests: Mutex<Requests>,
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Requests {
    recent: Recent,
    /// By the upstream's name. Few, and those of the present requests are nearly all there are.
    upstreams: Vec<(String, Minutes)>,
}

impl Activity {
    /// No activity yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Records a request.
    pub fn record(&self, request: &FinishedRequest<'_>) {
        let mut requests = self.requests.lock();
        requests.recent.add(request);
        requests.minutes_of(request.upstream, request.at).add(request);
    }

    /// Counts a refusal of a connection, or of a request that did not reach the request stack.
    pub fn refused(&self, refusal: Refusal<'_>) {
        self.refusals.lock().add(refusal);
    }

    /// These refusals by listener and problem, the newest first.
    #[must_use]
    pub fn refusals(&self) -> Vec<RefusalCount> {
        self.refusals.lock().newest_first()
    }

    /// The last hundred requests, the newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<RecentRequest> {
        self.requests.lock().recent.newest_first().cloned().collect()
    }

    /// The last hour of an upstream, the oldest minute first; the last one is the current minute.
    #[must_use]
    pub fn last_hour(&self, upstream: &str, now: SystemTime) -> [Minute; 60] {
        let requests = self.requests.lock();
        let minutes = requests.upstreams.iter().find(|(name, _)| name == upstream);
        minutes.map_or([Minute::default(); 60], |(_, minutes)| minutes.until(now))
    }
}

impl Requests {
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
