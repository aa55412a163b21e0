//! What is held, for how long, and what becomes of what is over.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn only_what_is_to_be_delivered_stops_pulls() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    for number in 0..4 {
        let pull = |intake: Intake| async {
            intake.lose("a test").await;
            Taken::Other("lost")
        };
        let taken = spool
            .take(key("/lost"), &Method::GET, "caller".into(), || true, pull)
            .await;
        assert!(matches!(taken, Ok(Taken::Other("lost"))), "{number}");
    }
    for route in ["/1", "/2", "/3"] {
        hold(&spool, route, route).await;
    }
    let full = take(&spool, "/4", "4").await;
    assert!(matches!(full, Err(SpoolError::Full { messages: 3, bytes }) if bytes > 0));
    let holding = spool.holding().await.unwrap();
    assert_eq!((holding.messages, holding.perhaps_lost), (3, 4));
}

#[tokio::test]
async fn queues_that_are_not_in_use_are_forgotten_and_their_folders_removed() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    for number in 0..50 {
        claim(take(&spool, &format!("/x/{number}"), "one").await).delivered();
        spool.settled().await;
    }
    let with_a_caller = claim(take(&spool, "/x/kept", "one").await);
    drop(take(&spool, "/x/next", "one").await);
    spool.settled().await;
    let queues = spool.shared.queues.lock().unwrap().len();
    assert!(queues <= 3, "{queues}");
    let folders = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(folders(), 52);
    let spool = spool.shared.clone();
    spool.look(&mut HashSet::new(), SystemTime::now()).unwrap();
    assert_eq!(folders(), 2);
    drop(with_a_caller);
}

#[tokio::test]
async fn a_delivered_message_is_kept_from_its_delivery_and_then_removed() {
    let directory = tempfile::tempdir().unwrap();
    let keep = Duration::from_secs(60);
    let spool = open(&config::Spool {
        keep,
        ..config(Some(directory.path()))
    });
    let claim = claim(take(&spool, "/pull", "one").await);
    let folder = folder(directory.path(), "/pull");
    let file = std::fs::File::open(folder.join(&names(&folder)[0])).unwrap();
    // Pulled long ago, and delivered now.
    file.set_modified(SystemTime::now() - 10 * keep).unwrap();
    claim.delivered();
    spool.settled().await;
    let retained = folder.join("retained");
    assert_eq!(
        (names(&folder), extensions(&retained)),
        (vec![], vec!["done".to_owned()])
    );
    let mut told = HashSet::new();
    let now = SystemTime::now();
    let next = spool.shared.look(&mut told, now).unwrap().next.unwrap();
    assert!(next <= keep && next > keep / 2, "{next:?}");
    assert_eq!(names(&retained).len(), 1);
    assert_eq!(spool.shared.look(&mut told, now + keep).unwrap().next, None);
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
    for second in 0..6 {
        claim(take(&spool, "/pull", kilobyte).await).delivered();
        spool.settled().await;
        let last = names(&retained).pop().unwrap();
        let file = std::fs::File::open(retained.join(last)).unwrap();
        file.set_modified(began + Duration::from_secs(second)).unwrap();
    }
    let all = names(&retained);
    assert!(spool.shared.retains_too_much());
    spool.shared.look(&mut HashSet::new(), SystemTime::now()).unwrap();
    assert_eq!(names(&retained), all[4..], "the newest are left");
    assert!(!spool.shared.retains_too_much());
    assert_eq!(extensions(&folder(directory.path(), "/held")), ["msg"]);

    let full = io::Error::from(io::ErrorKind::StorageFull);
    assert!(
        spool.shared.makes_room(&full).await,
        "retained messages make room on a full disk"
    );
    assert_eq!(names(&retained), Vec::<String>::new());
    assert!(!spool.shared.makes_room(&full).await);
}

#[tokio::test]
async fn a_message_that_waits_for_an_hour_is_told_of_once() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        let mut told = HashSet::new();
        let mut look = |now| {
            let look = spool.shared.look(&mut told, now).unwrap();
            let messages: Vec<_> = look.overdue.iter().map(|queue| queue.messages).collect();
            (look.next, messages)
        };
        let now = SystemTime::now();
        assert_eq!(look(now), (None, vec![]), "nothing is held, and nothing to do");
        hold(&spool, "/pull", "one").await;
        hold(&spool, "/other", "two").await;
        spool.settled().await;
        let (next, overdue) = look(now);
        assert!(next.unwrap() >= hour && next.unwrap() < 2 * hour);
        assert!(overdue.is_empty(), "{overdue:?}");
        assert_eq!(look(now + 2 * hour), (None, vec![1, 1]));
        assert_eq!(look(now + 2 * hour), (None, vec![]));
    }
}
