//! Whether callers should be sent here.
//!
//! Ready means: each upstream has had a token, and no stop is under way. A token that is lost later, or an
//! upstream that is added later and has none yet, shows in the text and in `/readyz?token` alone: an outage
//! at Cisco must not take every pod out of its Service.

use std::fmt::Write as _;
use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use arc_swap::ArcSwap;

use crate::server::{Phase, Stopping};
use crate::token::TokenReader;

/// What readiness is made of.
#[derive(Clone)]
pub struct Readiness {
    upstreams: Arc<ArcSwap<Upstreams>>,
    /// The same, with what this one has seen of each.
    watched: Upstreams,
    was_ready: Arc<AtomicBool>,
    stop: Stopping,
}

/// Each upstream's token, by the upstream's name.
type Upstreams = Vec<(String, TokenReader)>;

impl Readiness {
    /// The readiness of these upstreams.
    #[must_use]
    pub fn new(upstreams: Vec<(String, TokenReader)>, stop: Stopping) -> Self {
        Self {
            upstreams: Arc::new(ArcSwap::from_pointee(upstreams.clone())),
            watched: upstreams,
            was_ready: Arc::default(),
            stop,
        }
    }

    /// Takes these upstreams in place of those before.
    pub fn replace(&self, upstreams: Vec<(String, TokenReader)>) {
        // It may have become ready without being asked.
        let _ = self.judge(false);
        self.upstreams.store(Arc::new(upstreams));
    }

    /// Whether callers should be sent here (with `needs_token`: whether each of them gets a token
    /// now), and a line for each reason.
    #[must_use]
    pub fn judge(&self, needs_token: bool) -> (bool, String) {
        let is_stopping = self.stop.phase() > Phase::Serving;
        let (mut had_tokens, mut have_tokens) = (true, true);
        let mut text = String::new();
        if is_stopping {
            text.push_str("stopping\n");
        }
        for (name, tokens) in self.upstreams.load().iter() {
            let status = tokens.status();
            let has_token = tokens.current().is_some() && !tokens.are_rejected();
            have_tokens &= has_token;
            had_tokens &= status.expires.is_some();
            if !has_token {
                let why = status
                    .last_error
                    .map_or_else(|| "it is being fetched".to_owned(), |(error, _)| error.message);
                let _ = writeln!(text, "upstream {name} has no good token: {why}");
            }
        }
        let was_ready = self.was_ready.fetch_or(had_tokens, Ordering::Relaxed);
        let has_what_it_needs = if needs_token {
            have_tokens
        } else {
            had_tokens || was_ready
        };
        let is_ready = has_what_it_needs && !is_stopping;
        if is_ready {
            text.insert_str(0, "ready\n");
        }
        (is_ready, text)
    }

    /// Resolves when what [`judge`](Self::judge) says of the tokens of the start may have changed. Cancel
    /// safe.
    pub async fn changed(&mut self) {
        let changes = self
            .watched
            .iter_mut()
            .map(|(_, tokens)| Box::pin(tokens.changed()));
        let mut changes: Vec<_> = changes.collect();
        std::future::poll_fn(|cx| {
            let is_changed = changes
                .iter_mut()
                .any(|change| change.as_mut().poll(cx).is_ready());
            if is_changed {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Each upstream's token, by the upstream's name.
    pub(super) fn upstreams(&self) -> Arc<Upstreams> {
        self.upstreams.load_full()
    }

    /// How far a stop has come.
    pub(super) fn phase(&self) -> Phase {
        self.stop.phase()
    }
}
