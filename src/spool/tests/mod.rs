//! The spool by itself, with pulls that bring what a test wants.

mod upkeep;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

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

fn key(route: &str) -> Key {
    Key {
        authority: "stage.example".to_owned(),
        client_id: "id".to_owned(),
        route: route.to_owned(),
    }
}

fn head() -> Head {
    Head {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        extensions: http::Extensions::new(),
    }
}

type Took = Result<Taken<&'static str>, SpoolError>;

/// A request whose pull brings this message.
async fn take(spool: &Spool, route: &str, message: &'static str) -> Took {
    take_as(spool, "caller", route, message).await
}

async fn take_as(spool: &Spool, caller: &str, route: &str, message: &'static str) -> Took {
    let pull = move |mut intake: Intake| async move {
        intake.head(head());
        intake
            .write(&Bytes::from_static(message.as_bytes()))
            .await
            .unwrap();
        Taken::Message(Box::new(intake.finish().await.unwrap()))
    };
    let taken = spool.take(key(route), &Method::GET, caller.into(), || true, pull);
    tokio::time::timeout(PATIENCE, taken).await.unwrap()
}

fn claim(took: Took) -> Claim {
    match took {
        Ok(Taken::Message(claim)) => *claim,
        Ok(Taken::Other(other) | Taken::Empty(other)) => panic!("{other}"),
        Err(error) => panic!("{error}"),
    }
}

fn body(claim: &Claim) -> Bytes {
    match claim.body().unwrap() {
        MessageBody::Whole(body) => body,
        MessageBody::File { .. } => panic!("it is small"),
    }
}

/// Keeps a message that no caller took.
async fn hold(spool: &Spool, route: &str, message: &'static str) {
    drop(claim(take(spool, route, message).await));
}

fn folder(directory: &Path, route: &str) -> PathBuf {
    directory.join(key(route).folder())
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
async fn what_is_not_of_our_making_in_the_directory_is_left_alone() {
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
    assert_eq!(body(&claim(take(&spool, "/pull", "one").await)), "one");
    assert!(began.elapsed() < Duration::from_secs(6), "nothing was waited for");
    let after: Vec<_> = names(&folder)
        .into_iter()
        .filter(|name| before.0.contains(name))
        .collect();
    assert_eq!((after, names(&found)), before);
}

#[tokio::test]
async fn a_file_that_was_moved_to_another_queue_does_not_answer_that_one() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    hold(&spool, "/one", "one").await;
    spool.settled().await;
    hold(&spool, "/two", "two").await;
    spool.settled().await;
    let (one, two) = (folder(directory.path(), "/one"), folder(directory.path(), "/two"));
    let moved = &names(&one)[0];
    std::fs::rename(one.join(moved), two.join(moved)).unwrap();
    assert_eq!(body(&claim(take(&spool, "/two", "three").await)), "two");
    assert_eq!(extensions(&two), ["bad", "msg"]);
}

static IS_SENT: AtomicBool = AtomicBool::new(false);

#[tokio::test]
async fn a_pull_whose_caller_left_before_it_was_sent_is_neither_sent_nor_reported() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let mut taken = Box::pin(spool.take(
        key("/pull"),
        &Method::GET,
        "caller".into(),
        || true,
        |intake| async {
            IS_SENT.store(true, Ordering::Relaxed);
            intake.discard().await;
            Taken::Other("sent")
        },
    ));
    // The caller leaves while the pull is written down.
    while names(&folder(directory.path(), "/pull")).is_empty() {
        assert!(futures_poll(&mut taken).await.is_pending());
    }
    drop(taken);
    spool.settled().await;
    assert!(!IS_SENT.load(Ordering::Relaxed));
    assert_eq!(names(&folder(directory.path(), "/pull")), Vec::<String>::new());
    assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 0);
}

/// Polls something once, and lets others run.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    tokio::task::yield_now().await;
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test]
async fn a_start_leaves_a_queue_alone_from_which_another_process_may_be_pulling() {
    let directory = tempfile::tempdir().unwrap();
    let other = Directory::open(directory.path(), Retention::new(Duration::ZERO, 0)).unwrap();
    let turn = other.turn(&key("/pull")).unwrap();
    assert!(turn.is_some());
    // As it is before its maker has its lock.
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
    drop(turn);
    assert_eq!(lost(), 1);
}

