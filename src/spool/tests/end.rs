//! What is lost when the process ends.

use super::*;

#[tokio::test]
async fn undelivered_messages_are_lost_at_the_end_unless_the_directory_outlives_the_pod() {
    let directory = tempfile::tempdir().unwrap();
    let in_directory = |persistent| config::Spool {
        persistent,
        keep: Duration::from_secs(60),
        ..config(Some(directory.path()))
    };
    for (config, is_lost) in [
        (in_directory(false), true),
        (in_directory(true), false),
        (config(None), true),
    ] {
        let spool = open(&config);
        assert!(!spool.report_lost_at_end().await, "{config:?}");
        hold(&spool, "/pull", "one").await;
        assert_eq!(spool.report_lost_at_end().await, is_lost, "{config:?}");
        assert_eq!(succeed(&spool, "two").await, "one");
        assert!(!spool.report_lost_at_end().await, "{config:?}");
    }
}

#[tokio::test]
async fn dead_letters_and_pulls_in_progress_are_lost_with_a_directory_and_lost_messages_are_not_lost_again() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config::Spool {
        persistent: false,
        ..config(Some(directory.path()))
    });
    let folder = folder(directory.path(), "/pull");
    std::fs::create_dir(&folder).unwrap();
    for (extension, is_lost) in [
        ("dead", true),
        ("pull", true),
        ("bad", true),
        ("lost", false),
        ("done", false),
    ] {
        let file = folder.join(format!("1764080000000001.0.{extension}"));
        std::fs::write(&file, "").unwrap();
        assert_eq!(spool.report_lost_at_end().await, is_lost, "{extension}");
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn a_directory_that_is_gone_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config::Spool {
        persistent: false,
        ..config(Some(&directory.path().join("spool")))
    });
    std::fs::remove_dir(directory.path().join("spool")).unwrap();
    assert!(!spool.report_lost_at_end().await);
}
