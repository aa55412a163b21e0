//! What a daemon does when nobody asks for anything.

use std::path::PathBuf;
use std::time::Duration;

use super::Stand;

/// How long it is watched.
const WATCH: Duration = Duration::from_secs(30);
/// How often its threads may wake up, all together: a clock is looked at every 10 s, and the files that the
/// configuration names every 2 s, on a thread that is not the one that waits for the time to come.
const MOST: u64 = 120;

#[tokio::test]
#[ignore = "takes half a minute of a quiet machine; run by .ci/soak"]
async fn an_idle_daemon_sleeps() {
    let stand = Stand::start("").await;
    let threads = threads(&stand);
    let before = wake_ups(&threads);

    // The time is the measure here, not a wait for something.
    tokio::time::sleep(WATCH).await;

    let after = wake_ups(&threads);
    let woken: Vec<_> = after
        .iter()
        .zip(&before)
        .map(|((name, after), (_, before))| (name, after.saturating_sub(*before)))
        .collect();
    let all: u64 = woken.iter().map(|(_, count)| count).sum();
    println!("{all} wake-ups in {} s: {woken:?}", WATCH.as_secs());
    assert!(all <= MOST, "{all}");
}

/// The folders of the daemon's threads.
fn threads(stand: &Stand) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", stand.daemon.id())).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

/// How often each thread, by its name, has gone to sleep so far: never, where it has ended.
fn wake_ups(threads: &[PathBuf]) -> Vec<(String, u64)> {
    let count = |thread: &PathBuf| {
        let status = std::fs::read_to_string(thread.join("status")).unwrap_or_default();
        let value = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1))
                .unwrap_or_default()
                .to_owned()
        };
        let switches = value("voluntary_ctxt_switches:").parse().unwrap_or_default();
        (value("Name:"), switches)
    };
    threads.iter().map(count).collect()
}
