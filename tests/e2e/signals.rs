//! Each signal does what the README says, in the middle of a pull too.
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bondgate::simulator::{Fault, Handle, Kind, On, Options};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Daemon, PATIENCE, Setup, seen_when, simulator};
use crate::spool::{is_pull, message, on_disk, pull, pulls, request};
use crate::wire::{Caller, Message};

/// Linux's names, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Numbers without a name, from SIGRTMIN on; those before are the C library's own.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The signals of each row of the README's table, by number, and what the row says of them.
fn documented() -> Vec<(Vec<i32>, &'static str)> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n### Signals\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let rows = section.lines().filter_map(|line| {
        let (signals, what) = line.strip_prefix("| SIG")?.split_once(" | ")?;
        let mut numbers = Vec::new();
        for name in signals.split(", ").map(|name| name.trim_start_matches("SIG")) {
            if name == "RTMIN to SIGRTMAX" {
                numbers.extend(REAL_TIME);
            } else {
                let at = NAMES.iter().position(|known| *known == name);
                numbers.push(1 + i32::try_from(at.expect(name)).unwrap());
            }
        }
        Some((numbers, what))
    });
    rows.collect()
}

/// The signals of which the README says something that begins with this.
fn signals(what: &str) -> Vec<i32> {
    let rows = documented();
    let found: Vec<i32> = rows
        .into_iter()
        .filter(|(_, said)| said.starts_with(what))
        .flat_map(|(numbers, _)| numbers)
        .collect();
    assert!(!found.is_empty(), "{what:?} is not in the README");
    found
}

fn kill(daemon: &Daemon, signals: &[i32]) {
    let id = daemon.id();
    let kill: Vec<_> = signals
        .iter()
        .map(|signal| format!("kill -{signal} {id}"))
        .collect();
    let kill = kill.join(" && ");
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "{signals:?}");
}

/// A daemon with a pull at the simulator whose answer, message 1, takes a while.
async fn pulling() -> (Handle, Daemon, JoinHandle<Message>) {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 1000 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    let answer = tokio::spawn(async move { caller.message().await });
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    (cisco, daemon, answer)
}

async fn assert_brings(answer: JoinHandle<Message>, number: usize, what: &str) {
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect(what).unwrap();
    assert_eq!(
        (answer.status(), answer.text()),
        (200, message(number).as_str()),
        "{what}"
    );
}

#[test]
fn the_readme_says_of_each_signal_once_what_it_does() {
    let mut documented: Vec<i32> = documented()
        .into_iter()
        .flat_map(|(numbers, _)| numbers)
        .collect();
    documented.sort_unstable();
    assert_eq!(documented, (1..=31).chain(REAL_TIME).collect::<Vec<_>>());
}

#[tokio::test]
async fn signals_that_do_nothing_do_nothing_to_a_pull_and_those_that_pause_only_pause() {
    let (cisco, daemon, answer) = pulling().await;
    kill(&daemon, &signals("none"));
    for signal in signals("suspend") {
        kill(&daemon, &[signal]);
        kill(&daemon, &signals("continue"));
    }
    assert_brings(answer, 1, "signals that do nothing").await;
    cisco.put_raw_message("demo", message(2));
    assert_eq!(pull(&daemon).await.text(), message(2));
    kill(&daemon, &signals("none"));
    assert_eq!(daemon.ask("/livez").await.status(), 200);
}

#[tokio::test]
async fn signals_that_reload_or_reopen_leave_a_pull_alone() {
    let (_cisco, mut daemon, answer) = pulling().await;
    kill(&daemon, &signals("reopen"));
    for signal in signals("reload") {
        kill(&daemon, &[signal]);
    }
    assert_brings(answer, 1, "signals that reload or reopen").await;
    daemon.logged("reload found no changes").await;
}

