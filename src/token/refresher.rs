//! The task that keeps one upstream's token fresh, for as long as the daemon runs.
//!
//! It fetches in sequence: at most one token request is in flight, and a fetch that began with an older secret ends
//! before one with a newer secret begins. A failed fetch never replaces a valid token and never ends the task.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::AccessToken;
use super::cell::{TokenReader, TokenWriter, cell};
use super::clock::{Clock, Moment};
use super::failure::{FetchError, FetchErrorKind};
use super::reporter::Reporter;
use super::response::Grant;
use super::schedule::Schedule;
use super::status::TokenStatus;
use crate::telemetry::metrics::UpstreamMetrics;

/// Where tokens come from.
pub trait TokenSource {
    /// Requests a token once; always ends.
    fn fetch(&self) -> impl Future<Output = Result<Grant, FetchError>> + Send;

    /// Resolves when the credentials differ from those of the last fetch. Cancel safe.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// Keeps one token fresh.
pub struct Refresher<S> {
    source: S,
    writer: TokenWriter,
    schedule: Schedule,
    reporter: Reporter,
    /// The serial of the newest token.
    serial: u64,
    /// Failed fetches in a row.
    failures: u32,
    /// Short-lived tokens in a row: rejected or expired within [`YOUNG`].
    short_lived: u32,
    /// Refused credentials in a row that were replaced by others.
    credential_changes: u32,
    /// Quick requests in a row for a successor that is due in a moment.
    successor_requests: u32,
}

/// A token that is rejected or expires at this age or younger suggests that a new one may not help.
const YOUNG: Duration = Duration::from_secs(60);

const NEW_TOKENS_REJECTED: &str =
    "the upstream rejects tokens that were just issued; check that the credentials are meant for it";
const NEW_TOKENS_EXPIRED: &str = "tokens expire as soon as they are issued; check what sets this machine's clock, and \
                                  whether the identity service takes longer than its tokens live";

impl<S: TokenSource> Refresher<S> {
    /// The reader of an upstream's token, and the refresher that fetches it once it [runs](Self::run). The token of a
    /// `previous` reader serves until the first fetch succeeds.
    pub fn new(
        upstream: &str,
        source: S,
        clock: Clock,
        schedule: Schedule,
        metrics: UpstreamMetrics,
        previous: Option<&TokenReader>,
    ) -> (TokenReader, Self) {
        let (writer, reader) = cell(clock, previous);
        let refresher = Self {
            source,
            schedule,
            reporter: Reporter::new(upstream, metrics),
            serial: writer.newest().map_or(0, |previous| previous.serial),
            writer,
            failures: 0,
            short_lived: 0,
            credential_changes: 0,
            successor_requests: 0,
        };
        (reader, refresher)
    }

