//! Whether callers should be sent here.
//!
//! Ready means: each upstream has had a token, and no stop is in progress. A token that is lost later, or an upstream
//! that is added later and has none yet, shows in the text and in `/readyz?token` only: an outage at Cisco must not
//! take every pod out of its Service.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use crate::server::{Phase, Stopping};
use crate::token::TokenReader;

/// The readiness of the daemon; clones share it.
#[derive(Clone)]
pub struct Readiness {
    pub(super) upstreams: Arc<ArcSwap<Upstreams>>,
    was_ready: Arc<AtomicBool>,
    pub(super) stop: Stopping,
    stop_times: Arc<OnceLock<StopTimes>>,
}

/// When a stop began, and until when it may run.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopTimes {
    pub(super) began: SystemTime,
    pub(super) ends: SystemTime,
}

/// Each upstream's token, by the upstream's name.
type Upstreams = Vec<(String, TokenReader)>;

impl Readiness {
    /// The readiness of these upstreams.
    #[must_use]
    pub fn new(upstreams: Vec<(String, TokenReader)>, stop: Stopping) -> Self {
        Self {
            upstreams: Arc::new(ArcSwap::from_pointee(upstreams)),
            was_ready: Arc::default(),
            stop,
            stop_times: Arc::default(),
        }
    }

    /// Replaces the upstreams.
    pub fn replace(&self, upstreams: Vec<(String, TokenReader)>) {
        // Records that the previous ones are ready, if no request did.
        let _ = self.check(false, true);
        self.upstreams.store(Arc::new(upstreams));
    }

    /// Records that a stop begins now and may run for so long. To be called before its first phase.
    pub fn begin_stop(&self, limit: Duration) {
        let began = SystemTime::now();
        let ends = began.checked_add(limit).unwrap_or(began);
        // A second stop does not begin another one.
        let _ = self.stop_times.set(StopTimes { began, ends });
    }

    /// The times of the stop that is in progress.
    pub(super) fn stop_times(&self) -> Option<StopTimes> {
        self.stop_times.get().copied()
    }

    /// Whether callers should be sent here (with `needs_token`: whether each upstream has a valid token now), and one
    /// line per reason.
    #[must_use]
    pub fn check(&self, needs_token: bool, is_local: bool) -> (bool, String) {
        let is_stopping = self.stop.phase() > Phase::Serving;
        let (mut had_tokens, mut have_tokens) = (true, true);
        let mut text = String::from(if is_stopping { "stopping\n" } else { "" });
        for (name, tokens) in self.upstreams.load().iter() {
            let status = tokens.status();
            let has_token = tokens.has_accepted_token();
            have_tokens &= has_token;
            had_tokens &= status.expires.is_some();
            if !has_token {
                let problem = status
                    .problem()
                    .map(|problem| problem.for_caller(is_local).to_string());
                let reason = problem.as_deref().unwrap_or("it is being fetched");
                let _ = writeln!(text, "upstream {name} has no valid token: {reason}");
            }
        }
        let was_ready = self.was_ready.fetch_or(had_tokens, Ordering::Relaxed);
        let has_needed = if needs_token {
            have_tokens
        } else {
            had_tokens || was_ready
        };
        let is_ready = has_needed && !is_stopping;
        if is_ready {
            text.insert_str(0, "ready\n");
        }
        (is_ready, text)
    }
}
