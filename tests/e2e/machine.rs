//! `bondgate check` finds on this machine what a start would fail on, and says so by step, text and JSON alike.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use bondgate::simulator::Options;
use serde_json::Value;

use crate::harness::{Ended, Setup, bondgate, finished, simulator};

async fn check(setup: &Setup, arguments: &[&str]) -> Ended {
    let mut command = bondgate();
    command
        .args(["check", "--config"])
        .arg(setup.config_file())
        .args(arguments);
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    finished(command).await
}

#[tokio::test]
async fn a_secret_that_is_missing_keeps_no_step_from_running_that_needs_none() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    std::fs::remove_file(setup.directory.path().join("cisco.secret")).unwrap();
    let checked = check(&setup, &["--live"]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    for part in [
        "  ok  cisco: TLS",
        "  skipped  cisco: token",
        "  skipped  cisco: API",
    ] {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }
    assert!(!checked.stdout.contains("  FAILED  cisco"), "{checked:?}");
}

/// A subcommand under a limit of the shell.
async fn limited(setup: &Setup, limit: &str, subcommand: &str) -> Ended {
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let file = setup.config_file();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "ulimit {limit}; exec {program} {subcommand} --config {}",
        file.display()
    ));
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    finished(command).await
}

/// Addresses that no other test uses.
fn own_address(last: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{last}:18080", high % 100 + 100)
}

#[tokio::test]
async fn a_check_names_every_address_that_a_start_could_not_listen_on() {
    let cisco = simulator(Options::default()).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let setup = Setup::at(&cisco)
        .relisten(&taken_address)
        .listener("192.0.2.77:8080", "allow = [\"192.0.2.0/24\"]")
        .listener("unix:/nowhere/a/bondgate.sock", "");
    let regular = setup.file("regular", "kept");
    let setup = setup.listener(&format!("unix:{}", regular.display()), "");
    let checked = check(&setup, &[]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    let pid = std::process::id();
    for (code, part) in [
        ("port-taken", format!("{taken_address} is in use by e2e")),
        (
            "port-taken",
            format!("(pid {pid}); stop that program, or set listener[0].address"),
        ),
        (
            "address-foreign",
            "192.0.2.77:8080; set listener[1].address".to_owned(),
        ),
        (
            "unix-directory-missing",
            "unix:/nowhere/a/bondgate.sock".to_owned(),
        ),
        ("unix-path-taken", regular.display().to_string()),
    ] {
        let line = checked
            .stdout
            .lines()
            .find(|line| line.contains(&part) && line.contains(&format!("[{code}]")));
        assert!(
            line.is_some_and(|line| line.starts_with("  FAILED  ports")),
            "{part}: {}",
            checked.stdout
        );
    }
    assert_eq!(std::fs::read_to_string(regular).unwrap(), "kept");
    taken.set_nonblocking(true).unwrap();
    assert!(taken.accept().is_err(), "nothing connects to it");
}

#[tokio::test]
#[ignore = "needs unshare, as root or in a user namespace; run by .ci/run"]
async fn a_check_names_a_port_that_needs_a_privilege() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).relisten("127.0.0.1:80");
    let mut command = Command::new("unshare");
    // Another user without privileges, in a network where the limit is 1024.
    command.args(["--user", "--net"]).arg(bondgate().get_program());
    command.args(["check", "--config"]).arg(setup.config_file());
    let checked = finished(command).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    let problem = "127.0.0.1:80 is a port below 1024";
    assert!(
        checked.stdout.contains(problem) && checked.stdout.contains("[port-privileged]"),
        "{checked:?}"
    );
    assert!(!checked.stdout.contains("  ok  ports"), "{checked:?}");
}

