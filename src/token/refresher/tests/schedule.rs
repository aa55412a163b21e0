//! When a token is refreshed, after a success, a failure, a suspend and a step of the clock.

use super::*;

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
async fn a_request_that_finds_a_short_lived_token_expired_waits_for_its_successor() {
    let clock = Clock::faster(1);
    let (_, reader) = start_with(&[Ok(3)], clock.clone(), Duration::ZERO);
    sleep(2).await;
    assert_eq!(
        reader.status().problem().map(Problem::code),
        Some("token-lifetime-short")
    );
    clock.set_wall(Duration::from_secs(10), false);
    assert!(reader.current().is_none());
    assert!(reader.wait(SECOND).await.is_ok());
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
