//! The daemon's log: it is complete at the end, and no request waits for its reader.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bondgate::simulator::{Handle, Options};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::confidential;
use crate::harness::{PATIENCE, PULL, Setup, bondgate, seen_when, send, simulator};
use crate::rotation::Load;
use crate::wire::Caller;

/// More than the 4,096 lines that the log keeps for its reader, and a pipe and a batch hold.
const REQUESTS: usize = 6000;

/// A daemon whose standard error is read when the test wants it.
struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    listener: SocketAddr,
    admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// Reads the log until there is a token, and then no more.
    async fn start(cisco: &Handle) -> Self {
        let directory = Setup::open(cisco, "").into_file();
        let mut command = bondgate();
        command.arg("run").arg("--config");
        command.arg(directory.path().join("bondgate.toml"));
        let mut command = Command::from(command);
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let lines = read_until(&mut log, "token acquired").await;
        let place = |before: &str| {
            let (_, after) = lines.split_once(before).unwrap();
            after.split(['"', '/']).next().unwrap().parse().unwrap()
        };
        Self {
            listener: place("listening on http://"),
            admin: place("status, health and metrics are at http://"),
            child,
            log,
            _directory: directory,
        }
    }

    /// Serves requests whose log lines are more than may wait.
    async fn serve_thousands(&self) {
        let callers = (0..4).map(|_| {
            let to = self.listener;
            tokio::spawn(async move {
                let mut caller = Caller::to(to).await;
                for _ in 0..REQUESTS / 4 {
                    caller.say("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                    let response = caller.message().await;
                    // The simulator knows no such path; that bondgate relayed it is enough.
                    assert!(response.status() == 404 && response.field("proxy-status").is_none());
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }

    async fn dropped(&self) -> u64 {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let response = send(self.admin, request).await;
        let mut lines = response.body().lines();
        let dropped = lines.find_map(|line| line.strip_prefix("bondgate_log_lines_dropped_total "));
        dropped.unwrap().parse().unwrap()
    }

    fn terminate(&self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(id.unwrap(), Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the daemon ends").unwrap().code()
    }
}

/// What the log says up to a line that holds `text`.
async fn read_until(log: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while let Some(line) = log.next_line().await.unwrap() {
            let is_last = line.contains(text);
            read += &(line + "\n");
            if is_last {
                return;
            }
        }
        panic!("{text:?} is not in the log:\n{read}");
    };
    let outcome = tokio::time::timeout(PATIENCE, reading).await;
    assert!(outcome.is_ok(), "{text:?} does not come");
    confidential::assert_clean(read.as_bytes());
    read
}

#[tokio::test]
async fn a_log_without_a_reader_delays_neither_a_request_nor_the_end() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Daemon::start(&cisco).await;
    daemon.serve_thousands().await;
    assert!(daemon.dropped().await > 0);
    daemon.terminate();
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test]
async fn dropped_lines_are_reported_when_the_log_is_read_again_and_no_later_line_is_lost() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Daemon::start(&cisco).await;
    daemon.serve_thousands().await;
    let dropped = daemon.dropped().await;
    let kept = read_until(&mut daemon.log, "log lines dropped").await;
    let report: serde_json::Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
    assert_eq!(report["lines"], dropped);
    let completed = kept.lines().filter(|line| line.contains("\"request completed\""));
    assert_eq!(completed.count() as u64 + dropped, REQUESTS as u64);
    for line in kept.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
    }

    daemon.terminate();
    read_until(&mut daemon.log, "drained, nothing was cut short").await;
    let mut rest = String::new();
    let log = daemon.log.get_mut();
    log.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test]
async fn the_log_file_is_complete_when_the_daemon_has_ended() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let file = setup.directory.path().join("bondgate.log");
    let mut daemon = setup
        .environment("BONDGATE__LOG__FILE", &file.display().to_string())
        .spawn();
    seen_when(&cisco, |seen| !seen.is_empty()).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let log = std::fs::read_to_string(file).unwrap();
    confidential::assert_clean(log.as_bytes());
    assert!(log.contains("listening on"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("drained, nothing was cut short"), "{log}");
    assert_eq!(daemon.log(), [""; 0]);
}

/// A daemon that logs into a file in a directory of its own.
async fn logging_to_file(cisco: &Handle) -> (crate::harness::Daemon, PathBuf) {
    let setup = Setup::open(cisco, "");
    let directory = setup.directory.path().join("log");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("bondgate.log");
    let daemon = setup.environment("BONDGATE__LOG__FILE", &file.display().to_string());
    let daemon = daemon.environment("BONDGATE_LOG", "info").spawn();
    holds(&file, "token acquired").await;
    (daemon, file)
}

/// Waits until a file holds a text, and gives all of it.
async fn holds(file: &Path, text: &str) -> String {
    let reading = async {
        loop {
            let found = std::fs::read_to_string(file).unwrap_or_default();
            if found.contains(text) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, reading).await;
    let found = found.unwrap_or_else(|_| panic!("{text:?} does not come into {}", file.display()));
    confidential::assert_clean(found.as_bytes());
    found
}

/// Where a daemon listens, by its log.
fn listener(log: &str) -> SocketAddr {
    let (_, after) = log.split_once("listening on http://").unwrap();
    after.split(['"', '/']).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_log_file_that_was_moved_is_reopened_at_sighup_and_at_sigusr1() {
    let cisco = simulator(Options::default()).await;
    let (daemon, file) = logging_to_file(&cisco).await;
    let listener = listener(&std::fs::read_to_string(&file).unwrap());
    for signal in ["HUP", "USR1", "USR1"] {
        std::fs::rename(&file, file.with_extension("1")).unwrap();
        daemon.signal(signal);
        holds(&file, "log file reopened").await;
        send(listener, crate::inside::get("/simulator/echo")).await;
        holds(&file, "\"request completed\"").await;
    }
    daemon.signal("HUP");
    let log = holds(&file, "reload found no changes").await;
    assert_eq!(
        log.matches("log file reopened").count(),
        1,
        "it is where it was: {log}"
    );
}

#[tokio::test]
async fn a_log_file_that_cannot_be_reopened_is_written_on_and_the_log_says_why() {
    let cisco = simulator(Options::default()).await;
    let (daemon, file) = logging_to_file(&cisco).await;
    let moved = file.with_extension("1");
    std::fs::rename(&file, &moved).unwrap();
    std::fs::create_dir(&file).unwrap();
    daemon.signal("USR1");
    let log = holds(&moved, "log file cannot be reopened").await;
    let line = log
        .lines()
        .find(|line| line.contains("cannot be reopened"))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains("SIGUSR1"), "{line}");
    send(listener(&log), crate::inside::get("/simulator/echo")).await;
    holds(&moved, "\"request completed\"").await;

    std::fs::remove_dir(&file).unwrap();
    daemon.signal("USR1");
    holds(&file, "log file reopened").await;
}

#[tokio::test]
#[ignore = "needs logrotate; run by .ci/run"]
async fn logrotate_with_the_snippet_of_config_loses_no_line_under_load() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let (mut daemon, file) = logging_to_file(&cisco).await;
    let listener = listener(&std::fs::read_to_string(&file).unwrap());
    let snippet = include_str!("../../config/logrotate/bondgate")
        .replace("/var/log/bondgate/*.log", &file.display().to_string())
        .replace(
            "systemctl kill --kill-who=main --signal=SIGUSR1 bondgate.service 2>/dev/null || true",
            &format!("kill -USR1 {}", daemon.id()),
        );
    assert!(!snippet.contains("systemctl"), "{snippet}");
    let rotation = daemon.directory.path().join("rotation");
    std::fs::write(&rotation, snippet).unwrap();
    let state = daemon.directory.path().join("state");

    let load = Load::start(listener, 4);
    for _ in 0..5 {
        let mut logrotate = std::process::Command::new("logrotate");
        logrotate.arg("--force").arg("--state").args([&state, &rotation]);
        let ended = crate::harness::finished(logrotate).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        holds(&file, "log file reopened").await;
        holds(&file, "\"request completed\"").await;
    }
    let responses = load.stop().await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));

    let (mut files, mut lines) = (0, 0);
    for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let read = std::process::Command::new("zcat")
            .arg("--force")
            .arg(path)
            .output()
            .unwrap();
        let log = String::from_utf8(read.stdout).unwrap();
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            lines += usize::from(line["message"] == "request completed");
        }
        files += 1;
    }
    println!("{responses} requests over 5 rotations: {lines} lines in {files} files");
    assert_eq!((lines, files), (responses, 6));
}

