//! `bondgate check --live`: each step up to the API, and the cause where one fails.

use bondgate::simulator::Options;

use crate::check::assert_no_secret;
use crate::harness::{DEMO_SECRET, Ended, Setup, bondgate, finished, simulator};

const SECRET: &str = "hunter2-is-the-secret";

/// `check --live` against a simulator, as the environment changes it.
async fn live(secret: &str, environment: &[(&str, &str)]) -> Ended {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", secret, "")
        .listener("127.0.0.1:0", "");
    let mut command = bondgate();
    command
        .args(["check", "--live", "--config"])
        .arg(setup.config_file());
    command.envs(environment.iter().copied());
    finished(command).await
}

#[tokio::test]
async fn a_live_check_walks_every_step_and_takes_no_message() {
    let ended = live(DEMO_SECRET, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for step in [
        "name (token)",
        "TLS (token)",
        "clock",
        "token",
        "name (API)",
        "TLS (API)",
        "API",
    ] {
        assert!(
            ended.stdout.contains(&format!("  ok  cisco: {step}")),
            "{step}: {}",
            ended.stdout
        );
    }
    assert_no_secret(&ended, DEMO_SECRET);
}

#[tokio::test]
async fn a_live_check_with_a_wrong_secret_says_so() {
    let ended = live(SECRET, &[]).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("knows the client id demo and refuses the client secret; store the secret"),
        "{ended:?}"
    );
    assert_no_secret(&ended, SECRET);
}

#[tokio::test]
async fn a_live_check_with_an_unknown_ca_names_the_certificate_and_ca_file() {
    let other = simulator(Options::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("other.pem");
    std::fs::write(&ca_file, other.ca_pem()).unwrap();

    let ended = live(DEMO_SECRET, &[("BONDGATE_CA_FILE", ca_file.to_str().unwrap())]).await;

    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stdout.contains("certificate"), "{ended:?}");
}

#[tokio::test]
async fn a_live_check_with_a_name_that_does_not_resolve_names_it() {
    let ended = live(
        DEMO_SECRET,
        &[(
            "BONDGATE__UPSTREAM__CISCO__TOKEN_URL",
            "https://no-such-host.invalid/token",
        )],
    )
    .await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let named = ended
        .stdout
        .lines()
        .any(|line| line.starts_with("  FAILED  cisco: name") && line.contains("no-such-host.invalid"));
    assert!(named, "{ended:?}");
    assert!(ended.stdout.contains("  skipped  cisco: token"), "{ended:?}");
    assert!(
        ended.stdout.contains("  ok  cisco: TLS"),
        "the API's steps go on: {ended:?}"
    );
}
