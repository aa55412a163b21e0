//! The task that keeps one upstream's token fresh, for as long as the daemon runs.
//!
//! A failed fetch never replaces a good token, and never ends the task. There is one task and it fetches
//! in sequence, so there is never more than one token request in flight, and a fetch that was begun with
//! an older secret is over before one with a newer secret begins.

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::AccessToken;
use super::cell::TokenWriter;
use super::clock::Moment;
use super::failure::{FetchError, FetchErrorKind};
use super::reporter::Reporter;
use super::response::Grant;
use super::schedule::Schedule;
use crate::telemetry::metrics::UpstreamMetrics;

/// Where tokens come from.
pub trait TokenSource {
    /// Asks for a token once; always comes to an end.
    fn fetch(&self) -> impl Future<Output = Result<Grant, FetchError>> + Send;

    /// Resolves when there are other credentials than the last fetch had. Cancel safe.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// Keeps one token fresh.
pub struct Refresher<S> {
    source: S,
    writer: TokenWriter,
    schedule: Schedule,
    reporter: Reporter,
    /// How many tokens there were.
    serial: u64,
    /// Fetches that failed in a row.
    failures: u32,
    /// Tokens in a row that were of no use when they were young.
    useless: u32,
    /// Refusals in a row that were followed by other credentials.
    changes: u32,
    /// How often in a row a successor was awaited that was due in a moment.
    awaited: u32,
}

/// A token that is refused, or over, at this age or younger says that a new one may not help.
const YOUNG: Duration = Duration::from_secs(60);

impl<S: TokenSource> Refresher<S> {
    /// A refresher for an upstream; nothing is fetched before it runs.
    pub fn new(
        upstream: &str,
        source: S,
        writer: TokenWriter,
        schedule: Schedule,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            source,
            schedule,
            reporter: Reporter::new(upstream, metrics),
            // One that was adopted is older than what comes.
            serial: writer.newest().map_or(0, |adopted| adopted.serial()),
            writer,
            failures: 0,
            useless: 0,
            changes: 0,
            awaited: 0,
        }
    }

