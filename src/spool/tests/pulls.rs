//! Pulls that end before their response is stored.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

static IS_SENT: AtomicBool = AtomicBool::new(false);

#[tokio::test]
async fn a_pull_whose_caller_disconnected_before_it_was_sent_is_neither_sent_nor_reported() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let pull = |writer: PullWriter| async {
        IS_SENT.store(true, Ordering::Relaxed);
        writer.discard().await;
        Err("sent")
    };
    let mut taken = Box::pin(take_by(&spool, "caller", "/pull", pull));
    // The caller disconnects while the pull is written down.
    let is_written = || !names(&folder(directory.path(), "/pull")).is_empty();
    while !is_written() {
        assert!(futures_poll(&mut taken).await.is_pending());
        // Polled again only when nothing comes of this poll: a poll after the writing sends the pull.
        let since = std::time::Instant::now();
        while !is_written() && since.elapsed() < Duration::from_millis(500) {
            std::thread::yield_now();
        }
    }
    drop(taken);
    spool.settled().await;
    assert!(!IS_SENT.load(Ordering::Relaxed));
    assert_eq!(names(&folder(directory.path(), "/pull")), Vec::<String>::new());
    assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 0);
}

/// Polls a future once, and lets other tasks run.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    tokio::task::yield_now().await;
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test]
async fn a_pull_that_ends_without_an_outcome_is_reported_with_a_directory_and_without() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        let pull = |writer: PullWriter| async {
            drop(writer);
            Err("a bug")
        };
        assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
        assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 1);
    }
    assert_eq!(extensions(&folder(directory.path(), "/pull")), ["lost"]);
}

#[test]
fn a_pull_that_ends_while_its_message_is_completed_leaves_the_message_in_its_queue() {
    let directory = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let spool = open(&config(Some(directory.path())));
        let pull = |mut writer: PullWriter| async {
            writer.head(&head());
            writer.write(&Bytes::from_static(b"one")).await.unwrap();
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || receiver.recv());
            let mut finished = Box::pin(writer.finish(head()));
            assert!(futures_poll(&mut finished).await.is_pending());
            drop(finished);
            drop(writer);
            drop(sender);
            let _ = busy.await.unwrap();
            Err("ended")
        };
        assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
        assert_eq!(body(&delivery(take(&spool, "/pull", "two").await)), "one");
        assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 0);
    });
}

#[tokio::test]
async fn a_message_whose_writing_thread_panicked_is_reported_once_if_it_is_not_delivered_and_else_not() {
    for length in [1000, 700_001] {
        for (is_delivered, losses, left) in [(true, 0, vec![]), (false, 1, vec!["lost"])] {
            let directory = tempfile::tempdir().unwrap();
            let spool = open(&config(Some(directory.path())));
            let pull = move |mut writer: PullWriter| async move {
                writer.head(&head());
                writer.write(&Bytes::from(vec![b'x'; length])).await.unwrap();
                let written = writer.with_file(|_, _| -> std::io::Result<()> { panic!("a test") });
                let error = WriteError::Disk(written.await.unwrap_err());
                let (_, passing) = writer.pass_through(error).await.unwrap();
                passing.record(is_delivered).await;
                Err("passed through")
            };
            let taken = take_by(&spool, "caller", "/pull", pull).await;
            assert_eq!(taken.unwrap().err(), Some("passed through"));
            assert_eq!(succeed(&spool, "next").await, "next");
            assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), losses);
            assert_eq!(extensions(&folder(directory.path(), "/pull")), left);
        }
    }
}

#[tokio::test]
async fn the_file_of_a_lost_message_ends_with_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let pull = |writer: PullWriter| async {
        writer.lose("a test").await;
        Err("lost")
    };
    assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
    let folder = folder(directory.path(), "/pull");
    let file = std::fs::read(folder.join(&names(&folder)[0])).unwrap();
    assert!(file.ends_with(b"\"method\":\"GET\"}\n"), "{file:?}");
}

#[tokio::test]
async fn a_response_without_end_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let pull = |mut writer: PullWriter| async move {
        writer.head(&head());
        let piece = Bytes::from(vec![0; 100_000]);
        for count in 0.. {
            match writer.write(&piece).await {
                Ok(()) => assert!(count < 11),
                Err(WriteError::Endless) => break,
                Err(error) => panic!("{error}"),
            }
        }
        writer.lose("a test").await;
        Err("endless")
    };
    let taken = take_by(&spool, "caller", "/pull", pull).await;
    assert_eq!(taken.unwrap().err(), Some("endless"));
    assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 1);
}
