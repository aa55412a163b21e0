//! Bounds, retention and the sweep.

use std::io;

use super::*;

#[tokio::test]
async fn only_messages_that_are_not_delivered_count_towards_the_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    for number in 0..4 {
        let pull = |writer: PullWriter| async {
            writer.lose("a test").await;
            Err("lost")
        };
        let taken = take_by(&spool, "caller", "/lost", pull).await;
        assert_eq!(taken.unwrap().err(), Some("lost"), "{number}");
    }
    for route in ["/1", "/2", "/3"] {
        hold(&spool, route, route).await;
    }
    let full = take(&spool, "/4", "4").await;
    let Err(SpoolError::Full(problem)) = full else {
        panic!("it is full")
    };
    assert!(problem.cause().contains("full with 3 messages of"), "{problem}");
    let totals = spool.totals().await.unwrap();
    assert_eq!((totals.messages, totals.perhaps_lost), (3, 4));
}

#[tokio::test]
async fn nothing_is_pulled_while_less_memory_is_free_than_a_message_may_need() {
    let spool = open(&config::Spool {
        memory: 20,
        ..config(None)
    });
    hold(&spool, "/one", "elevenbytes").await;
    let full = take(&spool, "/two", "two").await;
    let Err(SpoolError::Full(problem)) = full else {
        panic!("it is full")
    };
    assert!(problem.cause().contains("1 messages of 11 bytes"), "{problem}");
    delivery(take(&spool, "/one", "none").await).record(true).await;
    assert_eq!(body(&delivery(take(&spool, "/two", "two").await)), "two");
}

#[tokio::test]
async fn a_message_that_does_not_fit_the_memory_takes_its_share_until_it_is_sent() {
    let spool = open(&config::Spool {
        memory: 20,
        ..config(None)
    });
    let (sender, passed) = tokio::sync::oneshot::channel();
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        let piece = Bytes::from_static(b"fifteen bytes, ");
        writer.write(&piece).await.unwrap();
        let error = writer.write(&piece).await.unwrap_err();
        let _ = sender.send(writer.pass_through(error).await.unwrap());
        Err("passed through")
    };
    assert!(take_by(&spool, "caller", "/pull", pull).await.is_ok());
    let (body, passing) = passed.await.unwrap();
    assert_eq!(body.rest, "fifteen bytes, fifteen bytes, ");
    passing.lease.set_on_connection(true);
    let full = take(&spool, "/pull", "next").await;
    assert!(matches!(full, Err(SpoolError::Full { .. })));
    drop(body);
    assert_eq!(succeed(&spool, "next").await, "next", "the queue goes on");
    passing.record(true).await;
}

#[tokio::test]
async fn queues_that_are_not_in_use_are_forgotten_and_their_folders_removed() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    for number in 0..50 {
        delivery(take(&spool, &format!("/x/{number}"), "one").await)
            .record(true)
            .await;
    }
    let with_a_caller = delivery(take(&spool, "/x/kept", "one").await);
    drop(take(&spool, "/x/next", "one").await);
    spool.settled().await;
    let queues = spool.shared.queues.lock().len();
    assert!(queues <= 3, "{queues}");
    let folders = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(folders(), 52);
    sweep(&spool, SystemTime::now());
    assert_eq!(folders(), 2);
    drop(with_a_caller);
}

/// Sweeps once, as at this time.
fn sweep(spool: &Spool, now: SystemTime) {
    spool.shared.sweep(now).unwrap();
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_sweep_leaves_the_lock_file_of_a_folder_in_which_it_leaves_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    delivery(take(&spool, "/pull", "one").await).record(true).await;
    let folder = folder(directory.path(), "/pull");
    std::os::unix::fs::symlink("nowhere", folder.join("retained")).unwrap();
    sweep(&spool, SystemTime::now());
    assert!(folder.join("turn").exists());
}