#[tokio::test]
async fn a_port_that_a_bondgate_of_this_configuration_holds_is_no_fault_and_one_of_another_is_named() {
    let cisco = simulator(Options::default()).await;
    let setup = || {
        Setup::at(&cisco)
            .relisten(&own_address(1))
            .environment("BONDGATE_ADMIN", &own_address(2))
    };
    let running = setup();
    let (file, environment) = (running.config_file(), running.environment.clone());
    let daemon = running.start_without_token().await;

    let mut command = bondgate();
    command.args(["check", "--config"]).arg(&file).envs(environment);
    let same = finished(command).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    let held = format!("held by the bondgate of {} (pid {})", file.display(), daemon.id());
    assert!(same.stdout.contains(&held), "{held}: {same:?}");

    let other = check(&setup(), &[]).await;
    assert_eq!(other.code, Some(0), "a warning: {other:?}");
    assert!(!other.stdout.contains("ok  ports"), "both are held: {other:?}");
    for address in [own_address(1), own_address(2)] {
        let named = format!("{address} is held by the bondgate of {}", file.display());
        let mut lines = other.stdout.lines();
        let line = lines.find(|line| line.contains(&named));
        assert!(
            line.is_some_and(|line| line.contains("[port-held-by-bondgate]")),
            "{named}: {other:?}"
        );
    }
    let other = setup();
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(other.config_file());
    command.envs(other.environment.iter().map(|(name, value)| (name, value)));
    let refused = finished(command).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let named = |line: &&str| line.ends_with("[port-held-by-bondgate]");
    assert_eq!(refused.lines().filter(named).count(), 2, "{refused:?}");

    // Its admin listener is elsewhere.
    let apart = Setup::at(&cisco).relisten(&own_address(1));
    let apart = check(&apart, &[]).await;
    assert_eq!(apart.code, Some(0), "a warning: {apart:?}");
    let named = format!("is held by bondgate (pid {})", daemon.id());
    assert!(apart.stdout.contains(&named), "{named}: {apart:?}");
}

#[tokio::test]
async fn a_socket_that_no_unit_passes_is_named_by_check_and_start_alike() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).relisten("systemd:http");
    let units = setup.directory.path().join("units");
    std::fs::create_dir(&units).unwrap();
    let setup = setup.environment("SYSTEMD_UNIT_PATH", units.to_str().unwrap());
    let missing = check(&setup, &[]).await;
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(missing.stdout.contains("[socket-not-inherited]"), "{missing:?}");
    std::fs::copy("config/systemd/bondgate.socket", units.join("bondgate.socket")).unwrap();
    let passed = check(&setup, &[]).await;
    assert_eq!(passed.code, Some(0), "{passed:?}");
    let unchecked = "systemd:http (bound by systemd, not checked)";
    assert!(passed.stdout.contains(unchecked), "{passed:?}");
    let mut daemon = setup.spawn();
    daemon.logged("[socket-not-inherited]").await;
    assert_eq!(daemon.ended().await.code(), Some(3));
}

#[tokio::test]
async fn a_spool_that_cannot_be_created_is_named_by_check_and_start_alike() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let link = setup.directory.path().join("link");
    std::os::unix::fs::symlink("/nowhere/spool", &link).unwrap();
    let below_a_file = setup.file("file", "").join("spool");
    for spool in [link, below_a_file, "/proc/nothing/spool".into()] {
        let set = [("BONDGATE_SPOOL_DIRECTORY", &spool)];
        for subcommand in ["check", "run"] {
            let mut command = bondgate();
            command
                .args([subcommand, "--config"])
                .arg(setup.config_file())
                .envs(set);
            let ended = finished(command).await;
            assert_eq!(ended.code, Some(3), "{subcommand} {spool:?}: {ended:?}");
            let named = ended.lines().any(|line| line.ends_with("[spool-not-writable]"));
            assert!(named, "{ended:?}");
        }
    }
}

#[tokio::test]
async fn a_spool_that_cannot_be_opened_has_its_code_in_the_log_file_and_on_standard_error() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let spool = setup.directory.path().join("spool");
    // A directory in place of the lock of a queue.
    std::fs::create_dir_all(spool.join("0123456789abcdef/turn")).unwrap();
    let log = setup.directory.path().join("log");
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(setup.config_file());
    command
        .env("BONDGATE_SPOOL_DIRECTORY", &spool)
        .env("BONDGATE__LOG__FILE", &log);
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("[spool-unusable]"), "{ended:?}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\"problem\":\"spool-unusable\""), "{log}");
}

