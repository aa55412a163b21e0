//! Which problems are published, and when they end.

use std::fs::File;
use std::io;
use std::time::Instant;

use super::*;
use crate::problems::Problem;

fn sweep(spool: &Spool) {
    spool.shared.sweep(SystemTime::now()).unwrap();
}

fn unusable(reason: &str) -> Problem {
    crate::problems::spool::unusable(reason)
}

#[tokio::test]
async fn only_a_caller_of_a_locked_queue_learns_of_its_lock() {
    let spool = open(&config(None));
    spool.shared.set_locked(&queue("/locked"), true);
    let why = |queue: Option<&QueueId>| spool.why_waiting(queue).code();
    assert_eq!(why(Some(&queue("/locked"))), "spool-locked");
    assert_eq!(why(Some(&queue("/other"))), "pull-waiting");
    assert_eq!(why(None), "pull-waiting");
}

#[tokio::test]
async fn a_sweep_ends_the_problem_of_a_queue_that_no_process_has_locked_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    succeed(&spool, "one").await;
    std::fs::create_dir_all(folder(directory.path(), "/pull")).unwrap();
    let lock = File::create(folder(directory.path(), "/pull").join("turn")).unwrap();
    lock.lock().unwrap();
    for route in ["/pull", "/gone"] {
        spool.shared.set_locked(&queue(route), true);
    }
    hold(&spool, "/held", "two").await;
    sweep(&spool);
    assert_eq!(codes(&spool), ["spool-locked"]);
    drop(lock);
    sweep(&spool);
    assert_eq!(codes(&spool), [""; 0]);
}

#[tokio::test]
async fn a_failed_count_is_a_problem_until_a_later_count_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let before = Instant::now();
    let failed = |begun| {
        let failure = Some(unusable("a folder cannot be read"));
        spool.shared.record_count(begun, None, failure, false);
    };
    failed(Instant::now());
    assert_eq!(codes(&spool), ["spool-failed"]);
    sweep(&spool);
    assert_eq!(codes(&spool), [""; 0]);
    failed(before);
    assert_eq!(codes(&spool), [""; 0], "a count that began earlier is ignored");
}

#[tokio::test]
async fn a_failed_write_is_a_problem_until_a_pull_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let problem = spool.shared.disk_failed(&io::ErrorKind::PermissionDenied.into());
    assert_eq!(problem.code(), "spool-failed");
    sweep(&spool);
    assert_eq!(codes(&spool), ["spool-failed"]);
    succeed(&spool, "one").await;
    assert_eq!(codes(&spool), [""; 0]);
}

#[tokio::test]
async fn an_access_that_fails_as_a_count_does_ends_with_the_counts_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (root, away) = (directory.path().join("spool"), directory.path().join("away"));
    let spool = open(&config(Some(&root)));
    std::fs::rename(&root, &away).unwrap();
    // The test is in no sandbox, and would create it again.
    File::create(&root).unwrap();
    assert!(take(&spool, "/pull", "one").await.is_err());
    assert_eq!(codes(&spool), ["spool-directory-missing"]);
    std::fs::remove_file(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), [""; 0]);
}

#[tokio::test]
async fn a_problem_that_is_over_does_not_come_back_from_a_publication_that_began_earlier() {
    const OTHERS: usize = 30;
    let spool = open(&config(None));
    for number in 0..OTHERS {
        spool.shared.set_locked(&queue(&format!("/{number}")), true);
    }
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(order) {
                    spool.shared.publish();
                }
            });
        }
        let has_come_back = (0..500).any(|_| {
            spool.shared.set_locked(&queue("/pull"), true);
            spool.shared.set_locked(&queue("/pull"), false);
            (0..5).any(|_| codes(&spool).len() > OTHERS)
        });
        is_over.store(true, order);
        assert!(!has_come_back);
    });
}