    /// Fetches, rests and fetches again; never ends.
    pub async fn run(mut self) {
        loop {
            let requested = self.writer.clock().now();
            match self.fetch().await {
                Ok(grant) => self.accept(grant, requested).await,
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        let may_succeed_soon = self.failures == 0;
        self.publish(None, |status| status.may_succeed_soon = may_succeed_soon);
        let fetching = self.source.fetch();
        tokio::pin!(fetching);
        let fetched = tokio::select! {
            fetched = &mut fetching => fetched,
            () = self.writer.invalidated() => {
                self.reporter.publish(&self.writer, |_| {});
                fetching.await
            }
        };
        self.reporter.fetched(&self.writer, &fetched);
        fetched
    }

    /// Serves a new token, keeps a repeated one, or waits for its successor: some identity services return the same
    /// token until it expires.
    async fn accept(&mut self, mut grant: Grant, requested: Moment) {
        self.credential_changes = 0;
        if grant.lifetime.is_zero() {
            return self.await_successor(requested, false).await;
        }
        let newest = self.writer.newest();
        let Some(token) = newest.filter(|newest| newest.authorization() == grant.authorization) else {
            self.successor_requests = 0;
            return self.serve_new(&grant, requested).await;
        };
        let known = token.remaining_monotonic(requested);
        let remaining = self.schedule.remaining_of_repeated(grant.lifetime, known);
        if self.writer.is_rejected() {
            if self.successor_requests > self.schedule.successor_tries {
                // There is no successor, and perhaps the upstream was wrong: try it again as a new token.
                grant.lifetime = remaining;
                self.serve_new(&grant, requested).await;
            } else {
                self.await_successor(requested, true).await;
            }
        } else if remaining.is_zero() {
            self.await_successor(requested, false).await;
        } else {
            self.reporter.repeated(remaining);
            self.successor_requests = 0;
            let refresh = self.schedule.refresh_repeated_after(remaining, fastrand::f64());
            self.serve(token.repeated(requested, remaining), requested, refresh)
                .await;
        }
    }

    async fn serve_new(&mut self, grant: &Grant, requested: Moment) {
        self.serial += 1;
        let token = AccessToken::new(grant, requested, self.serial);
        let refresh = self.schedule.refresh_after(grant.lifetime, fastrand::f64());
        self.serve(token, requested, refresh).await;
    }

    /// Stores a token, and rests until its refresh is due or it is invalidated.
    async fn serve(&mut self, token: AccessToken, requested: Moment, refresh_after: Duration) {
        self.failures = 0;
        let refresh = requested.after(refresh_after);
        let expires = token.expires.monotonic;
        self.writer.store(token);
        if self.short_lived > 1 {
            // After short-lived tokens, the error stays published until this one has lived longer.
            self.publish(Some(refresh.monotonic), |status| status.is_resting = true);
            let proven = requested.after(refresh_after.min(YOUNG));
            if self.is_invalidated_before(proven).await {
                return self.replace(requested).await;
            }
            self.short_lived = 0;
        }
        self.publish(Some(refresh.monotonic), |status| {
            status.is_resting = true;
            status.last_error = None;
        });
        if self.is_invalidated_before(refresh).await {
            // A repeated token is served until its end.
            let now = self.writer.clock().now().monotonic;
            let was_due = refresh.monotonic >= expires && now >= expires;
            if !was_due || self.writer.is_rejected() {
                return self.replace(requested).await;
            }
        }
        self.short_lived = 0;
    }

    async fn is_invalidated_before(&self, at: Moment) -> bool {
        tokio::select! {
            biased;
            () = self.writer.invalidated() => true,
            () = self.writer.clock().reached(at) => false,
        }
    }

    /// Waits for the successor of a token that the identity service returned although it has expired or was rejected:
    /// a moment for the first times, then as after any failure.
    async fn await_successor(&mut self, requested: Moment, is_rejected: bool) {
        if self.successor_requests < self.schedule.successor_tries {
            self.successor_requests += 1;
            self.failures = 0;
            let wait = self.schedule.wait_for_successor(fastrand::f64());
            let next = self.writer.clock().now().monotonic + wait;
            self.publish(Some(next), |status| status.may_succeed_soon = true);
            self.writer.clock().sleep_until(next).await;
        } else if is_rejected {
            self.successor_requests += 1;
            self.short_lived = self.short_lived.max(1);
            self.replace(requested).await;
        } else {
            let message =
                "the identity service returns an expired token (expires_in is under 1) and no successor";
            let error = FetchErrorKind::Malformed.error(message);
            self.back_off(&error).await;
        }
    }

    /// Prepares to replace an invalidated token: at once, but not in a loop.
    async fn replace(&mut self, requested: Moment) {
        let now = self.writer.clock().now();
        let age = now.monotonic.saturating_duration_since(requested.monotonic);
        self.short_lived = if age <= YOUNG { self.short_lived + 1 } else { 1 };
        let wait = self
            .schedule
            .wait_after_short_lived(self.short_lived, fastrand::f64());
        if wait.is_zero() {
            return;
        }
        let error = if self.writer.is_rejected() {
            FetchErrorKind::Rejected.error(NEW_TOKENS_REJECTED)
        } else {
            FetchErrorKind::Clock.error(NEW_TOKENS_EXPIRED)
        };
        let next = now.monotonic + wait;
        self.publish_failure(&error, now.wall, next);
        self.writer.clock().sleep_until(next).await;
    }

    /// Waits after a failed fetch: until the next attempt is due or, after a misconfiguration, the credentials change.
    async fn back_off(&mut self, error: &FetchError) {
        self.failures += 1;
        let clock = self.writer.clock();
        let failed = clock.now();
        let valid = self.writer.newest().filter(|_| !self.writer.is_rejected());
        let remaining = valid.map_or(Duration::ZERO, |token| token.remaining(failed));
        let mut has_token = !remaining.is_zero();
        let mut next = failed.monotonic + self.wait_after(error, remaining);
        // Credentials that keep changing must not cause a failed login each time.
        let pause = self
            .schedule
            .wait_after_short_lived(self.credential_changes + 1, fastrand::f64());
        loop {
            self.publish_failure(error, failed.wall, next);
            let changed = async {
                clock.sleep_until(failed.monotonic + pause).await;
                self.source.changed().await;
            };
            tokio::select! {
                () = clock.sleep_until(next) => {
                    self.credential_changes = 0;
                    return;
                }
                () = changed, if error.kind.is_misconfiguration() => {
                    self.credential_changes += 1;
                    self.failures = 0;
                    self.reporter.credentials_changed();
                    return self.reporter.publish(&self.writer, |status| status.last_error = None);
                }
                // From now on, the shorter waits without a valid token apply.
                () = self.writer.invalidated(), if has_token => {
                    has_token = false;
                    next = next.min(clock.now().monotonic + self.wait_after(error, Duration::ZERO));
                }
            }
        }
    }

    fn wait_after(&self, error: &FetchError, remaining: Duration) -> Duration {
        let random = fastrand::f64();
        if error.kind.is_misconfiguration() {
            self.schedule.wait_after_refusal(random)
        } else {
            self.schedule
                .wait_after_failure(self.failures, remaining, error.retry_after, random)
        }
    }

    fn publish_failure(&self, error: &FetchError, at: SystemTime, next: Instant) {
        self.publish(Some(next), |status| status.last_error = Some((error.clone(), at)));
    }

    fn publish(&self, next_attempt: Option<Instant>, change: impl FnOnce(&mut TokenStatus)) {
        self.reporter.publish(&self.writer, |status| {
            status.next_attempt = next_attempt;
            status.is_resting = false;
            status.may_succeed_soon = false;
            change(status);
        });
    }
}

#[cfg(test)]
mod tests;
