//! The bounds of the spool: what it refuses, what it reports, and what it leaves to an operator.

use bondgate::simulator::{Fault, Kind, On, Options, Then};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::{
    abandon, ask, files, is_pull, is_redelivered, message, on_disk, pull, pulls, request, spool_command,
    spool_of,
};
use crate::harness::{Daemon, Setup, seen_when, simulator};
use crate::wire::Caller;

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.ask("/metrics").await;
    let line = metrics
        .body()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {metrics:?}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_message_that_fails_five_times_is_a_dead_letter_once_the_next_one_is_delivered() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).and("pauses = [\"0s\"]\n").start().await;
    let poison = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    cisco.put_raw_message("demo", poison);
    cisco.put_raw_message("demo", message(2));
    for _ in 0..5 {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        assert_eq!(caller.head().await.status(), 200);
        caller.reset();
    }
    daemon
        .logged_times("delivery failed, message will be redelivered", 5)
        .await;
    let failing = daemon.status().await["spool"].take();
    assert_eq!(
        (&failing["failing"], &failing["set_aside"]),
        (&1.into(), &0.into()),
        "{failing}"
    );
    assert_eq!(pull(&daemon).await.text(), message(2));
    daemon.logged("message set aside as a dead letter").await;
    assert_eq!(files(&spool_of(&daemon), "dead").len(), 1);
    assert_eq!(metric(&daemon, "bondgate_spool_set_aside_total").await, 1);

    let listed = spool_command(&daemon, &["list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(listed.stdout.contains("dead letter after 5"), "{listed:?}");
    assert!(
        listed
            .stdout
            .contains("run `bondgate spool requeue NAME --config "),
        "{listed:?}"
    );
    let id = listed
        .stdout
        .split_whitespace()
        .find(|word| word.contains('/'))
        .unwrap()
        .to_owned();
    daemon.logged(&format!("\"name\":\"{id}\"")).await;
    let shown = spool_command(&daemon, &["show", &id]).await;
    assert!(shown.stdout.contains("xxxx"), "{}", shown.stderr);
    let discarded = spool_command(&daemon, &["discard", &id]).await;
    assert_eq!(discarded.code, Some(0), "{discarded:?}");
    assert!(files(&spool_of(&daemon), "dead").is_empty());
    let again = spool_command(&daemon, &["discard", &id]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("bondgate spool list"), "{again:?}");
}

#[tokio::test]
async fn a_full_spool_refuses_pulls_with_the_reason_until_a_message_is_delivered() {
    for is_on_disk in [true, false] {
        let cisco = simulator(Options::default()).await;
        let setup = if is_on_disk {
            on_disk(&cisco)
        } else {
            Setup::at(&cisco)
        };
        let mut daemon = setup.environment("BONDGATE__SPOOL__MESSAGES", "1").start().await;
        for number in 1..=3 {
            cisco.put_raw_message("demo", message(number));
        }
        let mut holder = Caller::to(daemon.address()).await;
        assert_eq!(ask(&mut holder).await.text(), message(1));
        let full = pull(&daemon).await;
        full.is_ours(503, "the spool is full with 1 messages");
        assert_eq!(full.field("retry-after"), Some("1"));
        assert_eq!(pulls(&cisco), 1);
        holder.finish().await;
        daemon.logged("pulled message delivered").await;
        assert_eq!(pull(&daemon).await.text(), message(2));
    }
}

#[tokio::test]
async fn a_message_larger_than_the_memory_bound_is_passed_through_and_counted() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SPOOL__MEMORY", "64KiB")
        .start()
        .await;
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(1 << 20));
    cisco.put_raw_message("demo", large.clone());
    assert!(pull(&daemon).await.body == large.as_bytes());
    daemon.logged("cannot be stored and is passed through").await;
    assert_eq!(metric(&daemon, "bondgate_spool_passed_through_total").await, 1);
    cisco.put_raw_message("demo", message(2));
    assert_eq!(pull(&daemon).await.text(), message(2));
}

#[tokio::test]
async fn a_message_that_is_not_stored_is_reported_as_lost_if_its_caller_disconnects_before_its_end() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SPOOL__MEMORY", "64KiB")
        .start()
        .await;
    let lost = "bondgate_spool_perhaps_lost_total";
    // More than the sockets' buffers take.
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    for _ in 0..3 {
        cisco.put_raw_message("demo", large.clone());
    }
    abandon(&cisco, &mut daemon, 1).await;
    daemon.logged_times("a message may be lost", 1).await;
    assert_eq!(metric(&daemon, lost).await, 1);

    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    assert_eq!(caller.head().await.status(), 200);
    caller.take(1000).await;
    caller.reset();
    daemon.logged_times("a message may be lost", 2).await;
    assert_eq!(metric(&daemon, lost).await, 2);

    assert!(pull(&daemon).await.body == large.as_bytes());
    assert_eq!(metric(&daemon, lost).await, 2);
}

