//! Kills and stops of the daemon during pulls and deliveries, and two daemons on one directory.

use bondgate::simulator::{Fault, Kind, On, Options};

use super::{ask, files, is_pull, is_redelivered, message, on_disk, pull, request};
use crate::harness::{Daemon, Setup, seen_when, simulator};
use crate::wire::Caller;

/// Another daemon on the directory of an ended one.
async fn again(cisco: &bondgate::simulator::Handle, ended: &Daemon) -> Daemon {
    let directory = ended.directory.path().join("spool");
    Setup::at(cisco)
        .and(&format!("[spool]\ndirectory = {directory:?}\n"))
        .start()
        .await
}

#[tokio::test]
async fn a_kill_before_a_message_is_delivered_loses_nothing() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    cisco.put_raw_message("demo", large.clone());
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    assert_eq!(caller.head().await.status(), 200);
    daemon.signal("KILL");
    daemon.ended().await;
    let mut next = again(&cisco, &daemon).await;
    next.logged("wait in the spool").await;
    let got = pull(&next).await;
    assert!(got.body == large.as_bytes() && is_redelivered(&got));
}

#[tokio::test]
async fn a_kill_while_a_pull_is_at_cisco_is_reported_at_the_next_start() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Hang).after_effect());
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    daemon.signal("KILL");
    daemon.ended().await;
    let mut next = again(&cisco, &daemon).await;
    next.logged("a message may be lost: its pull was sent").await;
    assert!(pull(&next).await.text().contains("No messages available"));
    next.signal("TERM");
    assert_eq!(next.ended().await.code(), Some(0));
    // It is reported once.
    let third = again(&cisco, &daemon).await;
    assert!(
        !third
            .log()
            .iter()
            .any(|line| line.contains("a message may be lost"))
    );
}

#[tokio::test]
async fn a_stop_waits_for_a_pull_and_stores_its_message() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 500 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    caller.reset();
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let spool = daemon.directory.path().join("spool");
    assert_eq!(files(&spool, "msg").len(), 1);
    let next = again(&cisco, &daemon).await;
    assert_eq!(pull(&next).await.text(), message(1));
}

#[tokio::test]
async fn a_pull_that_a_stop_cuts_off_is_reported_with_a_directory_and_without() {
    for is_on_disk in [true, false] {
        let cisco = simulator(Options::default()).await;
        let setup = if is_on_disk {
            on_disk(&cisco)
        } else {
            Setup::at(&cisco)
        };
        let mut daemon = setup
            .environment("BONDGATE__SERVER__DRAIN", "1s")
            .environment("BONDGATE__SERVER__LAME_DUCK", "0s")
            .start()
            .await;
        cisco.put_raw_message("demo", message(1));
        cisco.script(Fault::on(On::Pull, Kind::Hang).after_effect());
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
        daemon.signal("TERM");
        caller.message().await.is_ours(504, "bondgate is stopping");
        assert_eq!(daemon.ended().await.code(), Some(1));
        daemon.logged("a message may be lost: its pull was sent").await;
        let spool = daemon.directory.path().join("spool");
        assert_eq!(files(&spool, "lost").len(), usize::from(is_on_disk));
    }
}

#[tokio::test]
async fn two_daemons_on_one_directory_deliver_no_message_twice_and_never_pull_at_once() {
    let cisco = simulator(Options::default()).await;
    let one = on_disk(&cisco).start().await;
    let two = again(&cisco, &one).await;
    for number in 0..30 {
        cisco.put_raw_message("demo", message(number));
    }
    let open = |seen: &[bondgate::simulator::Seen]| {
        let pulls = seen.iter().filter(|seen| is_pull(seen));
        pulls
            .filter(|seen| seen.status.is_none() && !seen.abandoned)
            .count()
    };
    let watched = cisco.clone();
    let watch = tokio::spawn(async move { watched.wait_for(|seen| open(seen) > 1).await });
    let mut callers = tokio::task::JoinSet::new();
    for address in [one.address(), two.address(), one.address()] {
        callers.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..10 {
                let mut caller = Caller::to(address).await;
                got.push(ask(&mut caller).await.text().to_owned());
                caller.finish().await;
                caller.is_over().await;
            }
            got
        });
    }
    let mut got = callers.join_all().await.concat();
    got.sort();
    assert_eq!(got, (0..30).map(message).collect::<Vec<_>>());
    watch.abort();
    assert!(
        watch.await.unwrap_err().is_cancelled(),
        "two pulls were at Cisco at once"
    );
}

#[tokio::test]
async fn a_message_that_one_daemon_failed_to_deliver_is_delivered_by_the_other() {
    let cisco = simulator(Options::default()).await;
    let mut one = on_disk(&cisco).start().await;
    let two = again(&cisco, &one).await;
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    cisco.put_raw_message("demo", large.clone());
    let mut caller = Caller::to(one.address()).await;
    caller.say(request("GET")).await;
    caller.head().await;
    caller.reset();
    one.logged("delivery failed, message will be redelivered").await;
    let got = pull(&two).await;
    assert!(got.body == large.as_bytes() && is_redelivered(&got));
}

#[tokio::test]
async fn a_queue_is_identified_by_its_path_at_cisco_whatever_part_of_it_is_in_url() {
    let cisco = simulator(Options::default()).await;
    let url = format!("{}/sb-partner-oauth-proxy-api/rest/v1/pull", cisco.url());
    let rules = "rules = [{ methods = [\"GET\"], path = \"/call\", consuming = true }]";
    let setup = Setup::apart(&cisco, &url, "", rules);
    let directory = setup.directory.path().join("spool");
    let mut one = setup
        .and(&format!("[spool]\ndirectory = {directory:?}\n"))
        .start()
        .await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 300 }));
    let mut caller = Caller::to(one.address()).await;
    caller.say("GET /call HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    caller.reset();
    one.logged("caller disconnected before its message arrived").await;
    one.signal("TERM");
    one.ended().await;
    let two = again(&cisco, &one).await;
    let got = pull(&two).await;
    assert_eq!((got.text(), is_redelivered(&got)), (message(1).as_str(), true));
}
