//! The task that keeps one upstream's token fresh, for as long as the daemon runs.
//!
//! A failed fetch never replaces a good token, and never ends the task. There is one task, so there
//! is never more than one token request in flight.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::AccessToken;
use super::cell::{LastError, TokenState, TokenStatus, TokenWriter};
use super::response::{FetchError, FetchErrorKind, Grant};
use super::schedule::Schedule;
use crate::telemetry::metrics::UpstreamMetrics;

/// Where tokens come from.
pub trait TokenSource {
    /// Asks for a token once.
    fn fetch(&self) -> impl Future<Output = Result<Grant, FetchError>> + Send;
}

/// Keeps one token fresh.
pub struct Refresher<S> {
    upstream: String,
    source: S,
    writer: TokenWriter,
    schedule: Schedule,
    metrics: UpstreamMetrics,
}

/// Tokens that are refused this soon after they were fetched say that a new one will not help.
const REFUSED_YOUNG: Duration = Duration::from_secs(10);

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
            upstream: upstream.to_owned(),
            source,
            writer,
            schedule,
            metrics,
        }
    }

    /// Fetches, sleeps, and fetches again; never ends.
    pub async fn run(self) {
        let mut failures = 0;
        let mut refusals = 0;
        let mut serial = 0;
        loop {
            self.tell(&State::Fetching { failures }, None, None);
            let (asked, asked_wall) = (Instant::now(), SystemTime::now());
            match self.source.fetch().await {
                Ok(grant) => {
                    self.metrics.token_request("ok");
                    serial += 1;
                    failures = 0;
                    let token = AccessToken::new(&grant, asked, asked_wall, serial);
                    self.writer.store(token);
                    let at = asked + self.schedule.refresh_after(grant.lifetime, fastrand::f64());
                    self.tell(&State::Resting, Some(at), None);
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => refusals = 0,
                        () = self.writer.spent() => {
                            let is_refused_young = self.has_token() && asked.elapsed() < REFUSED_YOUNG;
                            refusals = if is_refused_young { refusals + 1 } else { 0 };
                            self.rest_after_refusals(refusals).await;
                        }
                    }
                }
                Err(error) => {
                    self.metrics.token_request(error.kind.name());
                    failures += 1;
                    let wait = self.wait_after(&error, failures);
                    self.tell(&State::Failed, Some(Instant::now() + wait), Some(error));
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn wait_after(&self, error: &FetchError, failures: u32) -> Duration {
        match error.kind {
            FetchErrorKind::Refused => self.schedule.wait_after_refusal(fastrand::f64()),
            FetchErrorKind::Secret => self.schedule.secret_wait,
            _ => self.schedule.wait_after_failure(
                failures,
                self.has_token(),
                error.retry_after,
                fastrand::f64(),
            ),
        }
    }

    /// A fresh token that the upstream refuses at once must not make a loop of fetches: the first is
    /// replaced at once, further ones in a row after growing waits.
    async fn rest_after_refusals(&self, refusals: u32) {
        if refusals < 2 {
            return;
        }
        let wait = self
            .schedule
            .wait_after_failure(refusals - 1, true, None, fastrand::f64());
        let message =
            "the upstream refuses tokens that were just issued; check that the credentials are meant for it";
        let error = FetchError::new(FetchErrorKind::Rejected, message);
        self.tell(&State::Failed, Some(Instant::now() + wait), Some(error));
        tokio::time::sleep(wait).await;
    }

    fn has_token(&self) -> bool {
        self.writer.newest().is_some_and(|token| !token.is_expired())
    }

    /// Notes what the task does now, and logs it where the state is another than before.
    fn tell(&self, doing: &State, next_attempt: Option<Instant>, error: Option<FetchError>) {
        let before = self.writer.told();
        let newest = self.writer.newest();
        let last_error = match (doing, error) {
            (State::Resting, _) => None,
            (_, Some(error)) => Some(LastError {
                kind: error.kind,
                message: error.message,
                at: SystemTime::now(),
            }),
            _ => before.last_error.clone(),
        };
        let state = match doing {
            State::Resting => TokenState::Fresh,
            State::Fetching { failures: 0 } if newest.is_some() => TokenState::Refreshing,
            State::Fetching { failures: 0 } => TokenState::Starting,
            State::Fetching { .. } => before.state,
            State::Failed
                if last_error
                    .as_ref()
                    .is_some_and(|error| error.kind.is_misconfiguration()) =>
            {
                TokenState::Misconfigured
            }
            State::Failed if self.has_token() => TokenState::Degraded,
            State::Failed => TokenState::Expired,
        };
        let expires = newest.as_ref().map(|token| token.expires_wall());
        let is_hopeful = matches!(doing, State::Fetching { failures: 0 });
        let since = if state == before.state {
            before.since
        } else {
            SystemTime::now()
        };
        let is_news = state != before.state
            || last_error.as_ref().map(|error| &error.message)
                != before.last_error.as_ref().map(|error| &error.message);
        let status = TokenStatus {
            state,
            since,
            last_error,
            next_attempt,
            expires,
            is_hopeful,
        };
        self.count(&status);
        if is_news {
            self.log(&status, before.state);
        }
        self.writer.tell(status);
    }

    fn count(&self, status: &TokenStatus) {
        self.metrics.token_state(status.state.name(), &TokenState::NAMES);
        if let Some(since_1970) = status.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            self.metrics.token_expiry(since_1970.as_secs_f64());
        }
    }

    fn log(&self, status: &TokenStatus, before: TokenState) {
        let (upstream, state) = (self.upstream.as_str(), status.state.name());
        let next = status
            .next_attempt
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs());
        match (&status.last_error, status.state) {
            (Some(error), TokenState::Degraded) => {
                tracing::warn!(
                    upstream,
                    state,
                    kind = error.kind.name(),
                    next_try_s = next,
                    "cannot refresh the token, the old one still serves: {}",
                    error.message
                );
            }
            (Some(error), _) => {
                tracing::error!(
                    upstream,
                    state,
                    kind = error.kind.name(),
                    next_try_s = next,
                    "no token: {}",
                    error.message
                );
            }
            (None, TokenState::Fresh) => {
                let lifetime_s = self.writer.newest().map(|token| token.lifetime().as_secs());
                if matches!(before, TokenState::Refreshing) {
                    tracing::debug!(
                        upstream,
                        state,
                        lifetime_s,
                        next_refresh_s = next,
                        "the token is refreshed"
                    );
                } else {
                    tracing::info!(
                        upstream,
                        state,
                        lifetime_s,
                        next_refresh_s = next,
                        "there is a token"
                    );
                }
            }
            (None, _) => tracing::debug!(upstream, state, "fetching a token"),
        }
    }
}