#[tokio::test]
async fn a_delivered_message_is_kept_from_its_delivery_and_then_removed() {
    let directory = tempfile::tempdir().unwrap();
    let keep = Duration::from_secs(60);
    let spool = open(&config::Spool {
        keep,
        ..config(Some(directory.path()))
    });
    let taken = delivery(take(&spool, "/pull", "one").await);
    let folder = folder(directory.path(), "/pull");
    // Pulled long ago, and delivered now.
    set_modified(&folder.join(&names(&folder)[0]), SystemTime::now() - 10 * keep);
    taken.record(true).await;
    let retained = folder.join("retained");
    assert_eq!(
        (names(&folder), extensions(&retained)),
        (vec![], vec!["done".to_owned()])
    );
    let now = SystemTime::now();
    sweep(&spool, now + keep / 2);
    assert_eq!(names(&retained).len(), 1);
    sweep(&spool, now + keep);
    assert_eq!(names(&retained), Vec::<String>::new());
    assert!(!folder.exists(), "nothing is left in the queue");
}

#[tokio::test]
async fn the_oldest_delivered_messages_are_removed_beyond_the_limit_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config::Spool {
        keep: Duration::from_secs(60),
        keep_bytes: 3000,
        ..config(Some(directory.path()))
    });
    let kilobyte = "x".repeat(1000).leak();
    hold(&spool, "/held", kilobyte).await;
    spool.settled().await;
    let began = SystemTime::now() - Duration::from_secs(50);
    let retained = folder(directory.path(), "/pull").join("retained");
    let mut newest = String::new();
    for second in 0..6 {
        delivery(take(&spool, "/pull", kilobyte).await).record(true).await;
        newest = names(&retained).pop().unwrap();
        set_modified(&retained.join(&newest), began + Duration::from_secs(second));
    }
    let left = names(&retained);
    assert_eq!(left.len(), 2);
    assert!(left.contains(&newest), "the newest are left");
    assert_eq!(extensions(&folder(directory.path(), "/held")), ["msg"]);

    let messages = &spool.shared.store;
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let mut writes = 0;
    let written = messages.with_space(|| {
        writes += 1;
        if writes == 1 { Err(full()) } else { Ok(()) }
    });
    assert!(written.is_ok(), "retained messages make room on a full disk");
    assert_eq!(names(&retained), Vec::<String>::new());
    assert!(messages.with_space(|| Err::<(), _>(full())).is_err());
}

#[tokio::test]
async fn a_message_that_waits_for_an_hour_is_a_problem_until_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    hold(&spool, "/pull", "one").await;
    sweep(&spool, SystemTime::now());
    assert_eq!(codes(&spool), [""; 0]);
    let old = folder(directory.path(), "/pull").join("0000000000000001.0.msg");
    std::fs::write(&old, "x").unwrap();
    sweep(&spool, SystemTime::now());
    assert_eq!(codes(&spool), ["messages-overdue"]);
    std::fs::remove_file(old).unwrap();
    sweep(&spool, SystemTime::now());
    assert_eq!(codes(&spool), [""; 0]);
}

#[tokio::test]
async fn a_spool_that_fills_is_a_problem_before_and_when_it_is_full_until_a_message_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for (place, full) in [
        (Some(directory.path()), "spool-full"),
        (None, "spool-memory-full"),
    ] {
        let spool = open(&config::Spool {
            bytes: 2000,
            memory: 2000,
            messages: 30,
            ..config(place)
        });
        let long: &str = "x".repeat(900).leak();
        hold(&spool, "/1", long).await;
        spool.totals().await.unwrap();
        assert_eq!(codes(&spool), [""; 0]);
        hold(
            &spool,
            "/2",
            "x".repeat(if place.is_some() { 400 } else { 200 }).leak(),
        )
        .await;
        spool.totals().await.unwrap();
        let early = if place.is_some() {
            "spool-nearly-full"
        } else {
            full
        };
        assert_eq!(codes(&spool), [early]);
        if place.is_some() {
            hold(&spool, "/3", long).await;
        }
        let Err(SpoolError::Full(problem)) = take(&spool, "/4", "4").await else {
            panic!("it is full")
        };
        assert_eq!((problem.code(), codes(&spool)), (full, vec![full]));
        for route in ["/1", "/2", "/3"] {
            delivery(take(&spool, route, "none").await).record(true).await;
        }
        spool.totals().await.unwrap();
        assert_eq!(codes(&spool), [""; 0]);
    }
}
