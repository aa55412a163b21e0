//! The spool alone, with pulls that bring what a test sets.

mod upkeep;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use http::response::Parts;
use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::runtime::Handle;

use super::store::Store;
use super::*;
use crate::config;
use crate::telemetry::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(directory: Option<&Path>) -> config::Spool {
    config::Spool {
        directory: directory.map(Path::to_owned),
        messages: 3,
        bytes: 1 << 20,
        memory: 1 << 20,
        keep: Duration::ZERO,
        keep_bytes: 1 << 20,
        settle: Duration::from_secs(4),
        pauses: vec![Duration::ZERO],
    }
}

fn open(config: &config::Spool) -> Spool {
    let spool = Spool::open(config, Metrics::new()).unwrap();
    spool.start(Handle::current());
    spool
}

fn queue(route: &str) -> QueueId {
    QueueId {
        authority: "stage.example".to_owned(),
        client_id: "id".to_owned(),
        route: route.to_owned(),
    }
}

fn head() -> Parts {
    http::Response::new(()).into_parts().0
}

/// A delivery, or what a pull brought in place of a message.
type Response = Result<Delivery, &'static str>;

/// A request whose pull brings this message.
async fn take(spool: &Spool, route: &str, message: &'static str) -> Result<Response, SpoolError> {
    take_as(spool, "caller", route, message).await
}

async fn take_as(
    spool: &Spool,
    caller: &str,
    route: &str,
    message: &'static str,
) -> Result<Response, SpoolError> {
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        writer
            .write(&Bytes::from_static(message.as_bytes()))
            .await
            .unwrap();
        Ok(writer.finish(head()).await.unwrap())
    };
    let taken = take_by(spool, caller, route, pull);
    tokio::time::timeout(PATIENCE, taken).await.unwrap()
}

/// A request that pulls by this function.
async fn take_by<F>(
    spool: &Spool,
    caller: &str,
    route: &str,
    pull: impl FnOnce(PullWriter) -> F + Send + 'static,
) -> Result<Response, SpoolError>
where
    F: Future<Output = Response> + Send,
{
    let respond = |taken| async {
        match taken {
            Taken::Message(delivery) => Ok(delivery),
            Taken::Pull(writer) => pull(*writer).await,
        }
    };
    spool
        .take(queue(route), &Method::GET, caller.into(), || true, respond)
        .await
}

fn delivery(taken: Result<Response, SpoolError>) -> Delivery {
    taken.unwrap().unwrap()
}

fn body(delivery: &Delivery) -> Bytes {
    let body = delivery.body().unwrap();
    assert!(body.file.is_none(), "it is small");
    body.rest
}

/// Stores a message that no caller took.
async fn hold(spool: &Spool, route: &str, message: &'static str) {
    drop(delivery(take(spool, route, message).await));
}

fn folder(directory: &Path, route: &str) -> PathBuf {
    directory.join(queue(route).folder())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "turn" && name != "retained")
        .collect();
    names.sort();
    names
}

fn extensions(folder: &Path) -> Vec<String> {
    let extension = |name: String| name.rsplit('.').next().unwrap().to_owned();
    let mut extensions: Vec<_> = names(folder).into_iter().map(extension).collect();
    extensions.sort();
    extensions
}

#[tokio::test]
async fn foreign_files_in_the_directory_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let folder = folder(directory.path(), "/pull");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir(folder.join("0000000000000001.0.msg")).unwrap();
    mkfifoat(CWD, folder.join("0000000000000002.0.msg"), Mode::RUSR).unwrap();
    symlink("/dev/zero", folder.join("0000000000000003.0.pull")).unwrap();
    for name in [
        "4.0.pull",
        "0000000000000005.00.pull",
        "18446744073709551615.0.msg",
    ] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let found = directory.path().join("lost+found");
    std::fs::create_dir(&found).unwrap();
    std::fs::write(found.join("0000000000000006.0.pull"), "").unwrap();
    let before = (names(&folder), names(&found));

    let spool = open(&config(Some(directory.path())));
    let began = std::time::Instant::now();
    assert_eq!(body(&delivery(take(&spool, "/pull", "one").await)), "one");
    assert!(began.elapsed() < Duration::from_secs(6), "nothing was waited for");
    let after: Vec<_> = names(&folder)
        .into_iter()
        .filter(|name| before.0.contains(name))
        .collect();
    assert_eq!((after, names(&found)), before);
}

