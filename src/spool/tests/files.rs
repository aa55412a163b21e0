//! Files and folders in the directory that are damaged, foreign or in use elsewhere.

use super::super::store::Store;
use super::*;

#[cfg(unix)]
#[tokio::test]
async fn foreign_files_in_the_directory_are_left_alone() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let directory = tempfile::tempdir().unwrap();
    let folder = folder(directory.path(), "/pull");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir(folder.join("0000000000000001.0.msg")).unwrap();
    mkfifoat(CWD, folder.join("0000000000000002.0.msg"), Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("0000000000000003.0.pull")).unwrap();
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

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_a_link_takes_no_message_and_is_no_trouble_of_other_queues() {
    use std::os::unix::fs::symlink;
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
    }
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), ["spool-link"; 2]);
    std::fs::remove_file(folder(directory.path(), "/link")).unwrap();
    std::fs::remove_file(queue.join("retained")).unwrap();
    succeed(&spool, "one").await;
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), [""; 0]);
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
async fn a_directory_that_cannot_be_used_refuses_pulls_and_is_reported_until_it_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    std::fs::remove_dir(directory.path()).unwrap();
    std::fs::write(directory.path(), "no directory").unwrap();
    assert!(matches!(
        take(&spool, "/pull", "one").await,
        Err(SpoolError::Failed(_))
    ));
    assert_eq!(codes(&spool), ["spool-directory-missing"]);
    std::fs::remove_file(directory.path()).unwrap();
    std::fs::create_dir(directory.path()).unwrap();
    assert_eq!(succeed(&spool, "one").await, "one");
    assert_eq!(codes(&spool), [""; 0]);
}