    /// Fetches, sleeps, and fetches again; never ends.
    pub async fn run(mut self) {
        loop {
            let asked = self.writer.clock().now();
            match self.fetch().await {
                Ok(grant) => self.take(grant, asked).await,
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        self.reporter.fetching(&self.writer, self.failures == 0);
        let fetching = self.source.fetch();
        tokio::pin!(fetching);
        let fetched = tokio::select! {
            fetched = &mut fetching => fetched,
            // The token that served meanwhile is of no more use: said once, and the fetch goes on.
            () = self.writer.spent() => {
                self.reporter.again(&self.writer);
                fetching.await
            }
        };
        let (outcome, server_time): (_, Option<SystemTime>) = match &fetched {
            Ok(grant) => ("ok", grant.server_time),
            Err(error) => (error.kind.name(), error.server_time),
        };
        self.reporter.fetched(outcome);
        if let Some(server_time) = server_time {
            self.reporter.skew(&self.writer, server_time);
        }
        fetched
    }

    /// Finds out what a token is that was fetched: a new one, or one that there was before, as identity services
    /// return it until it expires.
    async fn take(&mut self, mut grant: Grant, asked: Moment) {
        self.changes = 0;
        if grant.lifetime.is_zero() {
            return self.await_successor(asked, false).await;
        }
        let newest = self.writer.newest();
        let Some(token) = newest.filter(|newest| newest.authorization() == grant.authorization) else {
            self.awaited = 0;
            return self.serve(&grant, asked).await;
        };
        let known = token.left_by_monotonic(asked);
        grant.lifetime = self.schedule.left_of_repeated(grant.lifetime, known);
        if !self.writer.is_rejected() {
            self.keep(&token, grant.lifetime, asked).await;
        } else if self.awaited > self.schedule.successor_tries {
            // There is no other, and perhaps the upstream was wrong: it goes on trial.
            self.serve(&grant, asked).await;
        } else {
            self.await_successor(asked, true).await;
        }
    }

    /// Goes on with a token that the identity service returned again, and rests until its successor is due.
    async fn keep(&mut self, token: &AccessToken, left: Duration, asked: Moment) {
        if left.is_zero() {
            return self.await_successor(asked, false).await;
        }
        self.reporter.repeated(left);
        self.failures = 0;
        self.awaited = 0;
        self.writer.store(token.repeated(asked, left));
        let refresh = asked.after(self.schedule.refresh_repeated_after(left, fastrand::f64()));
        self.reporter.resting(&self.writer, refresh.monotonic);
        let clock = self.writer.clock();
        tokio::select! {
            biased;
            () = clock.reached(refresh) => self.useless = 0,
            // A request may have found it expired before this task did: that is its end, and no fault of it.
            () = self.writer.spent() => {
                if self.writer.is_rejected() || clock.now().monotonic < asked.monotonic + left {
                    self.replace(asked).await;
                }
            }
        }
    }

    /// Waits for the successor of a token that the identity service returned though it is over, or was refused: a
    /// moment each for the first times, and then as after any failure.
    async fn await_successor(&mut self, asked: Moment, is_refused: bool) {
        let clock = self.writer.clock();
        if self.awaited < self.schedule.successor_tries {
            self.awaited += 1;
            self.failures = 0;
            let wait = self.schedule.wait_for_successor(fastrand::f64());
            let next = clock.now().monotonic + wait;
            self.reporter.awaiting_successor(&self.writer, next);
            clock.sleep_until(next).await;
        } else if is_refused {
            self.awaited += 1;
            self.useless = self.useless.max(1);
            self.replace(asked).await;
        } else {
            let error = FetchError::new(
                FetchErrorKind::Malformed,
                "the identity service returns a token that is over (expires_in is under 1) and no successor",
            );
            self.back_off(&error).await;
        }
    }

    /// Puts a token in force, and rests until it is time for its successor.
    async fn serve(&mut self, grant: &Grant, asked: Moment) {
        self.serial += 1;
        self.failures = 0;
        self.writer.store(AccessToken::new(grant, asked, self.serial));
        let clock = self.writer.clock();
        let refresh = asked.after(self.schedule.refresh_after(grant.lifetime, fastrand::f64()));
        if self.useless > 1 {
            // One that follows useless ones has to show first that it is better.
            let proven = refresh.monotonic.min(asked.monotonic + YOUNG);
            self.reporter.on_trial(&self.writer, refresh.monotonic);
            tokio::select! {
                biased;
                () = self.writer.spent() => return self.replace(asked).await,
                () = clock.sleep_until(proven) => self.useless = 0,
            }
        }
        self.reporter.resting(&self.writer, refresh.monotonic);
        tokio::select! {
            biased;
            () = self.writer.spent() => self.replace(asked).await,
            () = clock.reached(refresh) => self.useless = 0,
        }
    }

    /// Ends the rest of a token before its time: at once, but not in a loop.
    async fn replace(&mut self, asked: Moment) {
        let clock = self.writer.clock();
        let age = clock.now().monotonic.saturating_duration_since(asked.monotonic);
        self.useless = if age <= YOUNG { self.useless + 1 } else { 1 };
        let wait = self.schedule.wait_after_useless(self.useless, fastrand::f64());
        if wait.is_zero() {
            return;
        }
        let error = if self.writer.is_rejected() {
            FetchError::new(
                FetchErrorKind::Rejected,
                "the upstream refuses tokens that were just issued; check that the credentials are meant for it",
            )
        } else {
            FetchError::new(
                FetchErrorKind::Clock,
                "tokens are over when they are hardly issued; check what sets this machine's clock, and whether the \
                 identity service takes longer than its tokens live",
            )
        };
        let now = clock.now();
        let next = now.monotonic + wait;
        self.reporter.backing_off(&self.writer, now.wall, next, &error);
        clock.sleep_until(next).await;
    }

    /// Rests after a failed fetch.
    async fn back_off(&mut self, error: &FetchError) {
        self.failures += 1;
        let clock = self.writer.clock();
        let failed = clock.now();
        let left = match self.writer.newest() {
            Some(token) if !self.writer.is_rejected() => token.left(failed),
            _ => Duration::ZERO,
        };
        let needs_mending = error.kind.is_misconfiguration();
        let mut next = failed.monotonic + self.wait_after(error, left);
        let mut is_known_spent = left.is_zero();
        // Credentials that change and change are no reason for a failed login each.
        let heeded = failed.monotonic
            + self
                .schedule
                .wait_after_useless(self.changes + 1, fastrand::f64());
        loop {
            self.reporter.backing_off(&self.writer, failed.wall, next, error);
            let changed = async {
                clock.sleep_until(heeded).await;
                self.source.changed().await;
            };
            tokio::select! {
                () = clock.sleep_until(next) => {
                    self.changes = 0;
                    return;
                }
                () = changed, if needs_mending => {
                    self.changes += 1;
                    self.failures = 0;
                    return self.reporter.credentials_changed(&self.writer);
                }
                // Now the waits of a daemon without a token are due.
                () = self.writer.spent(), if !is_known_spent => {
                    is_known_spent = true;
                    let wait = self.wait_after(error, Duration::ZERO);
                    next = next.min(clock.now().monotonic + wait);
                }
            }
        }
    }

    fn wait_after(&self, error: &FetchError, left: Duration) -> Duration {
        if error.kind.is_misconfiguration() {
            self.schedule.wait_after_refusal(fastrand::f64())
        } else {
            self.schedule
                .wait_after_failure(self.failures, left, error.retry_after, fastrand::f64())
        }
    }
}

#[cfg(test)]
mod tests;
