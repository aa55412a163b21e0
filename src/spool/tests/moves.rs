//! Moves of a queue's messages to another queue.

use super::super::moved_from::MovedFrom;
use super::*;

fn move_between(directory: &Path, from: &str, to: &str) -> Result<MoveOutcome, InspectError> {
    let (from, to) = (queue(from).to_string(), queue(to).to_string());
    Move::find(directory, &from, &to, None)?.run()
}

fn refusal(directory: &Path, from: &str, to: &str, requested: Option<&RequestedQueues>) -> String {
    match Move::find(directory, from, to, requested) {
        Err(InspectError::Refused(reason)) => reason,
        Err(error) => panic!("{error}"),
        Ok(moving) => moving.run().unwrap_err().to_string(),
    }
}

/// A spool with two ready messages, a dead letter and a delivered message in the queue of "/old".
async fn filled(directory: &Path) -> Spool {
    let spool = open(&config::Spool {
        keep: Duration::from_secs(60),
        messages: 10,
        ..config(Some(directory))
    });
    delivery(take(&spool, "/old", "delivered").await)
        .record(true)
        .await;
    hold(&spool, "/old", "dead").await;
    spool.settled().await;
    let old = folder(directory, "/old");
    let dead = old.join(&names(&old)[0]);
    std::fs::rename(&dead, dead.with_extension("dead")).unwrap();
    hold(&spool, "/old", "first").await;
    spool.settled().await;
    // The next one of the same queue, while the first is with a caller.
    let first = delivery(take(&spool, "/old", "none").await);
    first.lease.set_on_connection(true);
    hold(&spool, "/old", "second").await;
    drop(first);
    spool.settled().await;
    assert_eq!(extensions(&old), ["dead", "msg", "msg"]);
    spool
}

async fn bodies(spool: &Spool, route: &str, count: usize) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let delivery = delivery(take(spool, route, "pulled").await);
        assert!(delivery.redelivered().is_some());
        bodies.push(body(&delivery));
        delivery.record(true).await;
    }
    bodies
}

#[tokio::test]
async fn moved_messages_are_delivered_by_the_other_queue_once_and_in_order_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    let outcome = move_between(directory.path(), "/old", "/new").unwrap();
    assert_eq!((outcome.undelivered, outcome.delivered), (3, 1));
    assert!(outcome.left.is_empty(), "{:?}", outcome.left);
    for listed in Listed::list(directory.path()).unwrap() {
        let intent = listed.intent.as_ref().unwrap();
        assert_eq!(
            (&intent.queue, listed.moved_from.as_ref()),
            (&queue("/new"), Some(&queue("/old")))
        );
    }
    assert_eq!(bodies(&spool, "/new", 2).await, ["first", "second"]);
    for listed in Listed::list(directory.path()).unwrap() {
        if listed.file.state == MessageState::DeadLetter {
            listed.requeue().unwrap();
        }
    }
    assert_eq!(bodies(&spool, "/new", 1).await, ["dead"]);
    assert_eq!(body(&delivery(take(&spool, "/new", "pulled").await)), "pulled");
    spool.shared.sweep(SystemTime::now()).unwrap();
    assert!(
        !folder(directory.path(), "/old").exists(),
        "nothing is left in the queue"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_move_follows_no_symbolic_link_in_place_of_a_lock() {
    for route in ["/old", "/new"] {
        let directory = tempfile::tempdir().unwrap();
        let _spool = filled(directory.path()).await;
        let target = directory.path().join("target");
        let folder = folder(directory.path(), route);
        std::fs::create_dir_all(&folder).unwrap();
        let lock = folder.join("turn");
        let _ = std::fs::remove_file(&lock);
        std::os::unix::fs::symlink(&target, lock).unwrap();
        move_between(directory.path(), "/old", "/new").unwrap_err();
        assert!(!target.exists(), "created through the link");
    }
}

#[tokio::test]
async fn a_file_of_moved_messages_that_names_another_queue_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let _spool = filled(directory.path()).await;
    let new = folder(directory.path(), "/new");
    std::fs::create_dir(&new).unwrap();
    let foreign = serde_json::json!({"queue": queue("/other"), "from": [queue("/old")]}).to_string();
    std::fs::write(new.join("moved"), &foreign).unwrap();
    let error = move_between(directory.path(), "/old", "/new").unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("names another queue"), "{reason}");
    assert_eq!(std::fs::read_to_string(new.join("moved")).unwrap(), foreign);
    assert_eq!(
        extensions(&folder(directory.path(), "/old")),
        ["dead", "msg", "msg"]
    );
}