#[tokio::test]
async fn signals_that_stop_finish_a_pull_first() {
    let mut runs = JoinSet::new();
    for signal in signals("[stop in order]")
        .into_iter()
        .chain(signals("stop in order"))
    {
        runs.spawn(async move {
            let (_cisco, mut daemon, answer) = pulling().await;
            kill(&daemon, &[signal]);
            assert_brings(answer, 1, &format!("signal {signal}")).await;
            assert_eq!(daemon.ended().await.code(), Some(0), "signal {signal}");
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn signals_of_a_crash_end_the_daemon_at_once() {
    let mut runs = JoinSet::new();
    for signal in signals("end at once") {
        runs.spawn(async move {
            let cisco = simulator(Options::default()).await;
            let mut daemon = Setup::at(&cisco).start().await;
            // Two that come at once are one: it is sent until it has been heard twice.
            let id = daemon.id();
            let insisting = tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(50));
                loop {
                    pace.tick().await;
                    let kill = format!("kill -{signal} {id}");
                    let _ = Command::new("sh")
                        .args(["-c", &kill])
                        .stderr(std::process::Stdio::null())
                        .status();
                }
            });
            assert_eq!(daemon.ended().await.signal(), Some(signal));
            insisting.abort();
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn signals_that_do_not_end_the_daemon_do_not_end_one_that_is_starting() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let file = setup.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    // The daemon waits for the rest of its configuration until it is written.
    std::fs::remove_file(&file).unwrap();
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    let mut command = crate::harness::bondgate();
    command
        .arg("run")
        .arg("--config")
        .arg(&file)
        .env("BONDGATE_LOG", "info");
    let mut daemon = Daemon::spawn(command, setup.directory);
    let pipe = tokio::task::spawn_blocking({
        let file = file.clone();
        move || std::fs::OpenOptions::new().write(true).open(file).unwrap()
    });
    let mut pipe = tokio::time::timeout(PATIENCE, pipe).await.unwrap().unwrap();
    replace(&file, &text);
    for what in ["none", "reload", "reopen"] {
        kill(&daemon, &signals(what));
    }
    std::io::Write::write_all(&mut pipe, text.as_bytes()).unwrap();
    drop(pipe);
    daemon.logged("token acquired").await;
    daemon.logged("reload found no changes").await;
}

fn replace(file: &Path, text: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file).unwrap();
}

/// Limits how long a file may be that a running daemon writes.
fn limit_file_size(daemon: &Daemon, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_message_beyond_a_file_size_limit_is_passed_through_and_reported() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    let long = format!("{{\"Calls\":\"{}\"}}", "x".repeat(4 << 20));
    limit_file_size(&daemon, Some(3 << 20));
    for number in 1..=2 {
        cisco.put_raw_message("demo", long.clone());
        let answer = pull(&daemon).await;
        assert!(
            answer.status() == 200 && answer.text() == long,
            "{:?}",
            answer.head
        );
        daemon
            .logged_times("pulled message cannot be stored and is passed through", number)
            .await;
        let ready = daemon.ask("/readyz").await;
        assert!(
            ready.body().contains("the spool's directory cannot be used"),
            "{ready:?}"
        );
    }
    assert_eq!((pulls(&cisco), cisco.queue_len()), (2, 0));
    // A message of less than the limit is stored.
    cisco.put_raw_message("demo", message(1));
    assert_eq!(pull(&daemon).await.text(), message(1));
    daemon.logged("pulled message delivered").await;
    assert_eq!(daemon.ask("/readyz").await.body(), "ready\n");
}

#[tokio::test]
async fn a_file_size_limit_below_the_reserved_space_is_503_with_the_reason_and_nothing_is_pulled() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    for limit in [10, 64 << 10] {
        limit_file_size(&daemon, Some(limit));
        let answer = pull(&daemon).await;
        answer.is_ours(503, "a file-size limit");
        assert!(
            answer.text().contains("spool-file-size-limit"),
            "{}",
            answer.text()
        );
        assert_eq!((pulls(&cisco), cisco.queue_len()), (0, 1));
    }
    daemon.logged("\"problem\":\"spool-file-size-limit\"").await;

    limit_file_size(&daemon, None);
    assert_eq!(pull(&daemon).await.text(), message(1));
}