#[tokio::test]
async fn a_pull_that_ends_without_a_verdict_is_reported_whether_there_is_a_directory_or_not() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        let pull = |intake: Intake| async {
            drop(intake);
            Taken::Other("a bug")
        };
        assert!(
            spool
                .take(key("/pull"), &Method::GET, "caller".into(), || true, pull)
                .await
                .is_ok()
        );
        assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 1);
    }
    assert_eq!(extensions(&folder(directory.path(), "/pull")), ["lost"]);
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let pull = |mut intake: Intake| async move {
        intake.head(head());
        let piece = Bytes::from(vec![0; 100_000]);
        for count in 0.. {
            match intake.write(&piece).await {
                Ok(()) => assert!(count < 11),
                Err(Unkept::Gone(why)) => {
                    intake.lose(why).await;
                    return Taken::Other(why);
                }
                Err(Unkept::TooLarge(_)) => panic!("there is no room to pass it on from"),
            }
        }
        unreachable!()
    };
    let taken = spool
        .take(key("/pull"), &Method::GET, "caller".into(), || true, pull)
        .await;
    assert!(matches!(taken, Ok(Taken::Other(why)) if why.contains("spool.bytes")));
    assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 1);
}

/// A pull whose file cannot be given its name at the end, of so many bytes.
async fn take_with_a_broken_disk(spool: &Spool, directory: &Path, bytes: usize) -> Taken<Unkept> {
    let (from, to) = (folder(directory, "/pull"), directory.join("moved"));
    let pull = move |mut intake: Intake| async move {
        intake.head(head());
        for piece in vec![b'x'; bytes].chunks(100_000) {
            intake.write(&Bytes::copy_from_slice(piece)).await.unwrap();
        }
        std::fs::rename(from, to).unwrap();
        match intake.finish().await {
            Ok(claim) => Taken::Message(Box::new(claim)),
            Err(unkept) => {
                intake.lose("a test").await;
                Taken::Other(unkept)
            }
        }
    };
    let taken = spool
        .take(key("/pull"), &Method::GET, "caller".into(), || true, pull)
        .await;
    taken.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_message_that_the_disk_does_not_take_to_its_end_is_whole_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    match take_with_a_broken_disk(&spool, directory.path(), 700_001).await {
        Taken::Message(claim) => assert_eq!(body(&claim), vec![b'x'; 700_001]),
        Taken::Other(unkept) | Taken::Empty(unkept) => panic!("{unkept:?}"),
    }
    assert_eq!(spool.undelivered(), 1);
}

#[tokio::test]
async fn a_message_that_neither_disk_nor_memory_takes_is_never_passed_on_in_part() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config::Spool {
        memory: 1000,
        ..config(Some(directory.path()))
    });
    let taken = take_with_a_broken_disk(&spool, directory.path(), 700_001).await;
    assert!(matches!(taken, Taken::Other(Unkept::Gone(_))));
    assert_eq!(spool.shared.metrics.spool.perhaps_lost.get(), 1);
}

#[tokio::test]
async fn what_memory_has_is_delivered_while_the_directory_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let share = spool.shared.memory.share();
    let intent = Intent {
        pulled: Stamp::now(None),
        key: key("/pull"),
        method: "GET".to_owned(),
    };
    let memory = &spool.shared.memory;
    let message = memory.insert(intent, head(), Bytes::from_static(b"one"), None, share);
    memory.release(&message, false);
    std::fs::remove_dir(directory.path()).unwrap();
    std::fs::write(directory.path(), "no directory").unwrap();
    let claimed = claim(take(&spool, "/pull", "two").await);
    assert!(body(&claimed) == "one" && claimed.redelivered().is_some());
    claimed.delivered();
    spool.settled().await;
    assert!(matches!(
        take(&spool, "/pull", "two").await,
        Err(SpoolError::Unusable(_))
    ));
    std::fs::remove_file(directory.path()).unwrap();
    std::fs::create_dir(directory.path()).unwrap();
}

