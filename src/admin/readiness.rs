//! Whether callers should be sent here.
//!
//! Ready means: each upstream has had a token, and no stop is under way. A token that is lost later
//! shows in the text and in `/readyz?token` alone: an outage at Cisco must not take every pod out
//! of its Service.

use std::fmt::Write as _;
use std::future::Future as _;
use std::task::Poll;

use crate::server::{Phase, Stopping};
use crate::token::TokenReader;

/// What readiness is made of.
#[derive(Clone)]
pub struct Readiness {
    upstreams: Vec<(String, TokenReader)>,
    stop: Stopping,
}

impl Readiness {
    /// The readiness of these upstreams.
    #[must_use]
    pub fn new(upstreams: Vec<(String, TokenReader)>, stop: Stopping) -> Self {
        Self { upstreams, stop }
    }

    /// Whether callers should be sent here (with `needs_token`: whether each of them gets a token
    /// now), and a line for each reason.
    #[must_use]
    pub fn judge(&self, needs_token: bool) -> (bool, String) {
        let mut is_ready = true;
        let mut text = String::new();
        if self.stop.phase() > Phase::Serving {
            is_ready = false;
            text.push_str("stopping\n");
        }
        for (name, tokens) in &self.upstreams {
            let status = tokens.status();
            let has_token = tokens.current().is_some() && !tokens.are_rejected();
            let ever_had_one = status.expires.is_some();
            is_ready &= if needs_token { has_token } else { ever_had_one };
            if !has_token {
                let why = status
                    .last_error
                    .map_or_else(|| "it is being fetched".to_owned(), |error| error.message);
                let _ = writeln!(text, "upstream {name} has no good token: {why}");
            }
        }
        if is_ready {
            text.insert_str(0, "ready\n");
        }
        (is_ready, text)
    }

    /// Resolves when what [`judge`](Self::judge) says of the tokens may have changed. Cancel safe.
    pub async fn changed(&mut self) {
        let changes = self
            .upstreams
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
    pub(super) fn upstreams(&self) -> &[(String, TokenReader)] {
        &self.upstreams
    }

    /// How far a stop has come.
    pub(super) fn phase(&self) -> Phase {
        self.stop.phase()
    }
}