enum State {
    Fetching { failures: u32 },
    Resting,
    Failed,
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::token::{TokenReader, cell};

    /// Answers from a list, the last one for ever, and notes when it was asked.
    #[derive(Clone)]
    struct Script {
        answers: Arc<Mutex<VecDeque<Result<u64, FetchErrorKind>>>>,
        asked: Arc<Mutex<Vec<Duration>>>,
        began: Instant,
    }

    impl TokenSource for Script {
        async fn fetch(&self) -> Result<Grant, FetchError> {
            self.asked.lock().unwrap().push(self.began.elapsed());
            let mut answers = self.answers.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.pop_front()
            } else {
                answers.front().copied()
            };
            match answer.unwrap() {
                Ok(seconds) => Ok(Grant::for_tests("t", Duration::from_secs(seconds))),
                Err(kind) => Err(FetchError::new(kind, "scripted")),
            }
        }
    }

    fn start(answers: &[Result<u64, FetchErrorKind>]) -> (Script, TokenReader) {
        let script = Script {
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
            asked: Arc::default(),
            began: Instant::now(),
        };
        let (writer, reader) = cell();
        let metrics = Metrics::new().upstream("test");
        tokio::spawn(Refresher::new("test", script.clone(), writer, Schedule::default(), metrics).run());
        (script, reader)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_refreshed_at_about_half_of_its_lifetime() {
        let (script, reader) = start(&[Ok(3600)]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(reader.status().state, TokenState::Fresh);
        tokio::time::sleep(Duration::from_secs(36_000)).await;
        let asked = script.asked.lock().unwrap().clone();
        assert!((19..=23).contains(&asked.len()), "{asked:?}");
        assert!(
            asked
                .windows(2)
                .all(|pair| (1600..2000).contains(&(pair[1].saturating_sub(pair[0])).as_secs()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_refresh_leaves_the_good_token_in_force() {
        let (_, reader) = start(&[Ok(100), Err(FetchErrorKind::Unavailable)]);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(reader.status().state, TokenState::Degraded);
        assert!(reader.current().is_some());
        tokio::time::sleep(Duration::from_secs(80)).await;
        assert_eq!(reader.status().state, TokenState::Expired);
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_with_growing_waits() {
        let (script, reader) = start(&[Err(FetchErrorKind::Network)]);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let asked = script.asked.lock().unwrap().clone();
        assert!(asked[1].saturating_sub(asked[0]) <= Duration::from_secs(1));
        let longest = asked
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .max()
            .unwrap();
        assert!(
            longest > Duration::from_secs(4) && longest <= Duration::from_secs(10),
            "{longest:?}"
        );
        assert!(
            reader.wait(Duration::from_secs(2)).await.unwrap_err().retry_after <= Duration::from_secs(11)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_are_tried_every_30_to_60_seconds() {
        let (script, reader) = start(&[Err(FetchErrorKind::Refused)]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(reader.status().state, TokenState::Misconfigured);
        let asked = script.asked.lock().unwrap().clone();
        assert!(
            asked
                .windows(2)
                .all(|pair| (30..=60).contains(&(pair[1].saturating_sub(pair[0])).as_secs())),
            "{asked:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_refusals_of_one_token_are_one_refresh() {
        let (script, reader) = start(&[Ok(3600)]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let token = reader.current().unwrap();
        for _ in 0..1000 {
            reader.reject(&token);
        }
        let newer = reader.newer(&token, Duration::from_secs(2)).await.unwrap();
        assert_eq!((newer.serial(), script.asked.lock().unwrap().len()), (2, 2));
        reader.reject(&token);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(script.asked.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_token_that_is_refused_at_once_makes_no_loop() {
        let (script, reader) = start(&[Ok(3600)]);
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(token) = reader.current() {
                reader.reject(&token);
            }
        }
        let asked = script.asked.lock().unwrap().len();
        assert!(asked < 12, "{asked} fetches in a minute");
    }
}
