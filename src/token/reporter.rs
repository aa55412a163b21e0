//! Tells what the refresher does: to requests and the status page, to the metrics, and to the log where
//! it is news.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::cell::TokenWriter;
use super::failure::{FetchError, FetchErrorKind};
use super::state::{Activity, Holding, LastError, TokenState, TokenStatus};
use crate::telemetry::metrics::UpstreamMetrics;

/// Speaks for one upstream's refresher.
pub(super) struct Reporter {
    upstream: String,
    metrics: UpstreamMetrics,
}

/// A clock that is off by this much deserves a word, in seconds: lifetimes do not suffer, since they
/// are relative, but logs on both sides can no longer be compared.
const SKEW_TOLD_S: i64 = 30;

impl Reporter {
    pub(super) fn new(upstream: &str, metrics: UpstreamMetrics) -> Self {
        Self {
            upstream: upstream.to_owned(),
            metrics,
        }
    }

    /// Counts a token request by its outcome: `ok`, or the kind of failure.
    pub(super) fn fetched(&self, outcome: &'static str) {
        self.metrics.token_request(outcome);
    }

    /// The token is good, and there is nothing to do before `refresh`.
    pub(super) fn resting(&self, writer: &TokenWriter, refresh: Instant) {
        let told = TokenStatus {
            last_error: None,
            ..writer.told()
        };
        self.tell(writer, Activity::Resting, Some(refresh), false, told);
    }

    /// A token is in force that has yet to show that it is better than those before it.
    pub(super) fn on_trial(&self, writer: &TokenWriter, refresh: Instant) {
        self.tell(writer, Activity::Resting, Some(refresh), false, writer.told());
    }

    /// A token request begins; a request may wait for what it brings, if `is_hopeful`.
    pub(super) fn fetching(&self, writer: &TokenWriter, is_hopeful: bool) {
        self.tell(writer, Activity::Fetching, None, is_hopeful, writer.told());
    }

    /// The identity service returned the token in force once more.
    pub(super) fn repeated(&self, left: Duration) {
        tracing::debug!(
            upstream = self.upstream,
            left_s = left.as_secs(),
            "the identity service returned the same token"
        );
    }

    /// The identity service returned a token that is of no more use, and its successor is asked for at `next`, within
    /// a moment: a request may wait for it.
    pub(super) fn awaiting_successor(&self, writer: &TokenWriter, next: Instant) {
        self.tell(writer, Activity::Fetching, Some(next), true, writer.told());
    }

    /// Something went wrong at a moment, and the next attempt is at `next`.
    pub(super) fn backing_off(
        &self,
        writer: &TokenWriter,
        at: SystemTime,
        next: Instant,
        error: &FetchError,
    ) {
        let told = TokenStatus {
            last_error: Some(LastError {
                kind: error.kind,
                message: error.message.clone(),
                at,
            }),
            ..writer.told()
        };
        self.tell(writer, Activity::BackingOff, Some(next), false, told);
    }

    /// There are other credentials: what went wrong before says nothing of what comes now.
    pub(super) fn credentials_changed(&self, writer: &TokenWriter) {
        tracing::info!(
            upstream = self.upstream,
            "the credentials have changed, trying again"
        );
        writer.tell(TokenStatus {
            last_error: None,
            ..writer.told()
        });
    }

    /// The token or its time changed while the activity stays what it is.
    pub(super) fn again(&self, writer: &TokenWriter) {
        let told = writer.told();
        self.tell(writer, told.activity, told.next_attempt, told.is_hopeful, told);
    }

    /// How far the identity service's clock was ahead of ours when it answered.
    pub(super) fn skew(&self, writer: &TokenWriter, server: SystemTime) {
        let ours = writer.clock().now().wall;
        // `Date` has whole seconds, cut: half a second is the fairest guess of the rest.
        let server = server + Duration::from_millis(500);
        let skew_s = match server.duration_since(ours) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => -seconds(behind.duration()),
        };
        let before = writer.told();
        self.metrics.clock_skew(skew_s);
        if skew_s.abs() >= SKEW_TOLD_S && before.skew_s.is_none_or(|before| before.abs() < SKEW_TOLD_S) {
            tracing::warn!(
                upstream = self.upstream,
                clock_skew_s = skew_s,
                "this machine's clock and the identity service's differ; run NTP"
            );
        }
        writer.tell(TokenStatus {
            skew_s: Some(skew_s),
            ..before
        });
    }

    fn tell(
        &self,
        writer: &TokenWriter,
        activity: Activity,
        next_attempt: Option<Instant>,
        is_hopeful: bool,
        told: TokenStatus,
    ) {
        let now = writer.clock().now();
        let before = writer.told();
        let holding = writer.holding();
        let state = TokenState::of(activity, told.error_kind(), holding);
        let expires = writer.newest().map(|token| token.expires_wall(now));
        let status = TokenStatus {
            state,
            since: if state == before.state {
                before.since
            } else {
                now.wall
            },
            next_attempt,
            expires,
            is_hopeful,
            activity,
            is_serving: holding == Holding::Good,
            ..told
        };
        self.metrics.token_state(status.state.name(), &TokenState::NAMES);
        if let Some(since_1970) = expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            self.metrics.token_expiry(since_1970.as_secs_f64());
        }
        let is_lost = before.is_serving && !status.is_serving;
        if state != before.state || status.message() != before.message() || is_lost {
            let next = next_attempt.map(|at| at.saturating_duration_since(now.monotonic).as_secs());
            self.log(writer, &status, before.state, next);
        }
        writer.tell(status);
    }

    fn log(&self, writer: &TokenWriter, status: &TokenStatus, before: TokenState, next_try_s: Option<u64>) {
        let (upstream, state) = (self.upstream.as_str(), status.state.name());
        let kind = status.error_kind().map(FetchErrorKind::name);
        match (status.message(), status.state) {
            (Some(why), _) if status.error_kind() == Some(FetchErrorKind::Rejected) => {
                tracing::error!(upstream, state, kind, next_try_s, "{why}");
            }
            (Some(why), _) if status.is_serving => {
                tracing::warn!(
                    upstream,
                    state,
                    kind,
                    next_try_s,
                    "no new token, the old one still serves: {why}"
                );
            }
            (Some(why), _) => tracing::error!(upstream, state, kind, next_try_s, "no token: {why}"),
            (None, TokenState::Fresh) => {
                let lifetime_s = writer.newest().map(|token| token.lifetime().as_secs());
                if before == TokenState::Refreshing {
                    tracing::debug!(
                        upstream,
                        state,
                        lifetime_s,
                        next_refresh_s = next_try_s,
                        "the token is refreshed"
                    );
                } else {
                    tracing::info!(
                        upstream,
                        state,
                        lifetime_s,
                        next_refresh_s = next_try_s,
                        "there is a token"
                    );
                }
            }
            // A machine that slept, or a clock that was set: the next token is on its way.
            (None, TokenState::Expired) => {
                tracing::info!(upstream, state, "the token's time is over, fetching another");
            }
            (None, _) => tracing::debug!(upstream, state, "fetching a token"),
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
