//! The task that keeps one upstream's token fresh, for as long as the daemon runs.
//!
//! It fetches in sequence: at most one token request is in flight, and a fetch that began with an older secret ends
//! before one with a newer secret begins. A failed fetch never replaces a valid token and never ends the task.

mod report;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::access_token::AccessToken;
use super::cell::{TokenCell, TokenReader};
use super::clock::{Clock, Moment};
use super::failure::{FetchError, FetchErrorKind};
use super::response::Grant;
use super::schedule;
use super::status::TokenStatus;
use crate::problems::api::rejects_token;
use crate::problems::token as problems;
use crate::telemetry::metrics::UpstreamMetrics;

/// Where tokens come from.
pub trait TokenSource {
    /// Requests a token once; always ends.
    fn fetch(&self) -> impl Future<Output = Result<Grant, FetchError>> + Send;

    /// Resolves when the credentials differ from those of the last fetch. Cancel safe.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Reads the credentials. Returns whether they differ from those of the last fetch, or why they cannot be used.
    fn check(&self) -> impl Future<Output = Result<bool, FetchError>> + Send;
}

/// Keeps one token fresh.
pub struct Refresher<S> {
    source: S,
    cell: Arc<TokenCell>,
    status: watch::Sender<TokenStatus>,
    upstream: String,
    metrics: UpstreamMetrics,
    /// How far the identity service's clock was ahead of ours at its last reply, in seconds.
    skew_s: Option<i64>,
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
/// How often the credentials are read while a token is valid.
const CHECK_EVERY: Duration = Duration::from_secs(15);

impl<S: TokenSource> Refresher<S> {
    /// The reader of an upstream's token, and the refresher that fetches it once it [runs](Self::run). The token of a
    /// `previous` reader serves until the first fetch succeeds.
    pub fn new(
        upstream: &str,
        source: S,
        clock: Clock,
        metrics: UpstreamMetrics,
        previous: Option<&TokenReader>,
    ) -> (TokenReader, Self) {
        let (sender, status) = watch::channel(TokenStatus::new(clock.now().wall));
        let cell = TokenCell::new(clock, previous);
        let refresher = Self {
            source,
            cell: cell.clone(),
            status: sender,
            upstream: upstream.to_owned(),
            metrics,
            skew_s: None,
            failures: 0,
            short_lived: 0,
            credential_changes: 0,
            successor_requests: 0,
        };
        (TokenReader { cell, status }, refresher)
    }

