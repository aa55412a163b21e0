//! The log file that the daemon rotates itself, in its sandbox.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bondgate::simulator::Options;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::confidential;
use crate::harness::{Daemon, PATIENCE, Setup, finished, seen_when, simulator};
use crate::wire::Line;

const REQUESTS: usize = 1000;

/// Runs a daemon that rotates its log at 1 KiB, from its start over these requests to its end. Returns the log's files.
async fn logged(keep: usize) -> BTreeMap<String, Vec<Value>> {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "");
    let logs = setup.directory.path().join("log");
    std::fs::create_dir(&logs).unwrap();
    let mut daemon = setup
        .environment("BONDGATE_LOG", "info")
        .environment("BONDGATE__LOG__FILE", logs.join("bondgate.log").to_str().unwrap())
        .environment(
            "BONDGATE__LOG__ROTATE",
            &format!("{{ size = '1KiB', keep = {keep} }}"),
        )
        .spawn();
    let listener = tokio::time::timeout(PATIENCE, listener(&logs)).await.unwrap();
    send_requests(TcpStream::connect(listener).await.unwrap()).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert_eq!(daemon.log(), [""; 0], "nothing is on standard error");
    files(&logs)
}

/// Where the daemon listens, as soon as one of its log's files says so.
async fn listener(logs: &Path) -> SocketAddr {
    loop {
        for file in std::fs::read_dir(logs).unwrap() {
            // It may have been renamed meanwhile.
            let log = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            if let Some((_, after)) = log.split_once("listening on http://")
                && let Some((address, _)) = after.split_once('"')
            {
                return address.parse().unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send_requests(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut caller = Line::new(stream);
    for number in 0..REQUESTS {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        caller.say(request).await;
        // The simulator knows no such path.
        assert_eq!(caller.message().await.status(), 404);
    }
}

/// The lines of each file.
fn files(directory: &Path) -> BTreeMap<String, Vec<Value>> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let log = std::fs::read_to_string(&path).unwrap();
            confidential::assert_clean(log.as_bytes());
            let lines = log.lines().map(|line| serde_json::from_str(line).expect(line));
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                lines.collect(),
            )
        })
        .collect()
}

/// The paths of the requests that these files report, sorted by number.
fn requests(files: &BTreeMap<String, Vec<Value>>) -> Vec<usize> {
    let lines = files.values().flatten();
    let completed = lines.filter(|line| line["message"] == "request completed");
    let numbers = completed.map(|line| line["path"].as_str().unwrap()[1..].parse().unwrap());
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn a_log_that_is_rotated_in_the_sandbox_has_every_request_once() {
    let files = logged(1_000_000).await;
    assert!(requests(&files).into_iter().eq(0..REQUESTS), "{files:?}");
    let rotated = files.len() - 1;
    println!("{rotated} rotated files");
    assert!(rotated > 3);
    let has = |message: &str| {
        files
            .values()
            .flatten()
            .filter(|line| line["message"] == message)
            .count()
    };
    assert_eq!((has("starting"), has("drained, nothing was cut short")), (1, 1));
    let sandboxed = files
        .values()
        .flatten()
        .find(|line| line["message"] == "sandboxed");
    assert!(
        sandboxed.unwrap()["restrictions"]
            .as_str()
            .unwrap()
            .contains("Landlock (files"),
        "{sandboxed:?}"
    );
    assert!(
        files.values().flatten().all(|line| line["level"] != "ERROR"),
        "{files:?}"
    );
    assert!(
        files.values().all(|lines| !lines.is_empty()),
        "{:?}",
        files.keys()
    );
}

#[tokio::test]
async fn of_the_rotated_logs_the_newest_are_kept() {
    let files = logged(2).await;
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert!(names.len() == 3 && names[0] == "bondgate.log", "{names:?}");
    let rotated = names[1..]
        .iter()
        .map(|name| name.strip_prefix("bondgate.log.").unwrap());
    assert!(
        rotated
            .into_iter()
            .all(|time| time.len() >= 16 && time.as_bytes()[15] == b'Z'),
        "{names:?}"
    );
    let requests = requests(&files);
    let first = *requests.first().unwrap();
    assert!(first > 0, "{requests:?}");
    assert!(
        requests.into_iter().eq(first..REQUESTS),
        "no line is missing between the files"
    );
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_check_reports_a_folder_in_which_a_log_cannot_be_rotated() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let (file, logs) = (setup.file("writable", ""), setup.directory.path().join("log"));
    std::fs::create_dir(&logs).unwrap();
    let log = logs.join("bondgate.log");
    std::fs::write(&log, "").unwrap();
    for (rotate, code) in [("", Some(0)), ("BONDGATE__LOG__ROTATE__SIZE=1MiB", Some(3))] {
        // The folder is read-only, the file in it is not.
        let inside = format!(
            "mount --bind {logs} {logs} && mount -o remount,bind,ro {logs} && mount --bind {file} {log} && \
             exec env BONDGATE__LOG__FILE={log} {rotate} {program} check --config {config}",
            logs = logs.display(),
            file = file.display(),
            log = log.display(),
            program = env!("CARGO_BIN_EXE_bondgate"),
            config = setup.config_file().display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &inside]);
        let checked = finished(command).await;
        assert_eq!(checked.code, code, "{checked:?}");
        let problem = format!("log.rotate: cannot open {}: ", logs.display());
        assert_eq!(checked.stdout.contains(&problem), code == Some(3), "{checked:?}");
    }
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn on_a_full_disk_requests_are_served_and_the_lost_lines_are_counted() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "");
    let (logs, socket) = (
        setup.directory.path().join("log"),
        setup.directory.path().join("http.sock"),
    );
    std::fs::create_dir(&logs).unwrap();
    let admin = setup.directory.path().join("admin.sock");
    let config = setup.relisten(&format!("unix:{}", socket.display())).into_file();
    let inside = format!(
        "mount -t tmpfs -o size=64k tmpfs {logs} && exec env BONDGATE_LOG=info BONDGATE_ADMIN=unix:{admin} \
         BONDGATE__LOG__FILE={logs}/bondgate.log BONDGATE__LOG__ROTATE__SIZE=8KiB BONDGATE__LOG__ROTATE__KEEP=1000 \
         {program} run --config {config}",
        logs = logs.display(),
        admin = admin.display(),
        program = env!("CARGO_BIN_EXE_bondgate"),
        config = config.path().join("bondgate.toml").display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &inside]);
    let mut daemon = Daemon::spawn(command, config);
    seen_when(&cisco, |seen| !seen.is_empty()).await;
    send_requests(UnixStream::connect(&socket).await.unwrap()).await;
    let mut operator = Line::new(UnixStream::connect(&admin).await.unwrap());
    operator
        .say("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let metrics = operator.message().await;
    let mut lines = metrics.text().lines();
    let dropped = lines.find_map(|line| line.strip_prefix("bondgate_log_lines_dropped_total "));
    assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{metrics:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
}
