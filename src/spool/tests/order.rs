//! The order in which messages are delivered, and what a request waits for.

use super::*;

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
