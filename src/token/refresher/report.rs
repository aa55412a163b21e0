//! Reports what the refresher does: publishes its status, updates the metrics, logs changes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tracing::Level;

use super::super::failure::{FetchError, FetchErrorKind};
use super::super::response::Grant;
use super::super::status::{TokenState, TokenStatus};
use super::Refresher;
use crate::problems::Problem;
use crate::problems::tls::clock_skew;

/// A difference between the clocks that is worth a warning, in seconds. Lifetimes are relative and do not suffer, but
/// logs of both sides can no longer be compared.
const SKEW_WARNING_S: i64 = 30;

const UNREADABLE: &str = "credentials cannot be used for the next token, the current one is still valid";
const STILL_VALID: &str = "token refresh failed, the current token is still valid";

impl<S> Refresher<S> {
    /// Publishes the next attempt and what `change` sets; logs a new state, a new error, and the loss of the valid
    /// token.
    pub(super) fn publish(&self, next_attempt: Option<Instant>, change: impl FnOnce(&mut TokenStatus)) {
        let before = self.status.borrow().clone();
        let mut status = TokenStatus {
            next_attempt,
            is_resting: false,
            may_succeed_soon: false,
            skew_s: self.skew_s,
            ..before.clone()
        };
        change(&mut status);
        let mut status = status.updated(self.cell.clock.now(), self.cell.newest().as_deref());
        let known = before.last_problem.filter(|_| status.state != TokenState::Fresh);
        status.last_problem = status.any_problem().map(Problem::code).or(known);
        self.metrics
            .set_token_state(status.state.name(), &TokenState::NAMES);
        if let Some(since_1970) = status.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            self.metrics.set_token_expiry(since_1970.as_secs_f64());
        }
        let is_lost = before.has_valid_token && !status.has_valid_token;
        let codes = [&before, &status].map(|status| status.any_problem().map(Problem::code));
        let is_other_problem = codes[0] != codes[1];
        if status.state != before.state || is_other_problem || is_lost {
            self.log(&status, &before);
        }
        self.status.send_replace(status);
    }

    /// Publishes what keeps the credentials from being used while the token is valid, or that nothing does.
    pub(super) fn warn(&self, problem: Option<Problem>) {
        let (known, next) = {
            let status = self.status.borrow();
            (status.warning.clone(), status.next_attempt)
        };
        let codes = [known.as_ref().map(|(known, _)| known), problem.as_ref()];
        let [known, new] = codes.map(|problem| problem.map(Problem::code));
        if known != new {
            let now = self.cell.clock.now().wall;
            self.publish(next, |status| {
                status.is_resting = true;
                status.warning = problem.map(|problem| (problem, now));
            });
        }
    }

    /// Counts a token request by its outcome, and compares the clocks.
    pub(super) fn record(&mut self, fetched: &Result<Grant, FetchError>) {
        let (outcome, server_time) = match fetched {
            Ok(grant) => ("ok", grant.server_time),
            Err(error) => (error.kind.name(), error.server_time),
        };
        self.metrics.count_token_request(outcome);
        if let Some(server_time) = server_time {
            self.compare_clocks(server_time);
        }
    }

    fn compare_clocks(&mut self, server_time: SystemTime) {
        // `Date` is cut to whole seconds: add the mean of what was cut.
        let server_time = server_time + Duration::from_millis(500);
        let clock_skew_s = match server_time.duration_since(self.cell.clock.now().wall) {
            Ok(ahead) => ahead.as_secs().cast_signed(),
            Err(behind) => -behind.duration().as_secs().cast_signed(),
        };
        self.metrics.set_clock_skew(clock_skew_s);
        let before = self.skew_s.replace(clock_skew_s).unwrap_or_default();
        if clock_skew_s.abs() >= SKEW_WARNING_S && before.abs() < SKEW_WARNING_S {
            let (upstream, error) = (self.upstream.as_str(), clock_skew(clock_skew_s.unsigned_abs()));
            tracing::warn!(upstream, clock_skew_s, problem = error.code(), %error, "clock skew");
        }
    }

    fn log(&self, status: &TokenStatus, before: &TokenStatus) {
        let (upstream, state) = (self.upstream.as_str(), status.state.name());
        let kind = status.error_kind().map(FetchErrorKind::name);
        let problem = status.any_problem().map(Problem::code);
        let error = status.any_problem().map(tracing::field::display);
        let next_fetch_s = status.next_attempt_in.map(|wait| wait.as_secs());
        let newest = self.cell.newest();
        let serial = newest.as_ref().map(|token| token.serial);
        let lifetime_s = newest.map(|token| token.lifetime.as_secs());
        let is_routine = before.state == TokenState::Refreshing && before.last_problem.is_none();
        let (level, phrase) = match (status.error_kind(), status.state) {
            (Some(FetchErrorKind::Rejected), _) => (Level::ERROR, "new tokens are rejected"),
            (Some(FetchErrorKind::Clock), _) => (Level::WARN, "tokens expire as soon as they are issued"),
            (Some(_), _) if status.has_valid_token => (Level::WARN, STILL_VALID),
            (Some(_), _) => (Level::ERROR, "token refresh failed, no valid token"),
            (None, _) if status.warning.is_some() => (Level::WARN, UNREADABLE),
            (None, TokenState::Fresh) if before.state == TokenState::Fresh => {
                (Level::INFO, "credentials can be read again")
            }
            (None, TokenState::Fresh) if is_routine => (Level::DEBUG, "token refreshed"),
            (None, TokenState::Fresh) => (Level::INFO, "token acquired"),
            // The machine slept, or its clock was set.
            (None, TokenState::Expired) => (Level::INFO, "token expired, fetching a new one"),
            (None, _) => (Level::DEBUG, "fetching a token"),
        };
        match level {
            Level::ERROR => tracing::error!(upstream, state, kind, problem, next_fetch_s, error, "{phrase}"),
            Level::WARN => tracing::warn!(upstream, state, kind, problem, next_fetch_s, error, "{phrase}"),
            Level::INFO => tracing::info!(upstream, state, serial, lifetime_s, next_fetch_s, "{phrase}"),
            _ => tracing::debug!(upstream, state, serial, lifetime_s, next_fetch_s, "{phrase}"),
        }
    }
}
