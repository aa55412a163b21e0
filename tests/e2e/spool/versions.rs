//! A spool's directory with files of each format so far, and of an invented later version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bondgate::simulator::Options;

use super::{files, is_redelivered, message, pull, spool_command, spool_of};
use crate::harness::{Daemon, Setup, bondgate, finished, simulator};

/// The folder of the queue of the files in tests/spool-formats: GET pull at stage.example for the client "demo".
const QUEUE: &str = "3ff128ed8b6185a9";

/// A daemon for that queue. Its upstream is never reached: what is stored is delivered without it.
fn setup(cisco: &bondgate::simulator::Handle, format: &str) -> Setup {
    let setup = Setup::apart(cisco, "https://stage.example", "", "");
    let spool = setup.directory.path().join("spool");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/spool-formats")
        .join(format);
    copy(&fixtures, &spool);
    setup.and(&format!("[spool]\ndirectory = {spool:?}\n"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(path, to.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn the_files_of_each_format_so_far_are_listed_and_delivered() {
    for format in ["format-0", "format-1"] {
        let cisco = simulator(Options::default()).await;
        let mut daemon = setup(&cisco, format).start().await;
        daemon.logged("pulled message recovered after a crash").await;
        daemon.logged("a message may be lost").await;
        let listed = spool_command(&daemon, &["list"]).await.stdout;
        for state in [
            "000001  pulled 2025-11-25T14:13:20.000001Z",
            "waits for the next pull; failed deliveries: 3",
            "delivered at ",
            "may be lost: ",
            "damaged: ",
            if format == "format-1" {
                "dead letter after 5"
            } else {
                "unknown state aside"
            },
        ] {
            assert!(listed.contains(state), "{state} in\n{listed}");
        }
        for number in 1..=3 {
            let response = pull(&daemon).await;
            assert_eq!(response.text(), message(number));
            assert!(is_redelivered(&response));
            daemon.logged_times("pulled message delivered", number).await;
        }
        assert!(files(&spool_of(&daemon), "msg").is_empty());
        let requeued = spool_command(&daemon, &["requeue", "1764080000000005"]).await;
        assert_eq!(requeued.code, Some(0), "{requeued:?}");
        assert_eq!(pull(&daemon).await.text(), message(5));
    }
}

/// Adds files of a later format, in a later state and in later folders, and one of another program. Returns their content.
fn add_later_version(spool: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let stored = std::fs::read(spool.join(QUEUE).join("1764080000000001.0.msg")).unwrap();
    let later = b"{\"format\":2,\"id\":7}\n\x00 another layout".to_vec();
    let queue = Path::new(QUEUE);
    let written = BTreeMap::from([
        (queue.join("1764080000000000.0.msg"), later.clone()),
        (queue.join("1764080000000011.0.pull"), later.clone()),
        (queue.join("retained/1764080000000012.0.done"), later.clone()),
        (queue.join("1764080000000013.0.held"), stored),
        (queue.join("notes.txt"), b"not bondgate's".to_vec()),
        (PathBuf::from("queues/stage/14.message"), later),
    ]);
    for (path, bytes) in &written {
        std::fs::create_dir_all(spool.join(path).parent().unwrap()).unwrap();
        std::fs::write(spool.join(path), bytes).unwrap();
    }
    written
}

async fn shown(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command = bondgate();
    command
        .args(arguments)
        .arg("--config")
        .arg(daemon.directory.path().join("bondgate.toml"));
    if arguments == ["status"] {
        command.args(["--address", &daemon.admin().to_string()]);
    }
    finished(command).await.stdout
}

#[tokio::test]
async fn the_files_of_a_later_version_are_named_everywhere_and_left_byte_for_byte() {
    let cisco = simulator(Options::default()).await;
    let setup = setup(&cisco, "format-1");
    let spool = setup.directory.path().join("spool");
    let written = add_later_version(&spool);
    let mut daemon = setup.start().await;
    let code = "spool-files-unknown";
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    // Those before and behind them are delivered.
    for number in 1..=3 {
        assert_eq!(pull(&daemon).await.text(), message(number));
        daemon.logged_times("pulled message delivered", number).await;
    }
    let status = daemon.status().await;
    let problems = status["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["code"] == code).unwrap();
    let cause = problem["cause"].as_str().unwrap();
    assert!(cause.starts_with("5 files in the spool"), "{cause}");
    assert!(
        problem["fix"]
            .as_str()
            .unwrap()
            .contains("run the bondgate that wrote them"),
        "{problem}"
    );
    assert_eq!(status["spool"]["messages"], 0, "{status}");
    assert!(shown(&daemon, &["status"]).await.contains(&format!("[{code}]")));
    assert!(shown(&daemon, &["check"]).await.contains(code));

    let listed = spool_command(&daemon, &["list"]).await.stdout;
    for line in [
        "1764080000000000  pulled",
        "not delivered: a later bondgate wrote it; run that version or a newer one",
        &format!("{QUEUE}/1764080000000013.0.held  401 bytes, not delivered: unknown state held"),
        "queues/stage/14.message  36 bytes, not delivered: a later bondgate wrote it, format 2",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    assert!(!listed.contains("notes.txt"), "{listed}");
    for (name, reason) in [
        (
            format!("{QUEUE}/1764080000000012"),
            "a later bondgate wrote it (format 2)",
        ),
        (format!("{QUEUE}/1764080000000013.0.held"), "unknown state held"),
    ] {
        let refused = spool_command(&daemon, &["requeue", &name]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let sentence = format!("{name} cannot be requeued: {reason}");
        assert!(refused.stderr.contains(&sentence), "{sentence} in {refused:?}");
    }
    let all = spool_command(&daemon, &["requeue", "--all"]).await;
    assert_eq!(all.code, Some(0), "{all:?}");
    for (path, bytes) in &written {
        assert_eq!(
            &std::fs::read(spool.join(path)).unwrap(),
            bytes,
            "{}",
            path.display()
        );
    }

    for name in [
        "1764080000000000",
        "1764080000000011",
        "1764080000000012",
        &format!("{QUEUE}/1764080000000013.0.held"),
        "queues/stage/14.message",
    ] {
        let discarded = spool_command(&daemon, &["discard", name]).await;
        assert_eq!(discarded.code, Some(0), "{discarded:?}");
    }
    let status = daemon.status().await;
    assert!(!status["problems"].to_string().contains(code), "{status}");
    daemon.logged(&format!("\"was\":\"{code}\"")).await;
    assert!(spool.join(QUEUE).join("notes.txt").exists());
}