#[tokio::test]
async fn messages_that_are_moved_twice_belong_to_the_last_queue() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    move_between(directory.path(), "/old", "/new").unwrap();
    move_between(directory.path(), "/new", "/newest").unwrap();
    assert_eq!(bodies(&spool, "/newest", 2).await, ["first", "second"]);
    move_between(directory.path(), "/newest", "/old").unwrap();
    assert_eq!(extensions(&folder(directory.path(), "/old")), ["dead", "moved"]);
    spool
        .shared
        .sweep(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    assert!(!folder(directory.path(), "/newest").exists());
    assert_eq!(spool.totals().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn a_move_that_a_crash_cuts_off_loses_and_doubles_no_message_and_is_completed_by_the_same_command() {
    // After so many of its steps: the file `moved`, and one rename for each message.
    for steps in 0..=3 {
        let directory = tempfile::tempdir().unwrap();
        let spool = filled(directory.path()).await;
        let (old, new) = (folder(directory.path(), "/old"), folder(directory.path(), "/new"));
        std::fs::create_dir(&new).unwrap();
        std::fs::write(new.join("moved.new"), "{\"queue\":").unwrap();
        if steps > 0 {
            MovedFrom::add(&queue("/old"), &old, &queue("/new"), &new).unwrap();
        }
        let ready: Vec<_> = names(&old)
            .into_iter()
            .filter(|name| name.ends_with("msg"))
            .collect();
        for name in &ready[..steps.max(1) - 1] {
            std::fs::rename(old.join(name), new.join(name)).unwrap();
        }
        drop(spool);
        let spool = open(&config::Spool {
            messages: 10,
            keep: Duration::from_secs(60),
            ..config(Some(directory.path()))
        });
        spool.shared.sweep(SystemTime::now()).unwrap();
        // What is in either queue can be delivered.
        let in_new = steps.max(1) - 1;
        for (route, count) in [("/new", in_new), ("/old", 2 - in_new)] {
            if count > 0 {
                let delivery = delivery(take(&spool, route, "pulled").await);
                assert!(delivery.redelivered().is_some(), "{steps}: {route}");
            }
        }
        move_between(directory.path(), "/old", "/new").unwrap();
        assert_eq!(bodies(&spool, "/new", 2).await, ["first", "second"], "{steps}");
        let totals = spool.totals().await.unwrap();
        assert_eq!(
            (totals.messages, totals.set_aside, totals.damaged),
            (0, 1, 0),
            "{steps}"
        );
    }
}

#[tokio::test]
async fn messages_that_are_being_delivered_or_pulled_are_left_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    let old = folder(directory.path(), "/old");
    let pull = "9000000000000001.0.pull";
    std::fs::write(old.join(pull), "").unwrap();
    let first = delivery(take(&spool, "/old", "none").await);
    first.lease.set_on_connection(true);
    let outcome = move_between(directory.path(), "/old", "/new").unwrap();
    assert_eq!(outcome.undelivered, 2);
    let [(delivered, one), (pulled, other)] = &outcome.left[..] else {
        panic!("{:?}", outcome.left)
    };
    assert!(
        one.contains("is being delivered") && other.contains("is being pulled"),
        "{one} {other}"
    );
    assert!(pulled.ends_with("/9000000000000001") && delivered.starts_with(&queue("/old").folder()));
    first.record(true).await;
    assert_eq!(bodies(&spool, "/new", 1).await, ["second"]);
}

#[tokio::test]
async fn a_file_of_a_queue_that_was_not_moved_there_is_still_misplaced() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    hold(&spool, "/third", "third").await;
    spool.settled().await;
    move_between(directory.path(), "/old", "/new").unwrap();
    let (third, new) = (
        folder(directory.path(), "/third"),
        folder(directory.path(), "/new"),
    );
    let name = &names(&third)[0];
    std::fs::rename(third.join(name), new.join(name)).unwrap();
    assert_eq!(bodies(&spool, "/new", 2).await, ["first", "second"]);
    assert_eq!(body(&delivery(take(&spool, "/new", "pulled").await)), "pulled");
    assert!(extensions(&new).contains(&"bad".to_owned()));
}

