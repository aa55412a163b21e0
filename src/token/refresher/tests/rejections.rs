//! Tokens that the API rejects.

use super::*;

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
async fn a_failed_fetch_after_rejected_tokens_is_over_once_a_fetch_succeeds() {
    let (_script, mut reader) = start(&[Ok(3600), Ok(3600), Err(FetchErrorKind::Unavailable), Ok(3600)]);
    for serial in [1, 2] {
        while reader.current().is_none_or(|token| token.serial < serial) {
            reader.status.changed().await.unwrap();
        }
        reader.reject(&reader.current().unwrap());
    }
    while reader.status().error_kind() != Some(FetchErrorKind::Unavailable) {
        reader.status.changed().await.unwrap();
    }
    while reader.current().is_none_or(|token| token.serial < 3) {
        reader.status.changed().await.unwrap();
    }
    assert_eq!(reader.status().state, TokenState::Fresh);
    assert!(reader.has_accepted_token());
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
