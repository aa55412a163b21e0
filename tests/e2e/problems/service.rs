//! A check of the service's configuration, in a shell that has nothing of what systemd gives the service.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use bondgate::simulator::{Handle, Options};

use super::lines;
use crate::harness::{Setup, bondgate, finished, simulator};

/// The service of config/systemd, with its unit and the file of its secret.
fn service(cisco: &Handle) -> Setup {
    let setup = Setup::at(cisco).relisten("systemd:http");
    let units = setup.directory.path().join("units");
    std::fs::create_dir(&units).unwrap();
    std::fs::copy("config/systemd/bondgate.socket", units.join("bondgate.socket")).unwrap();
    let secret = setup.directory.path().join("cisco.secret");
    let unit = std::fs::read_to_string("config/systemd/bondgate.service").unwrap();
    let unit = unit.replace("/etc/bondgate/client_secret", secret.to_str().unwrap());
    std::fs::write(units.join("bondgate.service"), unit).unwrap();
    let file = setup.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(&format!("file = {secret:?}"), "credential = \"client_secret\"");
    setup.file("service.toml", &text);
    setup.environment("SYSTEMD_UNIT_PATH", units.to_str().unwrap())
}

/// Loads credentials as systemd-run does.
const SYSTEMD_RUN: &str = "#!/bin/sh
export CREDENTIALS_DIRECTORY=$(mktemp -d -p \"${0%/*}\")
while :; do
  case $1 in
  -p) load=${2#LoadCredential=}; install -m 400 \"${load#*:}\" \"$CREDENTIALS_DIRECTORY/${load%%:*}\"; shift ;;
  --*) ;;
  *) exec \"$@\" ;;
  esac
  shift
done
";

/// What a user who may not read the secret's file runs. A test that runs as root becomes another user.
fn check_as_other_user(setup: &Setup) -> Command {
    let directory = setup.directory.path();
    let secret = directory.join("cisco.secret");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    // Other users may not enter the folder of the build.
    let program = directory.join("bondgate");
    std::fs::copy(bondgate().get_program(), &program).unwrap();
    let mut command = Command::new(program);
    command
        .args(["check", "--live", "--config"])
        .arg(directory.join("service.toml"));
    if rustix::process::geteuid().is_root() {
        command.uid(65534);
    }
    command
}

#[tokio::test]
async fn a_check_by_a_user_who_may_not_read_the_secret_names_the_command_that_does() {
    let cisco = simulator(Options::default()).await;
    let setup = service(&cisco);
    let mut command = check_as_other_user(&setup);
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    let ended = finished(command).await;
    let found = lines(&ended, "credential-not-checked");
    assert_eq!((ended.code, found.len()), (Some(0), 1), "{ended:?}");
    assert!(ended.stdout.contains("  skipped  cisco: token"), "{ended:?}");
    assert!(ended.stdout.contains("/var/lib/bondgate"), "{ended:?}");
    assert!(lines(&ended, "spool-in-memory").is_empty(), "{ended:?}");

    let secret = setup.directory.path().join("cisco.secret");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let tools = setup.directory.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    for (name, script) in [("systemd-run", SYSTEMD_RUN), ("sudo", "#!/bin/sh\nexec \"$@\"\n")] {
        std::fs::write(tools.join(name), script).unwrap();
        std::fs::set_permissions(tools.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let (_, fix) = found[0].split_once("run: ").unwrap();
    let (fix, _) = fix.rsplit_once(" [").unwrap();
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap();
    command
        .args(["-c", fix])
        .env("PATH", format!("{}:{path}", tools.display()));
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    let ended = finished(command).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("  ok  cisco: token"), "{ended:?}");
}

fn check(setup: &Setup) -> Command {
    let mut command = bondgate();
    command
        .args(["check", "--live", "--config"])
        .arg(setup.directory.path().join("service.toml"));
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    command
}

#[tokio::test]
async fn a_check_reads_the_secret_that_the_services_next_start_will_have() {
    let cisco = simulator(Options::default()).await;
    let setup = service(&cisco);
    let ended = finished(check(&setup)).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("  ok  cisco: token"), "{ended:?}");

    let secret = setup.directory.path().join("cisco.secret");
    std::fs::write(&secret, "wrong\n").unwrap();
    let ended = finished(check(&setup)).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stdout.contains("[client-secret-refused]"), "{ended:?}");
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_check_says_that_the_running_service_has_an_older_secret() {
    let cisco = simulator(Options::default()).await;
    let setup = service(&cisco);
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let credentials = "/run/credentials/bondgate.service";
    let secret = setup.directory.path().join("cisco.secret");
    for (copy, is_older) in [
        ("older", true),
        (&*std::fs::read_to_string(&secret).unwrap(), false),
    ] {
        let copy = setup.file("credential", copy);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]).arg(format!(
            "mount -t tmpfs tmpfs /run && mkdir -p {credentials} && install -m 600 {} {credentials}/client_secret \
             && exec {program} check --live --config {}/service.toml",
            copy.display(),
            setup.directory.path().display(),
        ));
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let ended = finished(command).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains("  ok  cisco: token"), "{ended:?}");
        assert_eq!(
            ended.stdout.contains("[credential-outdated]"),
            is_older,
            "{ended:?}"
        );
    }
}