#[tokio::test]
async fn a_small_message_that_is_not_stored_is_lost_if_its_caller_resets_before_reading_but_for_a_whole_file()
{
    for is_on_disk in [true, false] {
        let cisco = simulator(Options::default()).await;
        let setup = if is_on_disk {
            on_disk(&cisco)
        } else {
            Setup::at(&cisco).environment("BONDGATE__SPOOL__MEMORY", "10B")
        };
        let mut daemon = setup.start().await;
        let spool = spool_of(&daemon);
        let lost = "bondgate_spool_perhaps_lost_total";
        cisco.put_raw_message("demo", message(1));
        cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 500 }));
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
        // A folder in its place keeps the message from being stored.
        for pull in files(&spool, "pull") {
            std::fs::create_dir(pull.with_extension("msg")).unwrap();
        }
        daemon.logged("cannot be stored and is passed through").await;
        caller.reset();
        if is_on_disk {
            for folder in files(&spool, "msg") {
                std::fs::remove_dir(folder).unwrap();
            }
            let again = pull(&daemon).await;
            assert_eq!(
                (again.text(), is_redelivered(&again)),
                (message(1).as_str(), true)
            );
        } else {
            daemon.logged("a message may be lost").await;
        }
        cisco.put_raw_message("demo", message(2));
        assert_eq!(pull(&daemon).await.text(), message(2));
        assert_eq!(metric(&daemon, lost).await, u64::from(!is_on_disk));
        assert!(files(&spool, "lost").is_empty());
    }
}

#[tokio::test]
async fn a_caller_that_crashes_in_a_loop_is_paused_if_its_messages_are_not_stored() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .and("[spool]\nmemory = \"64KiB\"\npauses = [\"0s\", \"1h\"]\n")
        .start()
        .await;
    // More than the sockets' buffers take.
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    for _ in 0..3 {
        cisco.put_raw_message("demo", large.clone());
    }
    for crash in 1..=2 {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        assert_eq!(caller.head().await.status(), 200);
        caller.reset();
        let failed = "delivery of a message that is not stored failed";
        daemon.logged_times(failed, crash).await;
    }
    let reason = "the next message is paused for caller 127.0.0.1 after failed deliveries (2)";
    pull(&daemon).await.is_ours(503, reason);
    assert_eq!(pulls(&cisco), 2);
}

#[tokio::test]
async fn a_slow_reader_of_a_message_that_is_not_stored_does_not_hold_its_queue_up() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SPOOL__MEMORY", "64KiB")
        .start()
        .await;
    // More than the sockets' buffers take.
    cisco.put_raw_message("demo", format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20)));
    cisco.put_raw_message("demo", message(2));
    let mut slow = Caller::to(daemon.address()).await;
    slow.say(request("GET")).await;
    assert_eq!(slow.head().await.status(), 200);
    assert_eq!(pull(&daemon).await.text(), message(2));
    slow.reset();
    daemon.logged_times("a message may be lost", 1).await;
}

#[tokio::test]
async fn a_stop_waits_until_its_deadline_for_a_reader_of_a_message_that_is_not_stored() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SPOOL__MEMORY", "10KiB")
        .environment("BONDGATE__SERVER__DRAIN", "2s")
        .start()
        .await;
    cisco.put_raw_message("demo", format!("{{\"Calls\":\"{}\"}}", "x".repeat(40 << 10)));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Caller::over(socket.connect(daemon.address()).await.unwrap());
    slow.say(request("GET")).await;
    assert_eq!(slow.head().await.status(), 200);
    daemon.logged("request completed").await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(1));
    daemon.logged("stopped before every request was finished").await;
    daemon.logged("a message may be lost").await;
}

#[tokio::test]
async fn a_message_that_is_not_stored_and_that_the_upstream_breaks_off_is_reported_with_that_reason() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SPOOL__MEMORY", "64KiB")
        .start()
        .await;
    cisco.put_raw_message("demo", format!("{{\"Calls\":\"{}\"}}", "x".repeat(4 << 20)));
    cisco.script(Fault::on(On::Pull, Kind::Half { then: Then::Reset }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    daemon.logged("a message may be lost").await;
    let log = daemon.log();
    let is_lost = |line: &&String| line.contains("a message may be lost");
    let line = log.iter().find(is_lost).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let reason = line["reason"].as_str().unwrap();
    assert!(!reason.contains("caller"), "{line}");
    drop(caller);
}

#[tokio::test]
async fn an_upstream_that_cuts_a_message_off_is_reported_with_time_and_route() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Half { then: Then::Reset }));
    pull(&daemon).await.is_ours(502, "may be lost");
    daemon.logged("a message may be lost").await;
    let log = daemon.log();
    let line = log
        .iter()
        .find(|line| line.contains("a message may be lost"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["queue"]
            .as_str()
            .unwrap()
            .contains("/rest/v1/pull/call for client demo"),
        "{line}"
    );
    assert!(line["pulled"].as_str().unwrap().ends_with('Z'), "{line}");
    assert_eq!(files(&spool_of(&daemon), "lost").len(), 1);
    cisco.put_raw_message("demo", message(2));
    let next = pull(&daemon).await;
    assert_eq!((next.text(), is_redelivered(&next)), (message(2).as_str(), false));
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_the_next_message_is_delivered() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    abandon(&cisco, &mut daemon, 1).await;
    // Its file is damaged before the next pull.
    let spool = spool_of(&daemon);
    let damaged = async {
        while files(&spool, "msg").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, damaged)
        .await
        .unwrap();
    let file = &files(&spool, "msg")[0];
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
    cisco.put_raw_message("demo", message(2));
    assert_eq!(pull(&daemon).await.text(), message(2));
    daemon.logged("is damaged and is not delivered").await;
    assert_eq!(files(&spool, "bad").len(), 1);
}

