//! The refresher on a paused clock, with scripted token sources.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::problems::Problem;
use crate::telemetry::metrics::Metrics;
use crate::token::TokenState;

/// Responds from a list, the last entry for ever, and records the time of each request.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result<u64, FetchErrorKind>>>>,
    requests: Arc<Mutex<Vec<Duration>>>,
    began: Instant,
    /// What reading the credentials finds, one after the other.
    checks: Arc<Mutex<VecDeque<Result<bool, FetchError>>>>,
    /// Notified when the credentials change.
    changed: Arc<Notify>,
    /// How long a response takes.
    slow: Duration,
}

impl TokenSource for Script {
    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn check(&self) -> Result<bool, FetchError> {
        self.checks.lock().unwrap().pop_front().unwrap_or(Ok(false))
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        self.requests.lock().unwrap().push(self.began.elapsed());
        tokio::time::sleep(self.slow).await;
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().copied()
        };
        match answer.unwrap() {
            // Each token differs.
            Ok(seconds) => {
                let token = format!("t{}", self.requests().len());
                Ok(Grant::for_tests(&token, Duration::from_secs(seconds)))
            }
            Err(kind) => Err(kind.error(problems::cut_short("scripted"))),
        }
    }
}

impl Script {
    fn requests(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().clone()
    }

    /// The waits between one fetch and the next.
    fn waits(&self) -> Vec<Duration> {
        let requests = self.requests();
        requests
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .collect()
    }
}

fn start(answers: &[Result<u64, FetchErrorKind>]) -> (Script, TokenReader) {
    start_with(answers, Clock::faster(1), Duration::ZERO)
}

fn start_with(
    answers: &[Result<u64, FetchErrorKind>],
    clock: Clock,
    slow: Duration,
) -> (Script, TokenReader) {
    let script = Script {
        answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        requests: Arc::default(),
        began: Instant::now(),
        checks: Arc::default(),
        changed: Arc::default(),
        slow,
    };
    let reader = spawn(script.clone(), clock);
    (script, reader)
}

fn spawn(source: impl TokenSource + Send + Sync + 'static, clock: Clock) -> TokenReader {
    let metrics = Metrics::new().upstream("test");
    let (reader, refresher) = Refresher::new("test", source, clock, metrics, None);
    tokio::spawn(refresher.run());
    reader
}

