//! Pauses and dead letters after failed deliveries.

use super::*;

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
        assert_eq!(codes(&spool), ["dead-letters"]);
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
        assert_eq!(codes(&spool), ["caller-takes-nothing", "messages-failing"]);
        for _ in 0..3 {
            assert_eq!(fail(&spool, "third").await, "first");
            assert_eq!(fail(&spool, "third").await, "second", "no third one is pulled");
        }
        assert_eq!(spool.totals().await.unwrap().set_aside, 0);
        if let Some(place) = place {
            let again = open(&config(Some(place)));
            assert_eq!(codes(&again), ["messages-failing"]);
        }
        assert_eq!(succeed(&spool, "third").await, "first");
        assert_eq!(codes(&spool), [""; 0]);
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
    let id = spool.shared.store.last_id(&queue("/pull")).unwrap().unwrap();
    let store = &spool.shared.store;
    assert!(store.make_dead_letter(&queue("/pull"), id).unwrap().is_some());
    delivery.record(true).await;
    let totals = spool.totals().await.unwrap();
    assert_eq!((totals.messages, totals.set_aside), (0, 0));
}
