//! `bondgate demo` and `bondgate simulate`: what they print works as it is printed, and nothing is left behind.

use std::net::TcpListener;

use crate::cli::run;
use crate::harness::{Daemon, PULL, bondgate, finished, send};

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn the_demo_prints_a_curl_line_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    let mut demo = Daemon::spawn(command, directory);
    demo.logged("Ctrl-C ends it").await;
    let log = demo.log();
    let line = log.iter().find(|line| line.trim_start().starts_with("curl"));
    let line = line.unwrap().trim();

    let answer = finished(shell(line)).await;

    assert!(answer.stdout.starts_with("HTTP/1.1 200"), "{line}: {answer:?}");
    assert!(
        answer.stdout.contains("\"Calls\""),
        "a message: {}",
        answer.stdout
    );

    demo.signal("INT");
    assert_eq!(demo.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_demo_whose_port_is_taken_says_so_names_listen_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(["demo", "--listen", &address]);
    command.env("TMPDIR", directory.path());
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(1));
    let told = format!("{address} is in use by e2e");
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    assert!(ended.stderr.contains("--listen"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[tokio::test]
async fn the_demo_leaves_nothing_in_the_temporary_directory_however_it_ends() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(["demo", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temporary.path());
    let mut demo = Daemon::spawn(command, tempfile::tempdir().unwrap());
    demo.logged("Ctrl-C ends it").await;
    demo.signal("KILL");
    demo.ended().await;
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn the_demo_needs_no_etc_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display();
    let inside = format!(
        "mount --bind {empty} /etc/hosts && mount --bind {empty} /etc/resolv.conf && mount --bind {empty} \
         /etc/nsswitch.conf && exec {} demo --listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_bondgate")
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &inside]);
    let mut demo = Daemon::spawn(command, directory);
    demo.logged("Ctrl-C ends it").await;
}

#[tokio::test]
async fn simulate_prints_the_lines_of_a_configuration_that_uses_it() {
    let mut command = bondgate();
    let directory = tempfile::tempdir().unwrap();
    command.args(["simulate", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    command.args(["--ca-file", "it's a \"ca\".pem", "--client", "an id:a \"secret\""]);
    command.current_dir(&directory);
    let mut simulator = Daemon::spawn(command, directory);
    simulator.logged("Ctrl-C ends it").await;
    let log = simulator.log();
    let lines = log
        .iter()
        .skip_while(|line| *line != "A bondgate.toml that uses it:")
        .skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).cloned().collect();
    assert_eq!(lines.len(), 7, "{log:#?}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bondgate.toml"), lines.join("\n")).unwrap();
    let mut command = bondgate();
    command.args(["check", "--live"]).current_dir(&directory);
    command.envs([
        ("BONDGATE_LISTEN", "127.0.0.1:0"),
        ("BONDGATE_ADMIN", "127.0.0.1:0"),
    ]);
    let checked = finished(command).await;
    assert_eq!(checked.code, Some(0), "{lines:#?} {checked:?}");
}

#[tokio::test]
async fn a_demo_for_other_machines_needs_to_be_told_which() {
    let exposed = run(&["demo", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(exposed.code, Some(3), "{exposed:?}");
    assert!(exposed.stderr.contains("add --allow NETWORK"), "{exposed:?}");
    assert_eq!(exposed.stderr.lines().count(), 1, "{exposed:?}");

    let wrong = run(&["demo", "--listen", "0.0.0.0:0", "--allow", "here"]).await;
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(wrong.stderr.contains("\"here\" is not a network"), "{wrong:?}");

    let mut command = bondgate();
    command.args([
        "demo",
        "--listen",
        "0.0.0.0:0",
        "--allow",
        "10.1.0.0/16,10.2.0.0/16",
    ]);
    let mut demo = Daemon::spawn(command, tempfile::tempdir().unwrap());
    demo.logged("Ctrl-C ends it").await;
    let log = demo.log();
    let line = log
        .iter()
        .find(|line| line.trim_start().starts_with("curl"))
        .unwrap();
    let (_, rest) = line.split_once("http://localhost:").unwrap();
    let port: u16 = rest.split('/').next().unwrap().parse().unwrap();
    let request = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = send(([127, 0, 0, 1], port).into(), request).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
}

#[tokio::test]
#[ignore = "needs curl; .ci/run installs it"]
async fn simulate_prints_where_it_is_and_what_to_try() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(["simulate", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    command.arg("--ca-file").arg(directory.path().join("ca.pem"));
    let mut simulator = Daemon::spawn(command, directory);
    simulator.logged("Ctrl-C ends it").await;
    let log = simulator.log();
    for told in ["  API  ", "  token URL  ", "  CA file  ", "  control API  "] {
        assert!(log.iter().any(|line| line.starts_with(told)), "{told}: {log:#?}");
    }
    let lines = log.iter().skip_while(|line| *line != "Try:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty()).map(String::as_str);
    let script = lines.collect::<Vec<_>>().join("\n");

    let tried = finished(shell(&script)).await;

    assert_eq!(tried.code, Some(0), "{script}\n{tried:?}");
    assert!(tried.stdout.contains("\"Calls\""), "a message: {tried:?}");
    simulator.signal("TERM");
    assert_eq!(simulator.ended().await.code(), Some(0));
}

/// What a person would type.
fn shell(line: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(line).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}
