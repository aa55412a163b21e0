//! An identity service that returns the same token until it expires.

use super::*;

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