#[tokio::test]
async fn the_first_line_names_version_configuration_file_and_spool() {
    let cisco = simulator(Options::default()).await;
    for directory in [None, Some("spool")] {
        let setup = Setup::at(&cisco);
        let (file, spool) = (setup.config_file(), setup.directory.path().join("spool"));
        let setup = match directory {
            None => setup,
            Some(_) => setup.environment("BONDGATE_SPOOL_DIRECTORY", spool.to_str().unwrap()),
        };
        let daemon = setup.start_without_token().await;
        let log = daemon.log();
        let line: serde_json::Value = serde_json::from_str(&log[0]).unwrap();
        let spool = directory.map_or("memory", |_| spool.to_str().unwrap());
        assert_eq!(line["message"], "starting", "{line}");
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"), "{line}");
        assert_eq!(line["configuration"], file.to_str().unwrap(), "{line}");
        assert_eq!(line["spool"], spool, "{line}");
    }
}

#[tokio::test]
async fn a_line_says_whether_a_pull_got_a_ticket_a_redelivery_or_nothing() {
    let cisco = simulator(Options::default()).await;
    cisco.put_raw_message("demo", "{\"Calls\":{\"CustCallID\":\"INC1\"}}");
    let mut daemon = Setup::at(&cisco).start().await;
    assert_eq!(daemon.get(PULL).await.status(), 200);
    daemon.logged("\"pull\":\"ticket\"").await;
    assert_eq!(daemon.get(PULL).await.status(), 200);
    daemon.logged("\"pull\":\"empty\"").await;
}

#[tokio::test]
async fn the_log_is_text_in_the_journal_and_json_in_any_other_file() {
    let cisco = simulator(Options::default()).await;
    for is_journal in [true, false] {
        let directory = Setup::at(&cisco).into_file();
        let path = directory.path().join("stderr");
        let file = std::fs::File::create(&path).unwrap();
        let identity = file.metadata().unwrap();
        // A process inherits the variable from a service, and may write elsewhere.
        let inode = identity.ino() + u64::from(!is_journal);
        let mut command = bondgate();
        command.args(["run", "--config"]);
        command.arg(directory.path().join("bondgate.toml"));
        command.env("BONDGATE__LOG__FORMAT", "auto");
        command.env("JOURNAL_STREAM", format!("{}:{inode}", identity.dev()));
        command.stderr(file);
        let mut command = Command::from(command);
        let _daemon = command.kill_on_drop(true).spawn().unwrap();
        let log = holds(&path, "token acquired").await;
        for line in log.lines() {
            let is_json = serde_json::from_str::<serde_json::Value>(line).is_ok();
            assert_eq!(is_json, !is_journal, "{line}");
        }
    }
}
