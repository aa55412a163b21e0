//! The watch on the credentials.

use super::*;

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
async fn changed_credentials_do_not_shorten_the_wait_in_an_outage() {
    let (script, _) = start(&[Err(FetchErrorKind::Unavailable)]);
    script.changed.notify_one();
    sleep(60).await;
    assert!(script.requests().len() < 20, "{:?}", script.requests());
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