#[tokio::test]
async fn a_check_reports_a_spool_that_others_may_write_in_and_a_limit_of_file_sizes() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let spool = setup.directory.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let setup = setup.environment("BONDGATE_SPOOL_DIRECTORY", spool.to_str().unwrap());
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = check(&setup, &[]).await;
    assert_eq!(open.code, Some(0), "a warning: {open:?}");
    let fix = format!("run: chmod o-w {} [spool-open-to-others]", spool.display());
    assert!(open.stdout.contains(&fix), "{open:?}");
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o700)).unwrap();
    let closed = check(&setup, &[]).await;
    assert!(
        closed
            .stdout
            .contains(&format!("  ok  {:20} {}", "spool", spool.display())),
        "{closed:?}"
    );
    let small = limited(&setup, "-f 100", "check").await;
    assert!(small.stdout.contains("[spool-file-size-limit]"), "{small:?}");
    assert!(!small.stdout.contains("spool-disk-full"), "one cause: {small:?}");
    assert_eq!(
        std::fs::read_dir(&spool).unwrap().count(),
        0,
        "a check leaves nothing"
    );
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_check_reports_a_full_and_a_read_only_disk_of_the_spool() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let spool = setup.directory.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let spool = spool.display();
    let setup = setup.environment("BONDGATE_SPOOL_DIRECTORY", &spool.to_string());
    for (mount, code) in [
        (
            format!("mount -t tmpfs -o size=1m tmpfs {spool}"),
            "spool-disk-full",
        ),
        (
            format!("mount --bind {spool} {spool} && mount -o remount,bind,ro {spool}"),
            "spool-read-only",
        ),
    ] {
        let file = setup.config_file();
        let program = bondgate().get_program().to_str().unwrap().to_owned();
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!(
            "{mount} && exec {program} check --config {}",
            file.display()
        ));
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let checked = finished(command).await;
        assert_eq!(checked.code, Some(3), "nothing can be pulled: {checked:?}");
        assert!(
            checked.stdout.contains(&format!("[{code}]")),
            "{code}: {checked:?}"
        );
    }
}

#[tokio::test]
async fn too_few_descriptors_are_named_by_check_and_start_alike() {
    let cisco = simulator(Options::default()).await;
    let checked = limited(&Setup::at(&cisco), "-n 40", "check").await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    let problem =
        "this process may open only 40 files; raise LimitNOFILE in the unit, or ulimit -n, to 1024 at least";
    assert!(checked.stdout.contains(problem), "{checked:?}");
    let started = limited(&Setup::at(&cisco), "-n 40", "run").await;
    assert_eq!(started.code, Some(1), "{started:?}");
    assert!(started.stderr.contains(problem), "{started:?}");
}

#[tokio::test]
async fn a_check_in_json_has_each_step_with_its_time_and_each_fault() {
    let cisco = simulator(Options::default()).await;
    let checked = check(&Setup::at(&cisco), &["--live", "--json"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let document: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(document["exit_code"], 0);
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(document["is_root"], is_root);
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "configuration",
            "descriptors",
            "clock",
            "ports",
            "spool",
            "sandbox",
            "name (token)",
            "TLS (token)",
            "clock",
            "token",
            "name (API)",
            "TLS (API)",
            "API"
        ]
    );
    let text = steps[0]["text"].as_str().unwrap();
    assert_eq!(text.contains("checked as root"), is_root, "{text}");
    for step in steps {
        assert!(step["duration_ms"].is_u64(), "{step}");
    }
    assert_eq!(steps[9]["upstream"], "cisco");

    let faulty = check(&Setup::at(&cisco).and("[spol]\n"), &["--json"]).await;
    assert_eq!(faulty.code, Some(3), "{faulty:?}");
    let document: Value = serde_json::from_str(&faulty.stdout).unwrap();
    assert_eq!(document["exit_code"], 3);
    let step = &document["steps"][0];
    assert_eq!(step["result"], "failed", "{document}");
    assert!(
        step["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|problem| problem["key"] == "spol"),
        "{document}"
    );
    assert_eq!(faulty.stderr, "", "{faulty:?}");
}