#[tokio::test]
async fn moved_messages_are_left_and_reported_while_it_cannot_be_read_where_they_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    move_between(directory.path(), "/old", "/new").unwrap();
    let moved = folder(directory.path(), "/new").join("moved");
    let content = std::fs::read(&moved).unwrap();
    std::fs::write(&moved, "{").unwrap();
    assert_eq!(body(&delivery(take(&spool, "/new", "pulled").await)), "pulled");
    assert_eq!(codes(&spool)[0], "spool-file-unusable");
    std::fs::write(&moved, content).unwrap();
    assert_eq!(bodies(&spool, "/new", 2).await, ["first", "second"]);
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), ["dead-letters"]);
}

#[tokio::test]
async fn a_move_that_cannot_be_meant_is_refused_with_the_queues_to_choose_from() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    hold(&spool, "/new", "new").await;
    spool.settled().await;
    let [old, new] = ["/old", "/new"].map(|route| (queue(route).folder(), queue(route).to_string()));
    let refused = |from: &str, to: &str, reason: &str| {
        let refusal = refusal(directory.path(), from, to, None);
        assert!(refusal.contains(reason), "{refusal}");
    };
    refused(
        "0123456789abcdef",
        &new.0,
        "there is no queue \"0123456789abcdef\"; name one of ",
    );
    refused("0123456789abcdef", &new.0, &format!("{} ({})", old.0, old.1));
    refused(
        &old.0,
        "elsewhere",
        "there is no queue \"elsewhere\"; name one of ",
    );
    refused(&old.0, &old.1, "name two queues");
    assert_eq!(
        move_between(directory.path(), "/old", "/new")
            .unwrap()
            .undelivered,
        3
    );
    refused(&old.0, &new.0, "there is no queue");
}

#[cfg(unix)]
#[tokio::test]
async fn a_move_to_a_folder_that_is_a_link_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _spool = filled(directory.path()).await;
    let link = folder(directory.path(), "/link");
    std::os::unix::fs::symlink(directory.path(), link).unwrap();
    let [old, link] = ["/old", "/link"].map(|route| queue(route).to_string());
    let refusal = refusal(directory.path(), &old, &link, None);
    assert!(refusal.contains("is a symbolic link"), "{refusal}");
}

#[tokio::test]
async fn a_queue_in_which_a_pull_is_under_way_is_not_moved() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    let lock = spool.shared.store.lock_queue(&queue("/old")).unwrap();
    assert!(lock.is_some());
    let refused = move_between(directory.path(), "/old", "/new")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is being pulled now; try again"), "{refused}");
    assert_eq!(bodies(&spool, "/old", 0).await, [""; 0]);
    drop(lock);
    assert_eq!(
        move_between(directory.path(), "/old", "/new")
            .unwrap()
            .undelivered,
        3
    );
}

#[tokio::test]
async fn two_messages_of_the_same_microsecond_do_not_replace_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let spool = filled(directory.path()).await;
    let (old, new) = (folder(directory.path(), "/old"), folder(directory.path(), "/new"));
    let name = names(&old).pop().unwrap();
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join(&name), "another one").unwrap();
    let outcome = move_between(directory.path(), "/old", "/new").unwrap();
    assert!(
        outcome.left[0].1.contains("in the same microsecond"),
        "{:?}",
        outcome.left
    );
    assert_eq!(std::fs::read(new.join(&name)).unwrap(), b"another one");
    assert_eq!(bodies(&spool, "/old", 1).await, ["second"]);
}
