//! Messages that cannot be stored and are passed through.

use super::*;

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
            let (body, passing) = writer.pass_through(error).await.unwrap();
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
        assert_eq!(codes(&spool), ["spool-failed"]);
        succeed(&spool, "next").await;
        assert_eq!(codes(&spool), [""; 0]);
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
            let (body, passing) = writer.pass_through(error).await.unwrap();
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
            let (_, passing) = writer.pass_through(error).await.unwrap();
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

/// A pull whose message cannot be stored, and goes to its caller alone.
async fn pass_through(spool: &Spool, is_delivered: bool) {
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        writer.write(&Bytes::from_static(b"not stored")).await.unwrap();
        let error = WriteError::Disk(std::io::ErrorKind::StorageFull.into());
        let (_, passing) = writer.pass_through(error).await.unwrap();
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
        assert!(codes(&spool).contains(&"caller-takes-nothing"));
        assert_eq!(fail(&spool, "second").await, "first");
        pass_through(&spool, true).await;
        assert!(!codes(&spool).contains(&"caller-takes-nothing"));
        assert_eq!(spool.totals().await.unwrap().set_aside, 1);
        assert_eq!(succeed(&spool, "third").await, "third");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_while_a_message_is_passed_through_does_not_stop_the_thread_of_the_daemons_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let shared = spool.shared.clone();
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        let (hanging, hangs) = std::sync::mpsc::channel();
        let (ending, end) = std::sync::mpsc::channel::<()>();
        let disk = std::thread::spawn(move || {
            let _publishing = shared.publishing.lock();
            hanging.send(()).unwrap();
            end.recv_timeout(Duration::from_secs(5))
        });
        hangs.recv().unwrap();
        let error = WriteError::Disk(std::io::ErrorKind::StorageFull.into());
        let passing = writer.pass_through(error);
        let other_task = async { ending.send(()) };
        let (passing, _) = tokio::join!(biased; passing, other_task);
        assert!(disk.join().unwrap().is_ok(), "the other task ran meanwhile");
        passing.unwrap().1.record(true).await;
        Err("passed through")
    };
    let taken = take_by(&spool, "caller", "/pull", pull).await;
    assert_eq!(taken.unwrap().err(), Some("passed through"));
}