#[tokio::test]
async fn message_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    ask(&mut caller).await;
    let spool = spool_of(&daemon);
    let file = files(&spool, "msg").remove(0);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&spool), 0o700);
}

#[tokio::test]
async fn the_admin_listener_shows_what_is_held() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    assert_eq!(metric(&daemon, "bondgate_spool_messages").await, 0);
    cisco.put_raw_message("demo", message(1));
    abandon(&cisco, &mut daemon, 1).await;
    daemon
        .logged("caller disconnected before its message arrived")
        .await;
    let held = daemon.status().await["spool"].take();
    assert_eq!(held["messages"], 1, "{held}");
    assert!(held["bytes"].as_u64().unwrap() > 0, "{held}");
    assert!(held["oldest"].as_str().unwrap().ends_with('Z'), "{held}");
    assert_eq!(metric(&daemon, "bondgate_spool_messages").await, 1);
    let metrics = daemon.ask("/metrics").await;
    let oldest = "\nbondgate_spool_oldest_timestamp_seconds 1";
    assert!(metrics.body().contains(oldest), "{metrics:?}");
    pull(&daemon).await;
    daemon.logged("pulled message delivered").await;
    assert_eq!(daemon.status().await["spool"]["messages"], 0);
}

#[tokio::test]
async fn a_directory_writable_by_every_user_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let cisco = simulator(Options::default()).await;
    let setup = on_disk(&cisco);
    let spool = setup.directory.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut daemon = setup.start().await;
    daemon
        .logged("every user of this machine may write in the spool's directory")
        .await;
}

#[tokio::test]
async fn a_delivered_message_is_removed_after_spool_keep() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco)
        .environment("BONDGATE__SPOOL__KEEP", "2s")
        .start()
        .await;
    cisco.put_raw_message("demo", message(1));
    pull(&daemon).await;
    daemon.logged("pulled message delivered").await;
    let spool = spool_of(&daemon);
    assert_eq!(files(&spool, "done").len(), 1);
    let removed = async {
        while !files(&spool, "done").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, removed)
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_read_only_disk_takes_no_pull_and_stops_nothing_else() {
    let cisco = simulator(Options::default()).await;
    cisco.put_raw_message("demo", message(1));
    let setup = on_disk(&cisco);
    let spool = setup.directory.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let inside = format!(
        "mount --bind {spool} {spool} && mount -o remount,bind,ro {spool} && exec {program} run --config {file}",
        spool = spool.display(),
        program = env!("CARGO_BIN_EXE_bondgate"),
        file = setup.config_file().display(),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &inside]);
    let mut daemon = Daemon::spawn(command, setup.directory);
    daemon.logged("is on a read-only disk").await;
    daemon.logged("token acquired").await;
    pull(&daemon).await.is_ours(503, "is on a read-only disk");
    assert_eq!((pulls(&cisco), cisco.queue_len()), (0, 1));
    let push = daemon
        .send(format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
            crate::harness::PUSH
        ))
        .await;
    assert_eq!(push.status(), 200);
}

#[tokio::test]
async fn a_queues_folder_that_is_a_link_is_logged_once_and_does_not_change_the_readiness() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    assert!(pull(&daemon).await.text().contains("No messages available"));
    let spool = spool_of(&daemon);
    let folder = std::fs::read_dir(&spool).unwrap().next().unwrap().unwrap().path();
    let moved = daemon.directory.path().join("moved");
    std::fs::rename(&folder, &moved).unwrap();
    std::os::unix::fs::symlink(moved, &folder).unwrap();
    for _ in 0..2 {
        pull(&daemon).await.is_ours(
            503,
            "is a symbolic link; nothing is pulled for its queue; replace it by a directory",
        );
    }
    let ready = daemon.ask("/readyz").await;
    assert_eq!(ready.status(), 200, "{ready:?}");
    daemon.signal("TERM");
    daemon.ended().await;
    let log = daemon.log();
    let lines = log.iter().filter(|line| {
        line.contains("is a symbolic link; nothing is pulled") && line.contains("\"spool problem\"")
    });
    let errors = lines.filter(|line| line.contains("\"level\":\"ERROR\""));
    assert_eq!(errors.count(), 1, "{log:?}");
}