#[tokio::test]
async fn a_file_that_was_moved_to_another_queue_is_not_delivered_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    hold(&spool, "/one", "one").await;
    spool.settled().await;
    hold(&spool, "/two", "two").await;
    spool.settled().await;
    let (one, two) = (folder(directory.path(), "/one"), folder(directory.path(), "/two"));
    let moved = &names(&one)[0];
    std::fs::rename(one.join(moved), two.join(moved)).unwrap();
    assert_eq!(body(&delivery(take(&spool, "/two", "three").await)), "two");
    assert_eq!(extensions(&two), ["bad", "msg"]);
}

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
async fn a_start_recovers_nothing_in_a_queue_that_another_process_has_locked() {
    let directory = tempfile::tempdir().unwrap();
    let other = Store::open(&config(Some(directory.path())), Metrics::new()).unwrap();
    let lock = other.lock_queue(&queue("/pull")).unwrap();
    assert!(lock.is_some());
    // As it is before the other process has locked it.
    std::fs::write(
        folder(directory.path(), "/pull").join("0000000000000001.0.pull"),
        "",
    )
    .unwrap();
    let lost = || {
        open(&config(Some(directory.path())))
            .shared
            .metrics
            .spool
            .perhaps_lost
            .get()
    };
    assert_eq!(lost(), 0);
    drop(lock);
    assert_eq!(lost(), 1);
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
                let (_, passing) = writer.pass_through(&error).unwrap();
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

#[tokio::test]
async fn a_message_that_the_disk_does_not_take_is_passed_through_whole_and_reported() {
    for length in [1000, 700_001] {
        let directory = tempfile::tempdir().unwrap();
        let spool = open(&config(Some(directory.path())));
        let (from, to) = (folder(directory.path(), "/pull"), directory.path().join("moved"));
        let pull = move |mut writer: PullWriter| async move {
            writer.head(&head());
            for piece in vec![b'x'; length].chunks(100_000) {
                writer.write(&Bytes::copy_from_slice(piece)).await.unwrap();
            }
            std::fs::rename(from, to).unwrap();
            let error = writer.finish(head()).await.err().unwrap();
            let (body, passing) = writer.pass_through(&error).unwrap();
            assert_eq!(body.length(), length as u64);
            let mut passed = Vec::new();
            if let Some((file, length)) = body.file {
                std::io::Read::read_to_end(&mut std::io::Read::take(file, length), &mut passed).unwrap();
            }
            passed.extend_from_slice(&body.rest);
            assert!(passed == vec![b'x'; length]);
            passing.record(true).await;
            Err("passed through")
        };
        let taken = take_by(&spool, "caller", "/pull", pull).await;
        assert_eq!(taken.unwrap().err(), Some("passed through"));
        let counts = &spool.shared.metrics.spool;
        assert_eq!((counts.passed_through.get(), counts.perhaps_lost.get()), (1, 0));
        assert!(
            spool.troubles()[0].contains("directory cannot be used"),
            "{:?}",
            spool.troubles()
        );
        succeed(&spool, "next").await;
        assert!(spool.troubles().is_empty());
    }
}

#[tokio::test]
async fn the_file_of_a_message_that_is_not_passed_through_to_its_end_is_kept_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let folder = folder(directory.path(), "/pull");
    let lost = || spool.shared.metrics.spool.perhaps_lost.get();
    for (outcome, left, losses) in [
        (Some(true), vec![], 0),
        (Some(false), vec!["lost"], 1),
        (None, vec!["lost", "lost"], 2),
    ] {
        let (sender, passing) = tokio::sync::oneshot::channel();
        let pull = move |mut writer: PullWriter| async move {
            writer.head(&head());
            writer.write(&Bytes::from(vec![b'x'; 300_000])).await.unwrap();
            let error = WriteError::Disk(std::io::ErrorKind::StorageFull.into());
            let (body, passing) = writer.pass_through(&error).unwrap();
            assert_eq!(body.length(), 300_000);
            let _ = sender.send(passing);
            Err("passed through")
        };
        assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
        let passing = passing.await.unwrap();
        passing.lease.set_on_connection(true);
        assert!(extensions(&folder).contains(&"pull".to_owned()));
        // The queue goes on while its caller reads.
        let began = std::time::Instant::now();
        assert_eq!(succeed(&spool, "next").await, "next");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "the file was not waited for"
        );
        match outcome {
            Some(is_delivered) => passing.record(is_delivered).await,
            None => drop(passing),
        }
        assert_eq!(succeed(&spool, "next").await, "next");
        assert_eq!(
            (extensions(&folder), lost()),
            (left.iter().map(ToString::to_string).collect(), losses)
        );
    }
}

