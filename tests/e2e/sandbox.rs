//! The daemon in its sandbox: what it may no longer do, and that rotation goes on under it. Every other
//! test here runs the daemon sandboxed, too.
#![cfg(target_os = "linux")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bondgate::simulator::Options;

use crate::harness::{DEMO_SECRET, Daemon, PULL, Setup, simulator};

/// A directory as Kubernetes mounts a secret: `secret` leads to `..data/secret`, `..data` to `..1`.
fn mounted(directory: &Path, text: &str) -> PathBuf {
    let volume = directory.join("volume");
    std::fs::create_dir(&volume).unwrap();
    symlink("..data/secret", volume.join("secret")).unwrap();
    lead(&volume, &version(&volume, "..1", text));
    volume
}

fn version(directory: &Path, name: &str, text: &str) -> PathBuf {
    let version = directory.join(name);
    std::fs::create_dir(&version).unwrap();
    std::fs::write(version.join("secret"), text).unwrap();
    version
}

/// Makes `..data` lead elsewhere, at once.
fn lead(volume: &Path, to: &Path) {
    symlink(to, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

/// A field of `/proc/PID/status`, of every thread.
fn of_each_thread(daemon: &Daemon, field: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let value = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field));
        line.unwrap().rsplit(':').next().unwrap().trim().to_owned()
    };
    tasks.map(value).collect()
}

#[tokio::test]
async fn each_thread_of_the_daemon_is_shut_in_and_one_line_says_so() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    for (field, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "2")] {
        let threads = of_each_thread(&daemon, &format!("{field}:"));
        assert!(
            threads.len() > 1 && threads.iter().all(|found| found == value),
            "{field}: {threads:?}"
        );
    }
    let log = daemon.log();
    let told: Vec<_> = log.iter().filter(|line| line.contains("sandboxed")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("\"restrictions\":\"Landlock (files, ports, signals), seccomp\""),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_secret_behind_a_swapped_link_is_picked_up_and_one_that_moved_out_says_restart() {
    let cisco = simulator(Options::default()).await;
    cisco.options().token_lifetime = Duration::from_secs(2);
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, "")
        .listener("127.0.0.1:0", "");
    let volume = mounted(setup.directory.path(), DEMO_SECRET);
    let secret = volume.join("secret").display().to_string();
    let mut daemon = setup
        .environment("BONDGATE_CLIENT_SECRET_FILE", &secret)
        .start()
        .await;

    let outside = tempfile::tempdir().unwrap();
    lead(&volume, &version(outside.path(), "moved", DEMO_SECRET));
    let advice = "if the path is a link that now leads to another directory, restart bondgate";
    daemon.logged(advice).await;

    cisco.options().token_lifetime = Duration::from_secs(3600);
    lead(&volume, &version(&volume, "..2", DEMO_SECRET));
    std::fs::remove_dir_all(volume.join("..1")).unwrap();
    daemon.logged("credentials changed").await;
    daemon.logged("token acquired").await;
    assert_eq!(daemon.get(PULL).await.status(), 200);
}

#[tokio::test]
async fn a_daemon_whose_configuration_says_so_runs_without_and_says_so() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco)
        .environment("BONDGATE__SERVER__SANDBOX", "false")
        .start()
        .await;
    daemon.logged("not sandboxed").await;
    assert!(
        of_each_thread(&daemon, "Seccomp:")
            .iter()
            .all(|value| value == "0")
    );
}