    /// Fetches, rests and fetches again; never ends.
    pub async fn run(mut self) {
        loop {
            let requested = self.cell.clock.now();
            let fetched = self.fetch().await;
            self.record(&fetched);
            match fetched {
                Ok(grant) => self.accept(grant, requested).await,
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        let may_succeed_soon = self.failures == 0;
        let publish = || {
            self.publish(None, |status| {
                status.may_succeed_soon = may_succeed_soon;
                // This fetch reads the credentials again.
                status.warning = None;
            });
        };
        publish();
        let fetching = self.source.fetch();
        tokio::pin!(fetching);
        tokio::select! {
            fetched = &mut fetching => fetched,
            () = self.cell.invalidated() => {
                publish();
                fetching.await
            }
        }
    }

    /// Serves a new token or a repeated one, or waits for a successor: some identity services return the same token
    /// until it expires.
    async fn accept(&mut self, grant: Grant, requested: Moment) {
        self.credential_changes = 0;
        let newest = self.cell.newest();
        let serial = newest.as_ref().map_or(1, |newest| newest.serial + 1);
        let repeated = newest.filter(|newest| newest.authorization() == grant.authorization);
        let known = repeated.as_ref().map(|token| token.monotonic_left(requested));
        let lifetime = schedule::remaining(grant.lifetime, known);
        let is_rejected = repeated.is_some() && self.cell.is_rejected();
        if lifetime.is_zero() || is_rejected {
            if self.successor_requests < schedule::SUCCESSOR_TRIES {
                return self.await_successor().await;
            }
            if lifetime.is_zero() {
                let error = match repeated {
                    Some(_) => FetchErrorKind::Malformed.error(problems::no_successor()),
                    None => FetchErrorKind::Clock.error(problems::lifetime_short(0)),
                };
                return self.back_off(&error).await;
            }
            if self.successor_requests == schedule::SUCCESSOR_TRIES {
                self.successor_requests += 1;
                self.short_lived = self.short_lived.max(1);
                return self.replace(requested).await;
            }
        }
        let random = fastrand::f64();
        let (token, refresh) = match repeated {
            Some(token) if !is_rejected => {
                let refresh = schedule::refresh_repeated_after(lifetime, random);
                (token.repeated(requested, lifetime), refresh)
            }
            // The rejected token has no successor, and perhaps the upstream was wrong: try it again as a new one.
            _ => {
                let token = AccessToken::new(&Grant { lifetime, ..grant }, requested, serial);
                (token, schedule::refresh_after(lifetime, random))
            }
        };
        if !is_rejected {
            self.successor_requests = 0;
        }
        self.serve(token, requested, refresh).await;
    }

    /// Stores a token, and rests until its refresh is due or it is invalidated.
    async fn serve(&mut self, token: AccessToken, requested: Moment, refresh_after: Duration) {
        self.failures = 0;
        let refresh = requested.after(refresh_after);
        let expires = token.expires.monotonic;
        // A first token may be an older one of an identity service that reuses tokens.
        let is_short = token.serial > 1 && token.lifetime < schedule::SHORT_LIFETIME;
        let short = is_short.then(|| {
            let problem = problems::lifetime_short(token.lifetime.as_secs());
            (FetchErrorKind::Clock.error(problem), requested.wall)
        });
        self.cell.store(token);
        if self.short_lived > 1 {
            // After short-lived tokens, that error stays published until this one has lived longer; a failed fetch since
            // then is over.
            self.publish(Some(refresh.monotonic), |status| {
                status.is_resting = true;
                status
                    .last_error
                    .take_if(|(error, _)| !error.kind.concerns_tokens());
            });
            let proven = requested.after(refresh_after.min(YOUNG));
            if self.is_invalidated_before(proven).await {
                return self.replace(requested).await;
            }
            self.short_lived = 0;
        }
        self.publish(Some(refresh.monotonic), |status| {
            status.is_resting = true;
            // A short lifetime is no failed fetch: requests that find the token expired wait for the next one.
            status.may_succeed_soon = short.is_some();
            status.last_error = short;
            status.warning = None;
        });
        if self.is_invalidated_before(refresh).await {
            // A repeated token is served until its end.
            let now = self.cell.clock.now().monotonic;
            let was_due = refresh.monotonic >= expires && now >= expires;
            if !was_due || self.cell.is_rejected() {
                return self.replace(requested).await;
            }
        }
        self.short_lived = 0;
    }

    /// Changed credentials end the wait early.
    async fn is_invalidated_before(&self, at: Moment) -> bool {
        loop {
            let next_check = self.cell.clock.now().monotonic + CHECK_EVERY;
            let check = async {
                self.cell.clock.sleep_until(next_check).await;
                self.source.check().await
            };
            tokio::select! {
                biased;
                () = self.cell.invalidated() => return true,
                () = self.cell.clock.reached(at) => return false,
                checked = check => match checked {
                    Ok(true) => {
                        tracing::info!(upstream = self.upstream, "credentials changed, fetching a token");
                        return false;
                    }
                    Ok(false) => self.warn(None),
                    Err(error) => self.warn(Some(error.problem)),
                },
            }
        }
    }

    /// Waits a moment for the successor of a token that the identity service returned although it has expired or was
    /// rejected.
    async fn await_successor(&mut self) {
        self.successor_requests += 1;
        self.failures = 0;
        let wait = schedule::wait_for_successor(fastrand::f64());
        let next = self.cell.clock.now().monotonic + wait;
        self.publish(Some(next), |status| status.may_succeed_soon = true);
        self.cell.clock.sleep_until(next).await;
    }

    /// Prepares to replace an invalidated token: at once, but not in a loop.
    async fn replace(&mut self, requested: Moment) {
        let now = self.cell.clock.now();
        let age = now.monotonic.saturating_duration_since(requested.monotonic);
        self.short_lived = if age <= YOUNG { self.short_lived + 1 } else { 1 };
        let wait = schedule::wait_after_short_lived(self.short_lived, fastrand::f64());
        if wait.is_zero() {
            return;
        }
        let error = if self.cell.is_rejected() {
            FetchErrorKind::Rejected.error(rejects_token("the API"))
        } else {
            FetchErrorKind::Clock.error(problems::tokens_expire_at_once())
        };
        let next = now.monotonic + wait;
        self.publish_failure(&error, now.wall, next);
        self.cell.clock.sleep_until(next).await;
    }

    /// Waits after a failed fetch: until the next attempt is due or, after a misconfiguration, the credentials change.
    async fn back_off(&mut self, error: &FetchError) {
        self.failures += 1;
        let (clock, failures) = (&self.cell.clock, self.failures);
        let failed = clock.now();
        let remaining = self.cell.remaining();
        let mut has_token = !remaining.is_zero();
        let wait = |remaining| {
            if error.kind.is_misconfiguration() {
                return schedule::wait_after_refusal(fastrand::f64());
            }
            schedule::wait_after_failure(failures, remaining, error.retry_after, fastrand::f64())
        };
        let mut next = failed.monotonic + wait(remaining);
        // Credentials that keep changing must not cause a failed login each time.
        let pause = schedule::wait_after_short_lived(self.credential_changes + 1, fastrand::f64());
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
                    tracing::info!(upstream = self.upstream, "credentials changed, fetching a token");
                    return self.publish(None, |status| status.last_error = None);
                }
                // From now on, the shorter waits without a valid token apply.
                () = self.cell.invalidated(), if has_token => {
                    has_token = false;
                    next = next.min(clock.now().monotonic + wait(Duration::ZERO));
                }
            }
        }
    }

    fn publish_failure(&self, error: &FetchError, at: SystemTime, next: Instant) {
        let error = (error.clone(), at);
        self.publish(Some(next), |status| {
            status.last_error = Some(error);
            status.warning = None;
        });
    }
}

#[cfg(test)]
mod tests;