#[tokio::test]
async fn a_message_whose_file_is_whole_but_could_not_be_renamed_is_redelivered_if_its_caller_fails() {
    for outcome in [Some(true), Some(false), None] {
        let directory = tempfile::tempdir().unwrap();
        let spool = open(&config(Some(directory.path())));
        let folder = folder(directory.path(), "/pull");
        let queue = folder.clone();
        let pull = move |mut writer: PullWriter| async move {
            writer.head(&head());
            writer.write(&Bytes::from_static(b"one")).await.unwrap();
            let in_its_place = queue.join(names(&queue)[0].replace("pull", "msg"));
            std::fs::create_dir(&in_its_place).unwrap();
            let error = writer.finish(head()).await.err().unwrap();
            std::fs::remove_dir(in_its_place).unwrap();
            let (_, passing) = writer.pass_through(&error).unwrap();
            match outcome {
                Some(is_delivered) => passing.record(is_delivered).await,
                None => drop(passing),
            }
            Err("passed through")
        };
        assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
        let next = delivery(take(&spool, "/pull", "two").await);
        let is_redelivered = outcome != Some(true);
        assert_eq!(body(&next), if is_redelivered { "one" } else { "two" });
        assert_eq!(next.redelivered().is_some(), is_redelivered);
        assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 0);
        assert_eq!(extensions(&folder), ["msg"]);
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_refuses_pulls_and_is_reported_until_it_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    std::fs::remove_dir(directory.path()).unwrap();
    std::fs::write(directory.path(), "no directory").unwrap();
    assert!(matches!(
        take(&spool, "/pull", "one").await,
        Err(SpoolError::Unusable(_))
    ));
    assert!(spool.troubles()[0].contains("directory cannot be used"));
    std::fs::remove_file(directory.path()).unwrap();
    std::fs::create_dir(directory.path()).unwrap();
    assert_eq!(succeed(&spool, "one").await, "one");
    assert!(spool.troubles().is_empty());
}

/// A delivery that fails. Returns the message.
async fn fail(spool: &Spool, message: &'static str) -> Bytes {
    deliver(spool, message, false).await
}

/// A delivery that succeeds. Returns the message.
async fn succeed(spool: &Spool, message: &'static str) -> Bytes {
    deliver(spool, message, true).await
}

async fn deliver(spool: &Spool, message: &'static str, is_delivered: bool) -> Bytes {
    let delivery = delivery(take(spool, "/pull", message).await);
    delivery.lease.set_on_connection(true);
    let got = body(&delivery);
    delivery.record(is_delivered).await;
    got
}

#[tokio::test]
async fn a_message_that_fails_five_times_is_a_dead_letter_once_the_next_one_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        for _ in 0..5 {
            assert_eq!(fail(&spool, "first").await, "first");
        }
        let before = spool.totals().await.unwrap();
        assert_eq!((before.messages, before.failing, before.set_aside), (1, 1, 0));
        assert_eq!(succeed(&spool, "second").await, "second");
        let after = spool.totals().await.unwrap();
        assert_eq!((after.messages, after.failing, after.set_aside), (0, 0, 1));
        assert_eq!(succeed(&spool, "third").await, "third");
        assert_eq!(spool.shared.metrics.spool.set_aside.get(), 1);
        assert!(spool.troubles().is_empty());
    }
}