/// A delivery that fails; what was delivered.
async fn fail(spool: &Spool, message: &'static str) -> Bytes {
    let mut claimed = claim(take(spool, "/pull", message).await);
    claimed.begin();
    let got = body(&claimed);
    drop(claimed);
    spool.settled().await;
    got
}

/// A delivery that succeeds; what was delivered.
async fn succeed(spool: &Spool, message: &'static str) -> Bytes {
    let mut claimed = claim(take(spool, "/pull", message).await);
    claimed.begin();
    let got = body(&claimed);
    claimed.delivered();
    spool.settled().await;
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
        let before = spool.holding().await.unwrap();
        assert_eq!((before.messages, before.failing, before.set_aside), (1, 1, 0));
        assert_eq!(succeed(&spool, "second").await, "second");
        let after = spool.holding().await.unwrap();
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
        assert_eq!(spool.holding().await.unwrap().set_aside, 0);
        if let Some(place) = place {
            let again = open(&config(Some(place)));
            assert!(again.troubles()[0].contains("stay in the queue: 1;"));
        }
        assert_eq!(succeed(&spool, "third").await, "first");
        assert!(spool.troubles().is_empty());
        assert_eq!(succeed(&spool, "third").await, "second");
    }
}

#[tokio::test]
async fn a_caller_gets_no_message_in_its_pause_and_another_caller_gets_it_at_once() {
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
        let claimed = claim(take_as(&spool, "other", "/pull", "second").await);
        assert_eq!(body(&claimed), "first");
        claimed.delivered();
        spool.settled().await;
        assert_eq!(
            succeed(&spool, "second").await,
            "second",
            "its pause was for the first"
        );
    }
}

#[tokio::test]
async fn a_requeued_message_comes_before_newer_ones_and_says_that_it_is_redelivered() {
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
    let inspection = Inspection::new(directory.path());
    let listed = inspection.list().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(inspection.requeue(&listed[2]).is_err(), "it is in its queue");
    inspection.requeue(&listed[1]).unwrap();
    assert!(inspection.requeue(&listed[1]).is_err(), "once");
    let two = claim(take(&spool, "/pull", "four").await);
    assert!(body(&two) == "two" && two.redelivered().is_some());
    let listed = inspection.list().unwrap();
    assert!(listed[1].is_busy && inspection.discard(&listed[1]).is_err());
    two.delivered();
    spool.settled().await;
    assert_eq!(succeed(&spool, "four").await, "three");
}

#[tokio::test]
async fn a_file_of_a_later_format_is_left_as_it_is_and_reported_and_others_are_delivered() {
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
    let own = claim(take(&spool, "/pull", "one").await);
    assert!(began.elapsed() < Duration::from_secs(4), "nothing was waited for");
    assert!(body(&own) == "one" && own.redelivered().is_none());
    own.delivered();
    spool.settled().await;
    assert_eq!(names(&folder), written);
    let inspection = Inspection::new(directory.path());
    for listed in inspection.list().unwrap() {
        assert!(listed.is_later);
        let why = listed.intent.unwrap_err();
        assert!(why.contains("a later bondgate wrote it (format 2)"), "{why}");
        assert_eq!(std::fs::read_to_string(listed.path).unwrap(), later);
    }
}

#[tokio::test]
async fn a_dead_letter_in_memory_is_offered_again_where_it_leaves_no_room() {
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
    let mut first = claim(take(&spool, "/pull", "none").await);
    first.begin();
    assert_eq!(body(&first), "third");
    let second = claim(take(&spool, "/pull", "none").await);
    assert_eq!(body(&second), "first", "there is no room for a fourth");
}

#[tokio::test(start_paused = true)]
async fn a_message_on_its_way_is_waited_for_and_a_connection_that_does_not_answer_is_not() {
    let spool = open(&config(None));
    let mut first = claim(take(&spool, "/pull", "one").await);
    let mut next = Box::pin(take(&spool, "/pull", "two"));
    let unanswered = tokio::time::timeout(Duration::from_secs(20), &mut next).await;
    assert!(unanswered.is_err());
    first.begin();
    assert_eq!(body(&claim(next.await)), "two");
}
