//! Failures of the spool under a running daemon: the log, the status, the metrics and the response each name the one code,
//! until it works again.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bondgate::simulator::{Fault, Handle, Kind, On, Options, Then};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{NOT_A_CHECK, NOT_A_REQUEST, record};
use crate::harness::{Daemon, Setup, bondgate, finished, simulator};
use crate::spool::{files, message, on_disk, pull, request, spool_command, spool_of};
use crate::wire::{Caller, Message};

/// What keeps a pull from being sent, in the log, the status, the metrics, `bondgate status` and the response.
async fn assert_refused(daemon: &mut Daemon, injection: &str, check: &str, code: &str) {
    let response = pull(daemon).await;
    assert_eq!(response.status(), 503, "{response:?}");
    assert_reported(daemon, injection, check, code, Some(&response)).await;
}

async fn assert_reported(
    daemon: &mut Daemon,
    injection: &str,
    check: &str,
    code: &str,
    response: Option<&Message>,
) {
    if let Some(response) = response {
        let named = format!("\"urn:bondgate:problem:{code}\"");
        assert!(response.text().contains(&named), "{response:?}");
    }
    let status = daemon.status().await;
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    let problems = status["problems"].as_array().unwrap();
    let codes: Vec<_> = problems.iter().map(|problem| &problem["code"]).collect();
    assert_eq!(codes, [code], "{status}");
    assert!(
        problems[0]["call"] == "spool" && problems[0]["since"].is_string(),
        "{status}"
    );
    let metric = format!("bondgate_problem{{call=\"spool\",code=\"{code}\"}} 1");
    assert!(daemon.ask("/metrics").await.body().contains(&metric), "{metric}");
    let mut command = bondgate();
    command.args(["status", "--address", &daemon.admin().to_string()]);
    let shown = finished(command).await;
    assert!(shown.stdout.contains(&format!(" [{code}], since ")), "{shown:?}");
    let seen = response.map_or(NOT_A_REQUEST, |_| code);
    record(injection, "spool", code, [check, code, code, seen]);
}

async fn assert_clear(daemon: &mut Daemon, code: &str) {
    let status = daemon.status().await;
    assert_eq!(status["problems"].as_array().unwrap().len(), 0, "{status}");
    let metrics = daemon.ask("/metrics").await;
    assert!(!metrics.body().contains("bondgate_problem{"), "{metrics:?}");
    daemon.logged(&format!("\"was\":\"{code}\"")).await;
    assert_eq!(daemon.ask("/readyz").await.body(), "ready\n");
}

