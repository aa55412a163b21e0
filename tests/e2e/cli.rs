//! The command line as scripts and people meet it: exit codes, help, the environment.

use bondgate::simulator::Options;

use crate::harness::{DEMO_SECRET, Daemon, Ended, PULL, Setup, bondgate, finished, simulator};

/// Runs the program in an empty directory.
pub(crate) async fn run(arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(arguments).current_dir(&directory);
    finished(command).await
}

#[tokio::test]
async fn the_environment_alone_makes_a_daemon_beside_what_kubernetes_injects() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new();
    let secret = setup.file("secret", &format!("{DEMO_SECRET}\n"));
    let ca_file = setup.file("ca.pem", cisco.ca_pem());
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command
        .envs([
            ("BONDGATE_PRESET", "smart-bonding-stage"),
            ("BONDGATE_CLIENT_ID", "demo"),
            ("BONDGATE_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
            ("BONDGATE_CA_FILE", ca_file.to_str().unwrap()),
            ("BONDGATE_LISTEN", "127.0.0.1:0"),
            ("BONDGATE_ADMIN", "127.0.0.1:0"),
            ("BONDGATE__UPSTREAM__CISCO__URL", &cisco.url()),
            ("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", &cisco.token_url()),
        ])
        .envs([
            ("BONDGATE_PORT", "tcp://10.0.0.1:8080"),
            ("BONDGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("BONDGATE_SERVICE_HOST", "10.0.0.1"),
            ("BONDGATE_SERVICE_PORT", "8080"),
        ])
        .current_dir(&directory);
    let mut daemon = Daemon::spawn(command, directory);
    daemon.logged("token acquired").await;

    assert_eq!(daemon.get(PULL).await.status(), 200);
    let log = daemon.log().join("\n");
    for foreign in ["BONDGATE_PORT", "BONDGATE_SERVICE", "not one of bondgate's"] {
        assert!(!log.contains(foreign), "no warning is due: {log}");
    }
}

#[tokio::test]
async fn without_a_configuration_run_says_what_to_do() {
    for arguments in [&["run"][..], &[]] {
        let ended = run(arguments).await;
        assert_eq!(ended.code, Some(3));
        for mend in ["BONDGATE_CLIENT_SECRET_FILE", "bondgate.toml", "bondgate demo"] {
            assert!(ended.stderr.contains(mend), "{mend}: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn a_configuration_file_that_is_not_there_is_named() {
    let ended = run(&["--config", "nowhere.toml"]).await;
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("nowhere.toml"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_spool_that_is_not_there_is_no_empty_one() {
    let ended = run(&["spool", "list", "--directory", "/nowhere/spool"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for told in ["/nowhere/spool cannot be read", "check the path"] {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
}

#[tokio::test]
async fn bondgate_alone_is_bondgate_run() {
    let cisco = simulator(Options::default()).await;
    let file = Setup::at(&cisco).into_file();
    let mut command = bondgate();
    command.arg("--config").arg(file.path().join("bondgate.toml"));
    let mut daemon = Daemon::spawn(command, file);
    daemon.logged("token acquired").await;
    assert_eq!(daemon.get(PULL).await.status(), 200);
}

#[tokio::test]
async fn usage_errors_exit_2_and_point_at_the_help() {
    for arguments in [
        &["--confg", "f"][..],
        &["serve"],
        &["check", "--dead"],
        &["probe", "alive"],
        &["demo", "--listen", "not an address"],
        &["simulate", "--client", "without-secret"],
        &["explain", "credentials-refusd"],
    ] {
        let ended = run(arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("--help"), "{arguments:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn explain_shows_each_problem_that_it_lists_and_suggests_the_nearest_code() {
    let list = run(&["explain"]).await;
    assert_eq!(list.code, Some(0), "{list:?}");
    let lines = list.stdout.lines().filter(|line| line.starts_with("  "));
    let codes: Vec<_> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(codes.len(), bondgate::problems::all().count());
    for code in codes {
        let entry = bondgate::problems::find(code).unwrap();
        let explained = run(&["explain", code]).await;
        assert_eq!(explained.code, Some(0), "{explained:?}");
        let [cause, fix] = entry.example();
        assert!(
            !format!("{cause}{fix}").contains('\u{2026}') || code == "certificate-file-version-1",
            "{code} lacks an example"
        );
        assert_eq!(
            explained.stdout.contains("for example:"),
            entry.templates() != entry.example()
        );
        for part in [&cause, &fix, entry.explanation] {
            assert!(explained.stdout.contains(part), "{part}: {explained:?}");
        }
    }
    let of_a_response = run(&["explain", "urn:bondgate:problem:tls-alert"]).await;
    assert!(
        of_a_response.stdout.starts_with("tls-alert (error"),
        "{of_a_response:?}"
    );
    let unknown = run(&["explain", "tls-intercept"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown.stderr.contains("did you mean tls-intercepted?"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn every_option_of_every_subcommand_is_described() {
    let main = run(&["--help"]).await;
    let commands = main.stdout.split("Commands:").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    // Deeper lines go on with a description.
    let commands = commands.filter(|line| !line.starts_with("   "));
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = commands.filter(|name| *name != "help").collect();
    for expected in [
        "run", "check", "demo", "explain", "init", "simulate", "probe", "status", "support",
    ] {
        assert!(commands.contains(&expected), "{commands:?}");
    }
    for command in commands {
        let help = run(&[command, "--help"]).await;
        assert_eq!(help.code, Some(0), "{help:?}");
        assert!(!help.stdout.starts_with("Usage"), "{command} says what it does");
        let undescribed = undescribed(&help.stdout);
        assert!(
            undescribed.is_empty(),
            "{command}: {undescribed:?}\n{}",
            help.stdout
        );
    }
}

/// Options with no text behind them, nor below.
fn undescribed(help: &str) -> Vec<&str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = help.lines().skip_while(|line| !line.starts_with("Options"));
    let mut found = Vec::new();
    let mut options = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with(|c: char| c.is_alphabetic()) && !line.starts_with("Options") {
            break;
        }
        options.push((line, lines.clone().next().unwrap_or_default()));
    }
    for (line, next) in options {
        let is_option = line.trim_start().starts_with('-') && indent(line) <= 6;
        let has_text = line.trim_start().contains("  ") || indent(next) > indent(line);
        if is_option && !has_text {
            found.push(line);
        }
    }
    found
}

#[tokio::test]
async fn a_probe_asks_the_admin_listener_and_tells_by_its_exit_code() {
    let cisco = simulator(Options::default()).await;
    let fault = bondgate::simulator::Fault::on(
        bondgate::simulator::On::Token,
        bondgate::simulator::Kind::status(http::StatusCode::SERVICE_UNAVAILABLE),
    );
    cisco.script(fault.forever());
    let mut daemon = Setup::at(&cisco).start_without_token().await;
    let admin = daemon.admin().to_string();
    daemon.logged("no valid token").await;

    let live = run(&["probe", "live", "--address", &admin]).await;
    let unready = run(&["probe", "ready", "--address", &admin]).await;
    assert_eq!((live.code, unready.code), (Some(0), Some(1)));
    assert!(
        unready.stdout.contains("temporarily unavailable (503)"),
        "it says why: {unready:?}"
    );

    cisco.faults().clear();
    daemon.logged("token acquired").await;
    let ready = run(&["probe", "ready", "--address", &admin]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");

    drop(daemon);
    let dead = run(&["probe", "--address", &admin]).await;
    assert_eq!(dead.code, Some(1));
    assert!(dead.stderr.contains(&admin), "{}", dead.stderr);
}

#[tokio::test]
async fn a_reader_that_closes_early_ends_no_command_with_a_panic() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let config = setup.config_file();
    let (config, spool) = (config.to_str().unwrap(), setup.directory.path().to_str().unwrap());
    for (arguments, code) in [
        (&["check", "--print", "--config", config][..], 0),
        (&["spool", "list", "--directory", spool], 0),
        (&["spool", "requeue", "--all", "--directory", spool], 0),
        (&["check", "--config", "nowhere.toml"], 3),
        (&["explain"], 0),
    ] {
        let closed = || std::io::pipe().unwrap().1;
        let mut command = bondgate();
        command.args(arguments).stdout(closed()).stderr(closed());
        let status = tokio::process::Command::from(command).status().await.unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}