#[tokio::test]
async fn a_caller_that_fails_with_the_next_message_too_is_reported_and_both_are_delivered_in_order() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        for _ in 0..5 {
            assert_eq!(fail(&spool, "first").await, "first");
        }
        assert_eq!(fail(&spool, "second").await, "second");
        assert!(spool.troubles()[0].contains("caller caller takes no pulled message"));
        for _ in 0..3 {
            assert_eq!(fail(&spool, "third").await, "first");
            assert_eq!(fail(&spool, "third").await, "second", "no third one is pulled");
        }
        assert_eq!(spool.totals().await.unwrap().set_aside, 0);
        if let Some(place) = place {
            let again = open(&config(Some(place)));
            assert!(again.troubles()[0].contains("1 pulled messages failed delivery"));
        }
        assert_eq!(succeed(&spool, "third").await, "first");
        assert!(spool.troubles().is_empty());
        assert_eq!(succeed(&spool, "third").await, "second");
    }
}

#[tokio::test]
async fn a_paused_message_is_delivered_to_another_caller_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pause = Duration::from_secs(3600);
    for place in [Some(directory.path()), None] {
        let spool = open(&config::Spool {
            pauses: vec![pause],
            ..config(place)
        });
        fail(&spool, "first").await;
        match take(&spool, "/pull", "second").await {
            Err(SpoolError::Paused {
                caller,
                failures,
                left,
            }) => {
                assert_eq!((&*caller, failures), ("caller", 1));
                assert!(left <= pause && left > pause / 2, "{left:?}");
            }
            _ => panic!("it is paused"),
        }
        let claimed = delivery(take_as(&spool, "other", "/pull", "second").await);
        assert_eq!(body(&claimed), "first");
        claimed.record(true).await;
        assert_eq!(
            succeed(&spool, "second").await,
            "second",
            "its pause was for the first"
        );
    }
}

/// A pull whose message cannot be stored, and goes to its caller alone.
async fn pass_through(spool: &Spool, is_delivered: bool) {
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        writer.write(&Bytes::from_static(b"not stored")).await.unwrap();
        let error = WriteError::Disk(std::io::ErrorKind::StorageFull.into());
        let (_, passing) = writer.pass_through(&error).unwrap();
        passing.record(is_delivered).await;
        Err("passed through")
    };
    let taken = take_by(spool, "caller", "/pull", pull).await;
    assert_eq!(taken.unwrap().err(), Some("passed through"));
}

#[tokio::test]
async fn a_message_that_is_not_stored_and_fails_pauses_the_pulls_of_its_caller_alone() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config::Spool {
            pauses: vec![Duration::ZERO, PATIENCE],
            ..config(place)
        });
        for failures in 1..=2 {
            pass_through(&spool, false).await;
            assert_eq!(spool.shared.metrics.spool.failed_deliveries.get(), failures);
        }
        let paused = take(&spool, "/pull", "next").await;
        assert!(matches!(paused, Err(SpoolError::Paused { failures: 2, .. })));
        let other = delivery(take_as(&spool, "other", "/pull", "next").await);
        assert_eq!(body(&other), "next");
        drop(other);
        assert_eq!(
            succeed(&spool, "none").await,
            "next",
            "a stored message is not paused"
        );
        assert_eq!(succeed(&spool, "last").await, "last", "a delivery ends the pause");
    }
}

#[tokio::test]
async fn a_message_that_is_not_stored_shows_whether_an_older_message_or_the_caller_is_at_fault() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        for _ in 0..5 {
            assert_eq!(fail(&spool, "first").await, "first");
        }
        pass_through(&spool, false).await;
        assert!(spool.troubles()[0].contains("caller caller takes no pulled message"));
        assert_eq!(fail(&spool, "second").await, "first");
        pass_through(&spool, true).await;
        assert!(spool.troubles().iter().all(|trouble| !trouble.contains("caller")));
        assert_eq!(spool.totals().await.unwrap().set_aside, 1);
        assert_eq!(succeed(&spool, "third").await, "third");
    }
}

#[tokio::test]
async fn a_requeued_message_is_delivered_before_newer_ones_as_a_redelivery() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config::Spool {
        keep: PATIENCE,
        ..config(Some(directory.path()))
    });
    for message in ["one", "two"] {
        assert_eq!(succeed(&spool, message).await, message);
    }
    hold(&spool, "/pull", "three").await;
    spool.settled().await;
    let listed = Listed::list(directory.path()).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed[2].requeue().is_err(), "it is in its queue");
    listed[1].requeue().unwrap();
    assert!(listed[1].requeue().is_err(), "once");
    let two = delivery(take(&spool, "/pull", "four").await);
    assert!(body(&two) == "two" && two.redelivered().is_some());
    let listed = Listed::list(directory.path()).unwrap();
    assert!(listed[1].is_locked && listed[1].discard().is_err());
    two.record(true).await;
    assert_eq!(succeed(&spool, "four").await, "three");
}

