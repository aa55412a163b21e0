//! Paths and variables: which file they name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use bondgate::simulator::Options;

use super::lines;
use crate::harness::{Daemon, Setup, bondgate, finished, simulator};

#[tokio::test]
async fn relative_paths_the_spools_too_follow_the_configuration_file_and_not_the_working_directory() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).and("[spool]\ndirectory = \"spool\"\n");
    let file = setup.config_file();
    let directory = setup.directory.path().to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace(&format!("{directory}/"), "");
    std::fs::write(&file, &text).unwrap();
    assert!(
        text.contains("\"cisco.secret\"") && text.contains("\"cisco-ca.pem\""),
        "{text}"
    );

    let mut command = bondgate();
    command.args(["check", "--config"]).arg(&file).current_dir("/");
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(&file).current_dir("/");
    let mut daemon = Daemon::spawn(command, setup.directory);
    daemon.logged("token acquired").await;
    assert!(daemon.directory.path().join("spool").is_dir());
    assert!(!std::path::Path::new("/spool").exists());
}

#[tokio::test]
async fn an_environment_value_that_is_not_utf_8_is_a_fault_and_no_other_path() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let file = setup.config_file();
    for (name, code) in [
        ("BONDGATE_SPOOL_DIRECTORY", "variable-not-utf-8"),
        ("BONDGATE__UPSTREAM__CISCO__CA_FILE", "variable-not-utf-8"),
        ("STATE_DIRECTORY", "variable-not-utf-8"),
        ("BONDGATE_CLIENT_SECRET", "variable-not-utf-8"),
    ] {
        let mut command = bondgate();
        command.args(["check", "--config"]).arg(&file);
        command.env(name, OsStr::from_bytes(b"/tmp/\xff"));
        let ended = finished(command).await;
        let found = lines(&ended, code);
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{name} {ended:?}");
        assert!(
            found[0].contains(name) && !ended.stdout.contains('\u{fffd}'),
            "{found:?}"
        );
    }
    // The source of a secret.
    let mut command = bondgate();
    command.args(["check", "--config"]).arg(&file);
    command.env("BONDGATE__UPSTREAM__CISCO__CLIENT_ID__ENV", "SECRET");
    command.env("SECRET", OsStr::from_bytes(b"\xff"));
    let ended = finished(command).await;
    assert_eq!(
        (ended.code, lines(&ended, "variable-not-utf-8").len()),
        (Some(3), 1),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_path_with_backslashes_is_one_fault_that_shows_single_quotes() {
    for path in ["C:\\Users\\x", "C:\\temp\\s", "C:\\temp", "\\\\server\\new"] {
        let setup = Setup::new();
        let text = format!(
            "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = {{ file = \"{path}\" }}\n"
        );
        let file = setup.file("gate.toml", &text);
        let check = async || {
            let mut command = bondgate();
            command.args(["check", "--config"]).arg(&file);
            finished(command).await
        };
        let ended = check().await;
        let found = lines(&ended, "toml-backslash-in-quotes");
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{path} {ended:?}");
        let faults = ended.stdout.lines().filter(|line| line.contains("gate.toml:"));
        assert_eq!(faults.count(), 1, "{ended:?}");
        assert!(
            found[0].contains("gate.toml:4: ") && found[0].contains("single quotes"),
            "{found:?}"
        );
        std::fs::write(&file, text.replace(&format!("\"{path}\""), &format!("'{path}'"))).unwrap();
        assert_eq!(lines(&check().await, "toml-backslash-in-quotes").len(), 0);
    }
}