async fn started(setup: impl FnOnce(&Handle) -> Setup) -> (Handle, Daemon) {
    let cisco = simulator(Options::default()).await;
    let daemon = setup(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    (cisco, daemon)
}

/// The folder of the one queue, once there is one.
async fn folder(daemon: &mut Daemon) -> PathBuf {
    pull(daemon).await;
    daemon.logged("pulled message delivered").await;
    let mut entries = std::fs::read_dir(spool_of(daemon)).unwrap();
    entries.next().unwrap().unwrap().path()
}

fn settings(cisco: &Handle, name: &str, value: &str) -> Setup {
    on_disk(cisco).environment(&format!("BONDGATE__SPOOL__{name}"), value)
}

const AFTER_THE_START: &str = "- it happens after the start";

#[tokio::test]
async fn a_directory_that_goes_away_is_reported_until_it_is_back() {
    let (_cisco, mut daemon) = started(on_disk).await;
    let (spool, away) = (spool_of(&daemon), daemon.directory.path().join("away"));
    std::fs::rename(&spool, &away).unwrap();
    let code = "spool-directory-missing";
    assert_refused(&mut daemon, "directory gone", AFTER_THE_START, code).await;
    std::fs::rename(&away, &spool).unwrap();
    assert_eq!(pull(&daemon).await.text(), message(1));
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_file_size_limit_is_reported_until_it_is_raised() {
    let (_cisco, mut daemon) = started(on_disk).await;
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let limit = |current| {
        let maximum = None;
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum }).unwrap();
    };
    limit(Some(64 << 10));
    let code = "spool-file-size-limit";
    assert_refused(&mut daemon, "file-size limit", AFTER_THE_START, code).await;
    limit(None);
    assert_eq!(pull(&daemon).await.text(), message(1));
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_queues_folder_that_is_a_link_is_reported_until_it_is_a_directory() {
    let (cisco, mut daemon) = started(on_disk).await;
    let (folder, away) = (folder(&mut daemon).await, daemon.directory.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    symlink(&away, &folder).unwrap();
    assert_refused(&mut daemon, "queue is a link", NOT_A_CHECK, "spool-link").await;
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    cisco.put_raw_message("demo", message(2));
    assert_eq!(pull(&daemon).await.text(), message(2));
    assert_clear(&mut daemon, "spool-link").await;
}

#[tokio::test]
async fn a_file_of_a_later_version_is_reported_until_it_is_gone() {
    let (_cisco, mut daemon) = started(on_disk).await;
    let later = folder(&mut daemon).await.join("0000000000000001.0.msg");
    std::fs::write(&later, "{\"format\":2}\n").unwrap();
    pull(&daemon).await;
    let code = "spool-files-unknown";
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    assert_checked(&daemon, code).await;
    assert_reported(&mut daemon, "file of a later version", code, code, None).await;
    std::fs::remove_file(later).unwrap();
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_queue_that_is_no_longer_requested_is_reported_until_it_is_requested_again() {
    let (cisco, mut daemon) = started(on_disk).await;
    abandon(&cisco, &mut daemon).await;
    let config = daemon.directory.path().join("bondgate.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let other = "rules = [{ methods = [\"GET\"], path = \"/other\", consuming = true }]";
    let own = "client_id = \"demo\"";
    std::fs::write(&config, before.replace(own, &format!("{own}\n{other}"))).unwrap();
    daemon.signal("HUP");
    daemon.logged("reload applied").await;
    let code = "spool-queue-unrequested";
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    assert_checked(&daemon, code).await;
    assert_reported(&mut daemon, "path of a pull changed", code, code, None).await;
    std::fs::write(&config, before).unwrap();
    daemon.signal("HUP");
    daemon.logged(&format!("\"was\":\"{code}\"")).await;
    assert_clear(&mut daemon, code).await;
    assert_eq!(pull(&daemon).await.text(), message(1));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_reported_until_it_can() {
    let (_cisco, mut daemon) = started(on_disk).await;
    let folder = folder(&mut daemon).await;
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    let foreign = folder.join(format!("{:016}.0.msg", since.as_micros()));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool-formats/format-1");
    std::fs::copy(fixtures.join("3ff128ed8b6185a9/1764080000000001.0.msg"), &foreign).unwrap();
    std::fs::write(folder.join("moved"), "{").unwrap();
    pull(&daemon).await;
    let code = "spool-file-unusable";
    assert_reported(&mut daemon, "file `moved` damaged", NOT_A_CHECK, code, None).await;
    std::fs::remove_file(folder.join("moved")).unwrap();
    std::fs::remove_file(foreign).unwrap();
    assert_clear(&mut daemon, code).await;
}

/// Checks the configuration beside its daemon.
async fn assert_checked(daemon: &Daemon, code: &str) {
    let mut check = bondgate();
    let config = daemon.directory.path().join("bondgate.toml");
    check.args(["check", "--json", "--config"]).arg(config);
    let checked = finished(check).await;
    assert!(
        checked.stdout.contains(&format!("\"code\": \"{code}\"")),
        "{checked:?}"
    );
}

#[tokio::test]
async fn a_message_that_waits_for_an_hour_is_reported_until_it_is_gone() {
    let (_cisco, mut daemon) = started(on_disk).await;
    let old = folder(&mut daemon).await.join("0000000000000001.0.msg");
    std::fs::write(&old, "pulled in 1970").unwrap();
    daemon.status().await;
    let code = "messages-overdue";
    assert_reported(&mut daemon, "message waits for an hour", NOT_A_CHECK, code, None).await;
    std::fs::remove_file(old).unwrap();
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_damaged_file_is_reported_until_it_is_discarded() {
    let (cisco, mut daemon) = started(on_disk).await;
    // A caller that is gone leaves the message in its queue.
    abandon(&cisco, &mut daemon).await;
    let stored = files(&spool_of(&daemon), "msg").remove(0);
    let mut bytes = std::fs::read(&stored).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    pull(&daemon).await;
    let code = "spool-files-damaged";
    assert_reported(&mut daemon, "damaged file", NOT_A_CHECK, code, None).await;
    discard(&daemon).await;
    assert_clear(&mut daemon, code).await;
}

/// Pulls, and disconnects before the response arrives.
async fn abandon(cisco: &Handle, daemon: &mut Daemon) {
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 200 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    crate::harness::seen_when(cisco, |seen| seen.iter().any(crate::spool::is_pull)).await;
    caller.reset();
    daemon
        .logged("caller disconnected before its message arrived")
        .await;
}

/// Discards the one message that is listed.
async fn discard(daemon: &Daemon) {
    let listed = spool_command(daemon, &["list"]).await;
    let name = listed.stdout.split_whitespace().find(|word| word.contains('/'));
    let name = name.unwrap_or_else(|| panic!("{listed:?}"));
    let discarded = spool_command(daemon, &["discard", name]).await;
    assert_eq!(discarded.code, Some(0), "{discarded:?}");
}

#[tokio::test]
async fn a_message_that_may_be_lost_is_reported_until_it_is_discarded() {
    let (cisco, mut daemon) = started(on_disk).await;
    cisco.script(Fault::on(On::Pull, Kind::Half { then: Then::Reset }));
    pull(&daemon).await;
    // A whole response ends what the API has of it.
    pull(&daemon).await;
    let code = "messages-lost";
    assert_reported(&mut daemon, "message lost", NOT_A_CHECK, code, None).await;
    discard(&daemon).await;
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_full_spool_is_reported_until_a_message_is_taken() {
    for (name, value, setup, code) in [
        ("MESSAGES", "1", on_disk as fn(&Handle) -> Setup, "spool-full"),
        ("MEMORY", "60B", Setup::at, "spool-memory-full"),
    ] {
        let variable = format!("BONDGATE__SPOOL__{name}");
        let (_cisco, mut daemon) = started(|cisco| setup(cisco).environment(&variable, value)).await;
        let mut holder = Caller::to(daemon.address()).await;
        holder.say(request("GET")).await;
        assert_eq!(holder.message().await.text(), message(1));
        let injection = format!("spool.{} reached", name.to_ascii_lowercase());
        assert_refused(&mut daemon, &injection, NOT_A_CHECK, code).await;
        holder.finish().await;
        daemon.logged("pulled message delivered").await;
        assert_clear(&mut daemon, code).await;
    }
}

#[tokio::test]
async fn a_message_that_is_larger_than_the_memory_is_named_in_the_log() {
    let memory = "BONDGATE__SPOOL__MEMORY";
    let (_cisco, mut daemon) = started(|cisco| Setup::at(cisco).environment(memory, "10B")).await;
    assert_eq!(pull(&daemon).await.text(), message(1));
    let code = "message-not-stored";
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    let passed = "- its caller gets the message";
    let places = [NOT_A_CHECK, code, "- it is over with the message", passed];
    record("message larger than spool.memory", "spool", code, places);
}

#[tokio::test]
async fn a_spool_that_is_nearly_full_is_reported() {
    let (cisco, mut daemon) = started(|cisco| settings(cisco, "BYTES", "500B")).await;
    abandon(&cisco, &mut daemon).await;
    let code = "spool-nearly-full";
    assert_reported(&mut daemon, "spool.bytes nearly reached", NOT_A_CHECK, code, None).await;
    pull(&daemon).await;
    daemon.logged("pulled message delivered").await;
    assert_clear(&mut daemon, code).await;
}

#[tokio::test]
async fn a_dead_letter_is_reported_until_it_is_requeued() {
    let (cisco, mut daemon) = started(|cisco| on_disk(cisco).and("pauses = [\"0s\"]\n")).await;
    let long = |number| message(number).replace("INC", &"x".repeat(24 << 20));
    pull(&daemon).await;
    cisco.put_raw_message("demo", long(1));
    cisco.put_raw_message("demo", message(2));
    for failure in 1..=5 {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        assert_eq!(caller.head().await.status(), 200);
        caller.reset();
        daemon.logged_times("will be redelivered", failure).await;
    }
    let code = "messages-failing";
    assert_reported(&mut daemon, "message fails five times", NOT_A_CHECK, code, None).await;
    assert_eq!(pull(&daemon).await.text(), message(2));
    daemon.logged("message set aside as a dead letter").await;
    assert_reported(&mut daemon, "dead letter", NOT_A_CHECK, "dead-letters", None).await;
    let requeued = spool_command(&daemon, &["requeue", "--dead-letters"]).await;
    assert_eq!(requeued.code, Some(0), "{requeued:?}");
    assert_eq!(pull(&daemon).await.text(), long(1));
    daemon.logged_times("pulled message delivered", 3).await;
    assert_clear(&mut daemon, "dead-letters").await;
}

#[tokio::test]
async fn a_queue_that_another_process_keeps_locked_is_reported_until_it_is_free() {
    let head = "BONDGATE__UPSTREAM__CISCO__TIMEOUT__HEAD";
    let setup = |cisco: &Handle| settings(cisco, "SETTLE", "200ms").environment(head, "5s");
    let (cisco, mut daemon) = started(setup).await;
    let lock = std::fs::File::open(folder(&mut daemon).await.join("turn")).unwrap();
    lock.lock().unwrap();
    cisco.put_raw_message("demo", message(2));
    assert_refused(
        &mut daemon,
        "queue locked by another process",
        NOT_A_CHECK,
        "spool-locked",
    )
    .await;
    drop(lock);
    assert_eq!(pull(&daemon).await.text(), message(2));
    assert_clear(&mut daemon, "spool-locked").await;
}

/// A daemon in a mount namespace, after `mount` was run for its spool's directory.
async fn mounted(cisco: &Handle, mount: &str) -> Daemon {
    let setup = on_disk(cisco);
    let spool = setup.directory.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let program = |subcommand: &str| {
        let file = setup.config_file();
        format!(
            "{} {subcommand} --config {}",
            env!("CARGO_BIN_EXE_bondgate"),
            file.display()
        )
    };
    let inside = format!(
        "{}; {} --json > {}; exec {}",
        mount.replace("SPOOL", spool.to_str().unwrap()),
        program("check"),
        setup.directory.path().join("checked").display(),
        program("run"),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &inside]);
    let mut daemon = Daemon::spawn(command, setup.directory);
    daemon.logged("token acquired").await;
    daemon
}

fn checked(directory: &Path, code: &str) {
    let text = std::fs::read_to_string(directory.join("checked")).unwrap();
    assert!(text.contains(&format!("\"code\": \"{code}\"")), "{text}");
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_full_and_a_read_only_disk_are_reported_by_check_log_status_and_response() {
    for (injection, mount, code) in [
        (
            "disk full",
            "mount -t tmpfs -o size=1m,mode=700 tmpfs SPOOL",
            "spool-disk-full",
        ),
        (
            "read-only disk",
            "mount --bind SPOOL SPOOL && mount -o remount,bind,ro SPOOL",
            "spool-read-only",
        ),
    ] {
        let cisco = simulator(Options::default()).await;
        let mut daemon = mounted(&cisco, mount).await;
        checked(daemon.directory.path(), code);
        assert_refused(&mut daemon, injection, code, code).await;
    }
}
