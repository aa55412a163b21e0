//! Reports what the refresher does: publishes its status, updates the metrics, logs changes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::Level;

use super::cell::TokenWriter;
use super::failure::{FetchError, FetchErrorKind};
use super::response::Grant;
use super::status::{TokenPresence, TokenState, TokenStatus};
use crate::telemetry::metrics::UpstreamMetrics;

/// Reports for one upstream's refresher.
pub(super) struct Reporter {
    upstream: String,
    metrics: UpstreamMetrics,
}

/// A difference between the clocks that is worth a warning, in seconds. Lifetimes are relative and do not suffer, but
/// logs of both sides can no longer be compared.
const SKEW_WARNING_S: i64 = 30;

impl Reporter {
    pub(super) fn new(upstream: &str, metrics: UpstreamMetrics) -> Self {
        Self {
            upstream: upstream.to_owned(),
            metrics,
        }
    }

    /// Changes the published status; logs a new state, a new error, and the loss of the valid token.
    pub(super) fn publish(&self, writer: &TokenWriter, change: impl FnOnce(&mut TokenStatus)) {
        let before = writer.status();
        let mut status = before.clone();
        change(&mut status);
        let status = status.as_of(writer.clock().now(), writer.newest().as_deref());
        self.metrics.token_state(status.state.name(), &TokenState::NAMES);
        if let Some(since_1970) = status.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            self.metrics.token_expiry(since_1970.as_secs_f64());
        }
        let is_lost = before.presence == TokenPresence::Valid && status.presence != TokenPresence::Valid;
        if status.state != before.state || status.message() != before.message() || is_lost {
            self.log(writer, &status, before.state);
        }
        writer.publish(status);
    }

    /// Counts a token request by its outcome, and compares the clocks.
    pub(super) fn fetched(&self, writer: &TokenWriter, fetched: &Result<Grant, FetchError>) {
        let (outcome, server_time) = match fetched {
            Ok(grant) => ("ok", grant.server_time),
            Err(error) => (error.kind.name(), error.server_time),
        };
        self.metrics.token_request(outcome);
        if let Some(server_time) = server_time {
            self.skew(writer, server_time);
        }
    }

    /// The identity service returned the newest token again.
    pub(super) fn repeated(&self, remaining: Duration) {
        let remaining_s = remaining.as_secs();
        tracing::debug!(upstream = self.upstream, remaining_s, "token returned again");
    }

    pub(super) fn credentials_changed(&self) {
        tracing::info!(upstream = self.upstream, "credentials changed, fetching a token");
    }

    fn skew(&self, writer: &TokenWriter, server_time: SystemTime) {
        // `Date` is cut to whole seconds: add the mean of what was cut.
        let server_time = server_time + Duration::from_millis(500);
        let skew_s = match server_time.duration_since(writer.clock().now().wall) {
            Ok(ahead) => ahead.as_secs().cast_signed(),
            Err(behind) => -behind.duration().as_secs().cast_signed(),
        };
        let before = writer.status().skew_s.unwrap_or_default();
        self.metrics.clock_skew(skew_s);
        if skew_s.abs() >= SKEW_WARNING_S && before.abs() < SKEW_WARNING_S {
            tracing::warn!(
                upstream = self.upstream,
                clock_skew_s = skew_s,
                "this machine's clock differs from the identity service's; run NTP"
            );
        }
        self.publish(writer, |status| status.skew_s = Some(skew_s));
    }

    fn log(&self, writer: &TokenWriter, status: &TokenStatus, before: TokenState) {
        let (upstream, state) = (self.upstream.as_str(), status.state.name());
        let (kind, error) = (status.error_kind().map(FetchErrorKind::name), status.message());
        let now = writer.clock().now().monotonic;
        let next = status.next_attempt.map(|at| at.saturating_duration_since(now));
        let next_fetch_s = next.map(|next| next.as_secs());
        let lifetime_s = writer.newest().map(|token| token.lifetime.as_secs());
        let (level, phrase) = match (status.error_kind(), status.state) {
            (Some(FetchErrorKind::Rejected), _) => (Level::ERROR, "new tokens are rejected"),
            (Some(_), _) if status.presence == TokenPresence::Valid => (
                Level::WARN,
                "token refresh failed, the current token is still valid",
            ),
            (Some(_), _) => (Level::ERROR, "token refresh failed, no valid token"),
            (None, TokenState::Fresh) if before == TokenState::Refreshing => {
                (Level::DEBUG, "token refreshed")
            }
            (None, TokenState::Fresh) => (Level::INFO, "token acquired"),
            // The machine slept, or its clock was set.
            (None, TokenState::Expired) => (Level::INFO, "token expired, fetching a new one"),
            (None, _) => (Level::DEBUG, "fetching a token"),
        };
        match level {
            Level::ERROR => tracing::error!(upstream, state, kind, next_fetch_s, error, "{phrase}"),
            Level::WARN => tracing::warn!(upstream, state, kind, next_fetch_s, error, "{phrase}"),
            Level::INFO => tracing::info!(upstream, state, lifetime_s, next_fetch_s, "{phrase}"),
            _ => tracing::debug!(upstream, state, lifetime_s, next_fetch_s, "{phrase}"),
        }
    }
}