#[tokio::test]
async fn a_file_of_a_later_format_is_reported_and_left_alone_and_others_are_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let folder = folder(directory.path(), "/pull");
    std::fs::create_dir_all(&folder).unwrap();
    let later = format!("{{\"format\":2}}\n{}", "x".repeat(200));
    let written = ["0000000000000001.0.msg", "0000000000000002.0.pull"];
    for name in written {
        std::fs::write(folder.join(name), &later).unwrap();
    }
    let spool = open(&config::Spool {
        keep: Duration::ZERO,
        ..config(Some(directory.path()))
    });
    let began = std::time::Instant::now();
    let own = delivery(take(&spool, "/pull", "one").await);
    assert!(began.elapsed() < Duration::from_secs(4), "nothing was waited for");
    assert!(body(&own) == "one" && own.redelivered().is_none());
    own.record(true).await;
    assert_eq!(names(&folder), written);
    for listed in Listed::list(directory.path()).unwrap() {
        assert!(listed.is_later);
        let why = listed.intent.as_ref().unwrap_err();
        assert!(why.contains("a later bondgate wrote it (format 2)"), "{why}");
        assert_eq!(std::fs::read_to_string(listed.path()).unwrap(), later);
    }
}

#[tokio::test]
async fn a_dead_letter_in_memory_is_offered_again_when_memory_is_full() {
    let spool = open(&config::Spool {
        memory: 10,
        messages: 2,
        ..config(None)
    });
    for _ in 0..5 {
        assert_eq!(fail(&spool, "first").await, "first");
    }
    assert_eq!(succeed(&spool, "other").await, "other");
    hold(&spool, "/pull", "third").await;
    let first = delivery(take(&spool, "/pull", "none").await);
    first.lease.set_on_connection(true);
    assert_eq!(body(&first), "third");
    let second = delivery(take(&spool, "/pull", "none").await);
    assert_eq!(body(&second), "first", "there is no room for a fourth");
}

#[tokio::test]
async fn a_message_in_memory_that_became_a_dead_letter_while_it_was_delivered_is_gone() {
    let spool = open(&config(None));
    let delivery = delivery(take(&spool, "/pull", "one").await);
    delivery.lease.set_on_connection(true);
    let id = spool.shared.store.ready().unwrap()[0].0;
    let store = &spool.shared.store;
    assert!(store.make_dead_letter(&queue("/pull"), id).unwrap().is_some());
    delivery.record(true).await;
    let totals = spool.totals().await.unwrap();
    assert_eq!((totals.messages, totals.set_aside), (0, 0));
}

#[tokio::test]
async fn a_folder_that_is_a_link_takes_no_message_and_is_no_trouble_of_other_queues() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    symlink(elsewhere.path(), folder(directory.path(), "/link")).unwrap();
    let queue = folder(directory.path(), "/pull");
    std::fs::create_dir(&queue).unwrap();
    symlink(elsewhere.path(), queue.join("retained")).unwrap();
    for route in ["/link", "/pull"] {
        match take(&spool, route, "one").await {
            Err(error @ SpoolError::Link(_)) => {
                assert!(error.to_string().contains("is a symbolic link"), "{error}");
            }
            _ => panic!("it takes a message"),
        }
        assert!(spool.troubles().is_empty(), "{:?}", spool.troubles());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_message_on_its_way_but_not_for_a_connection_that_does_not_confirm() {
    let spool = open(&config(None));
    let first = delivery(take(&spool, "/pull", "one").await);
    let mut next = Box::pin(take(&spool, "/pull", "two"));
    let unanswered = tokio::time::timeout(Duration::from_secs(20), &mut next).await;
    assert!(unanswered.is_err());
    first.lease.set_on_connection(true);
    assert_eq!(body(&delivery(next.await)), "two");
}