const SECOND: Duration = Duration::from_secs(1);

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_at_about_half_of_its_lifetime() {
    let (script, reader) = start(&[Ok(3600)]);
    sleep(1).await;
    assert_eq!(reader.status().state, TokenState::Fresh);
    sleep(36_000).await;
    let waits = script.waits();
    assert!((18..=22).contains(&waits.len()), "{waits:?}");
    assert!(waits.iter().all(|wait| (1600..2000).contains(&wait.as_secs())));
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_the_valid_token() {
    let (_, reader) = start(&[Ok(100), Err(FetchErrorKind::Unavailable)]);
    sleep(90).await;
    assert_eq!(reader.status().state, TokenState::Degraded);
    assert!(reader.current().is_some());
    sleep(11).await;
    assert_eq!(reader.status().state, TokenState::Expired);
    assert!(reader.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_during_a_wait_or_a_fetch_is_reported_at_that_moment() {
    for slow in [Duration::ZERO, 20 * SECOND] {
        let (script, mut reader) =
            start_with(&[Ok(100), Err(FetchErrorKind::Timeout)], Clock::faster(1), slow);
        let expired = loop {
            reader.status.changed().await.unwrap();
            if let Some(token) = reader.current() {
                assert!(token.serial == 1);
            } else if reader.status().expires.is_some() {
                break Instant::now();
            }
        };
        assert_eq!(reader.status().state, TokenState::Expired);
        let late = expired - (script.began + 100 * SECOND);
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_retried_with_growing_waits() {
    let (script, reader) = start(&[Err(FetchErrorKind::Network)]);
    sleep(120).await;
    let waits = script.waits();
    assert!(waits[0] <= SECOND);
    let longest = waits.iter().max().unwrap();
    assert!(*longest > 4 * SECOND && *longest <= 10 * SECOND, "{waits:?}");
    let unavailable = reader.wait(2 * SECOND).await.unwrap_err();
    assert!(unavailable.retry_after <= 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn waits_are_at_most_a_minute_with_a_valid_token_and_ten_seconds_without() {
    let (script, _) = start(&[Ok(3600), Err(FetchErrorKind::Network)]);
    sleep(3600).await;
    let living = script.waits();
    assert!(living[1..].iter().any(|wait| *wait > 30 * SECOND), "{living:?}");
    assert!(living[1..].iter().all(|wait| *wait <= 60 * SECOND), "{living:?}");
    sleep(600).await;
    let over = &script.waits()[living.len() + 1..];
    assert!(
        over.len() > 50 && over.iter().all(|wait| *wait <= 10 * SECOND),
        "{over:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_rejected_while_fetches_fail_brings_the_next_attempt_forward() {
    let (script, mut reader) = start(&[Ok(86_400), Err(FetchErrorKind::Network)]);
    while script.requests().len() < 12 {
        reader.status.changed().await.unwrap();
    }
    while reader.status().next_attempt_in.is_none() {
        reader.status.changed().await.unwrap();
    }
    let before = reader.status().next_attempt_in.unwrap();
    assert!(before > 20 * SECOND, "{before:?}");
    reader.reject(&reader.current().unwrap());
    reader.status.changed().await.unwrap();
    let after = reader.status().next_attempt_in.unwrap();
    assert!(after <= 10 * SECOND, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_retried_every_30_to_60_seconds() {
    let (script, reader) = start(&[Err(FetchErrorKind::Refused)]);
    sleep(600).await;
    assert_eq!(reader.status().state, TokenState::Misconfigured);
    let waits = script.waits();
    assert!(
        waits.iter().all(|wait| (30..=60).contains(&wait.as_secs())),
        "{waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_retried_at_once_when_they_change() {
    let (script, reader) = start(&[Err(FetchErrorKind::Refused), Ok(3600)]);
    sleep(5).await;
    assert_eq!(reader.status().state, TokenState::Misconfigured);
    script.changed.notify_one();
    sleep(1).await;
    assert_eq!(reader.status().state, TokenState::Fresh);
    assert_eq!(script.waits(), [5 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_keep_changing_do_not_cause_a_login_each() {
    let (script, _) = start(&[Err(FetchErrorKind::Refused)]);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        script.changed.notify_one();
    }
    assert!(script.requests().len() < 15, "{:?}", script.requests());
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_during_failing_fetches_the_next_attempt_is_within_ten_seconds() {
    let clock = Clock::faster(1);
    let answers = [Ok(86_400), Err(FetchErrorKind::Network)];
    let (script, mut reader) = start_with(&answers, clock.clone(), Duration::ZERO);
    while script.requests().len() < 12 || reader.status().next_attempt_in.is_none() {
        reader.status.changed().await.unwrap();
    }
    clock.set_wall(Duration::from_secs(86_400), false);
    assert!(reader.wait(2 * SECOND).await.is_err());
    reader.status.changed().await.unwrap();
    let next = reader.status().next_attempt_in.unwrap();
    assert!(next <= 10 * SECOND, "{next:?}");
    assert_eq!(reader.status().state, TokenState::Expired);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_a_new_token_is_fetched_without_any_request() {
    let clock = Clock::faster(1);
    let (script, _reader) = start_with(&[Ok(3600)], clock.clone(), Duration::ZERO);
    for slept in [2000, 7200] {
        sleep(60).await;
        let before = script.requests().len();
        clock.set_wall(Duration::from_secs(slept), false);
        sleep(10).await;
        assert_eq!(
            script.requests().len(),
            before + 1,
            "half of its lifetime has passed, or all of it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn changed_credentials_do_not_shorten_the_wait_in_an_outage() {
    let (script, _) = start(&[Err(FetchErrorKind::Unavailable)]);
    script.changed.notify_one();
    sleep(60).await;
    assert!(script.requests().len() < 20, "{:?}", script.requests());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rejections_of_one_token_cause_one_refresh() {
    let (script, reader) = start(&[Ok(3600)]);
    sleep(60).await;
    let token = reader.current().unwrap();
    for _ in 0..1000 {
        reader.reject(&token);
    }
    let newer = reader.newer(&token, 2 * SECOND).await.unwrap();
    assert_eq!((newer.serial, script.requests().len()), (2, 2));
    reader.reject(&token);
    sleep(60).await;
    assert_eq!(script.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn new_tokens_that_are_rejected_at_once_cause_no_loop_and_the_reason_is_reported() {
    let (script, reader) = start(&[Ok(3600)]);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(token) = reader.current() {
            reader.reject(&token);
        }
    }
    let requests = script.requests().len();
    assert!(requests < 15, "{requests} fetches in a minute");
    let status = reader.status();
    assert_eq!(status.state, TokenState::Degraded);
    let (error, _) = status.last_error.unwrap();
    assert_eq!(error.kind, FetchErrorKind::Rejected);
    assert_eq!(error.problem.code(), "api-rejects-token");
    assert!(reader.are_rejected());

    // The upstream accepts it now.
    sleep(11 + YOUNG.as_secs()).await;
    assert_eq!(reader.status().state, TokenState::Fresh);
    assert!(reader.status().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_of_a_few_seconds_is_reported_until_tokens_live_longer() {
    let code = |reader: &TokenReader| reader.status().problem().map(Problem::code);
    for (lifetime, expected) in [
        (0, Some("token-lifetime-short")),
        (3, Some("token-lifetime-short")),
        (10, None),
    ] {
        let (_, reader) = start(&[Ok(lifetime), Ok(lifetime)]);
        sleep(10).await;
        assert_eq!(code(&reader), expected, "{lifetime}");
    }
    let (_, reader) = start(&[Ok(3), Ok(3), Ok(3600)]);
    sleep(2).await;
    assert_eq!(code(&reader), Some("token-lifetime-short"));
    assert!(reader.current().is_some());
    sleep(10).await;
    assert_eq!(code(&reader), None);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_costs_one_fetch_and_repeated_steps_cause_no_storm() {
    let clock = Clock::faster(1);
    let (script, reader) = start_with(&[Ok(3600)], clock.clone(), Duration::ZERO);
    let two_hours = Duration::from_secs(7200);
    sleep(100).await;
    for (back, fetches) in [(false, 2), (true, 2)] {
        clock.set_wall(two_hours, back);
        for _ in 0..100 {
            let token = reader.wait(2 * SECOND).await.unwrap();
            assert!(!token.is_expired(clock.now()));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(script.requests().len(), fetches);
    }
    for jump in 0..1200 {
        clock.set_wall(two_hours, jump % 2 == 1);
        let _ = reader.wait(2 * SECOND).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let requests = script.requests().len();
    assert!(requests < 20, "{requests} fetches in a minute of jumps");
}

/// An identity service that returns the same token until it expires, and records the time of each request.
#[derive(Clone)]
struct Repeating {
    lifetime: Duration,
    began: Instant,
    requests: Arc<Mutex<Vec<Duration>>>,
    /// How long after its lifetime a token is still returned.
    overtime: Duration,
}

impl TokenSource for Repeating {
    async fn check(&self) -> Result<bool, FetchError> {
        Ok(false)
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        let now = self.began.elapsed();
        self.requests.lock().unwrap().push(now);
        let period = self.lifetime + self.overtime;
        let number = now.as_millis() / period.as_millis();
        let age = Duration::from_millis(u64::try_from(now.as_millis() % period.as_millis()).unwrap());
        let left = self.lifetime.saturating_sub(age);
        // Cut to whole seconds.
        Ok(Grant::for_tests(
            &format!("t{number}"),
            Duration::from_secs(left.as_secs()),
        ))
    }
}

impl Repeating {
    fn start(lifetime: u64, overtime: Duration) -> (Self, TokenReader) {
        let source = Self {
            lifetime: Duration::from_secs(lifetime),
            began: Instant::now(),
            requests: Arc::default(),
            overtime,
        };
        let reader = spawn(source.clone(), Clock::faster(1));
        (source, reader)
    }

    /// The requests since the previous call of this.
    fn requests(&self) -> Vec<Duration> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_token_is_requested_again_at_its_expiry_and_not_before() {
    let (source, reader) = Repeating::start(40, Duration::ZERO);
    sleep(1).await;
    let first = reader.current().unwrap();
    sleep(38).await;
    let requests = source.requests();
    assert!(
        requests.len() == 2 && requests[1] >= 18 * SECOND && requests[1] <= 22 * SECOND,
        "{requests:?}"
    );
    assert_eq!(
        reader.current().unwrap().serial,
        first.serial,
        "it is the same one"
    );
    assert_eq!(reader.status().state, TokenState::Fresh);
    sleep(2).await;
    assert_eq!(source.requests()[0].as_secs(), 40);
    assert_eq!(reader.current().unwrap().serial, first.serial + 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_repeated_token_is_requested_at_halves_until_a_minute_is_left() {
    let (source, _reader) = Repeating::start(3600, Duration::ZERO);
    sleep(3599).await;
    let requests = source.requests();
    assert!((5..=9).contains(&requests.len()), "{requests:?}");
    assert!(*requests.last().unwrap() >= 3539 * SECOND, "{requests:?}");
    sleep(2).await;
    assert_eq!(source.requests().len(), 1, "and one at its end");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_successor_of_an_expired_token_which_is_requested_every_250_ms() {
    let (source, reader) = Repeating::start(12, SECOND / 2);
    let mut waited = Duration::ZERO;
    for _ in 0..600 {
        let began = Instant::now();
        let token = reader.wait(2 * SECOND).await.unwrap();
        waited = waited.max(began.elapsed());
        assert!(!token.is_expired(Clock::faster(1).now()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        waited >= SECOND / 2 && waited < Duration::from_millis(1800),
        "{waited:?}"
    );
    let requests = source.requests();
    assert!(requests.len() <= 5 * 8, "{} times in a minute", requests.len());
    let waits = requests.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    assert!(
        waits.into_iter().all(|wait| wait >= Duration::from_millis(225)),
        "{requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_successor_is_requested_eight_times_and_then_as_after_failures() {
    let (source, reader) = Repeating::start(40, 60 * SECOND);
    sleep(39).await;
    assert!(reader.current().is_some());
    source.requests();
    sleep(29).await;
    let requests = source.requests();
    let waits: Vec<_> = requests
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let quick = Duration::from_millis(225)..=Duration::from_millis(275);
    assert!(waits[..8].iter().all(|wait| quick.contains(wait)), "{waits:?}");
    assert!(
        waits[8..]
            .iter()
            .all(|wait| *wait >= 2 * quick.start().to_owned()),
        "{waits:?}"
    );
    assert!(requests.len() < 20, "{requests:?}");
    let (error, _) = reader.status().last_error.unwrap();
    assert_eq!(error.kind, FetchErrorKind::Malformed);
    assert_eq!(error.problem.code(), "token-not-renewed");

    sleep(45).await;
    assert_eq!(
        reader.status().state,
        TokenState::Fresh,
        "its successor came after all"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_that_is_returned_again_does_not_count_as_newer() {
    let (source, reader) = Repeating::start(40, Duration::ZERO);
    sleep(39).await;
    let first = reader.current().unwrap();
    reader.reject(&first);
    let newer = reader.newer(&first, 2 * SECOND).await.unwrap();
    assert_ne!(newer.authorization(), first.authorization());
    assert!(source.requests().len() <= 2 + 6);
    sleep(1).await;
    assert_eq!(reader.status().state, TokenState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_that_is_returned_repeatedly_causes_no_loop_and_the_reason_is_reported() {
    let (source, reader) = Repeating::start(86_400, Duration::ZERO);
    sleep(10).await;
    source.requests();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        reader.reject(&reader.current().unwrap());
    }
    let requests = source.requests();
    assert!((9..=25).contains(&requests.len()), "{requests:?}");
    let status = reader.status();
    assert_eq!(status.state, TokenState::Degraded);
    assert_eq!(status.last_error.unwrap().0.kind, FetchErrorKind::Rejected);

    // The upstream accepts it now.
    sleep(11 + YOUNG.as_secs()).await;
    assert_eq!(reader.status().state, TokenState::Fresh);
    assert!(reader.status().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn repeated_clock_steps_cause_no_storm_with_a_repeated_token() {
    let clock = Clock::faster(1);
    let source = Repeating {
        lifetime: Duration::from_secs(3600),
        began: Instant::now(),
        requests: Arc::default(),
        overtime: Duration::ZERO,
    };
    let reader = spawn(source.clone(), clock.clone());
    sleep(100).await;
    for jump in 0..1200 {
        clock.set_wall(Duration::from_secs(7200), jump % 2 == 1);
        let _ = reader.wait(2 * SECOND).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let requests = source.requests().len();
    assert!(requests < 20, "{requests} fetches in a minute of jumps");
    sleep(60).await;
    assert!(reader.current().is_some());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_be_read_are_a_warning_while_the_token_is_valid_and_changed_ones_are_used_at_once()
 {
    let (script, reader) = start(&[Ok(3600)]);
    reader.wait(Duration::from_secs(1)).await.unwrap();
    let gone = || FetchErrorKind::Secret.error(problems::credentials_hang());
    let check = async |found| {
        script.checks.lock().unwrap().push_back(found);
        tokio::time::sleep(CHECK_EVERY).await;
        tokio::task::yield_now().await;
        reader.status()
    };
    let status = check(Err(gone())).await;
    assert_eq!((status.state, status.problem()), (TokenState::Fresh, None));
    let (warning, since) = status.warning.unwrap();
    assert_eq!(warning.code(), gone().problem.code());
    assert_eq!(check(Err(gone())).await.warning.unwrap().1, since);
    assert!(reader.current().is_some());

    assert!(check(Ok(false)).await.warning.is_none());
    assert_eq!(script.requests().len(), 1);
    check(Ok(true)).await;
    assert_eq!(script.requests().len(), 2);
}

/// What is logged, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn corrected_credentials_end_the_warning_and_their_success_is_reported() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.with_ansi(false).finish());
    let (script, reader) = start(&[Ok(3600), Err(FetchErrorKind::Refused), Ok(3600)]);
    reader.wait(Duration::from_secs(1)).await.unwrap();
    let unusable = FetchErrorKind::Secret.error(problems::credentials_hang());
    script.checks.lock().unwrap().extend([Err(unusable), Ok(true)]);
    tokio::time::sleep(CHECK_EVERY * 2).await;
    sleep(1).await;
    assert_eq!(reader.status().state, TokenState::Misconfigured);
    script.changed.notify_one();
    sleep(2).await;
    assert_eq!(reader.status().state, TokenState::Fresh);

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let phrases = [
        "token acquired",
        "credentials cannot be used",
        "credentials changed",
        "token refresh failed",
        "credentials changed",
        "token acquired",
    ];
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), phrases.len(), "{log}");
    for (line, phrase) in lines.into_iter().zip(phrases) {
        assert!(line.contains(phrase), "{log}");
    }
}
