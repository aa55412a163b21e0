//! What the end of a daemon loses: messages in memory, or in a directory that does not outlive its pod.

use std::path::Path;

use bondgate::simulator::{Handle, Options};
use serde_json::Value;

use super::{abandon, is_redelivered, message, on_disk, pull};
use crate::harness::{Daemon, Setup, simulator};

#[tokio::test]
async fn messages_in_memory_are_reported_at_the_end_and_the_exit_code_is_1() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    daemon
        .logged("are held in memory until they are delivered, and are lost when")
        .await;
    cisco.put_raw_message("demo", message(1));
    abandon(&cisco, &mut daemon, 1).await;
    daemon.signal("TERM");
    let ended = daemon.ended().await;
    assert_eq!(ended.code(), Some(1));
    daemon.logged("received, lost with bondgate's memory: 1").await;
    is_named(&daemon);
}

/// The log of an end names the message that is lost.
fn is_named(daemon: &Daemon) {
    let log = daemon.log();
    let mut lines = log
        .iter()
        .filter(|line| line.contains("\"undelivered message is lost\""));
    let line: Value = serde_json::from_str(lines.next().expect("the message is named")).unwrap();
    assert!(lines.next().is_none(), "{log:?}");
    assert_eq!(line["level"], "ERROR");
    let queue = line["queue"].as_str().unwrap();
    assert!(queue.ends_with("/rest/v1/pull/call for client demo"), "{line}");
    assert!(line["pulled"].as_str().unwrap().ends_with('Z'), "{line}");
    let name = line["name"].as_str().unwrap();
    assert_eq!(
        name.split('/').map(str::len).collect::<Vec<_>>(),
        [16, 16],
        "{line}"
    );
}

/// A daemon whose spool does not outlive its pod.
fn in_a_pod(cisco: &Handle, directory: &Path) -> Setup {
    Setup::at(cisco).and(&format!(
        "[spool]\ndirectory = {directory:?}\npersistent = false\n"
    ))
}

#[tokio::test]
async fn messages_in_a_directory_that_does_not_outlive_its_pod_are_reported_at_the_end_and_the_exit_code_is_1()
 {
    let cisco = simulator(Options::default()).await;
    let pod = tempfile::tempdir().unwrap();
    let directory = pod.path().join("spool");
    let mut daemon = in_a_pod(&cisco, &directory).start().await;
    daemon.logged("\"problem\":\"spool-not-persistent\"").await;
    cisco.put_raw_message("demo", message(1));
    abandon(&cisco, &mut daemon, 1).await;
    daemon.signal("TERM");
    let ended = daemon.ended().await;
    assert_eq!(ended.code(), Some(1));
    daemon.logged("\"problem\":\"undelivered-messages-lost\"").await;
    is_named(&daemon);
    drop(daemon);

    // A container that is restarted in the same pod delivers it, and a stop then loses nothing.
    let mut daemon = in_a_pod(&cisco, &directory).start().await;
    let again = pull(&daemon).await;
    assert_eq!(
        (again.text(), is_redelivered(&again)),
        (message(1).as_str(), true)
    );
    daemon.logged("message delivered").await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let log = daemon.log().join("\n");
    assert!(!log.contains("undelivered"), "{log}");
}

#[tokio::test]
async fn messages_in_a_persistent_directory_are_not_lost_at_the_end() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    abandon(&cisco, &mut daemon, 1).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let log = daemon.log().join("\n");
    assert!(!log.contains("undelivered message"), "{log}");
}
