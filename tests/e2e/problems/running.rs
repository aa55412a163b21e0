//! Failures of files under a running daemon, which go on with what they had: a reload that is rejected, and credentials that
//! the next token will need.

use bondgate::simulator::Options;
use serde_json::Value;

use super::{check_of, lines, record};
use crate::harness::{DEMO_SECRET, Daemon, Setup, simulator};

/// The one problem that the status shows.
async fn the_problem(daemon: &Daemon) -> Value {
    let status = daemon.status().await;
    let problems = status["problems"].as_array().unwrap();
    assert!(problems.len() < 2, "{status}");
    problems.first().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_rejected_reload_is_a_problem_until_a_reload_succeeds() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("bondgate.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for (injection, text, code) in [
        (
            "unknown key",
            good.replace("[admin]", "[admin]\nadress = 1"),
            "config-key-unknown",
        ),
        (
            "wrong value",
            good.replace("[upstream.cisco]", "[upstream.cisco]\nwait = 7"),
            "config-value-wrong",
        ),
        ("no TOML", format!("[upstream\n{good}"), "config-syntax"),
        (
            "missing file",
            good.replace("cisco-ca.pem", "nowhere.pem"),
            "file-missing",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        daemon.signal("HUP");
        daemon
            .logged(&format!("the current configuration\",\"problem\":\"{code}\""))
            .await;
        let problem = the_problem(&daemon).await;
        assert_eq!(
            (&problem["code"], &problem["call"]),
            (&code.into(), &"configuration".into())
        );
        assert!(
            problem["subject"].as_str().unwrap().contains("bondgate.toml:"),
            "{problem}"
        );
        let metric = format!("bondgate_problem{{call=\"configuration\",code=\"{code}\"}} 1");
        assert!(daemon.ask("/metrics").await.body().contains(&metric), "{metric}");
        let ended = check_of(&file, &[]).await;
        assert_eq!(lines(&ended, code).len(), 1, "{ended:?}");
        record(
            &format!("reload: {injection}"),
            "configuration",
            code,
            [code, code, code, "- the previous one serves"],
        );
    }
    std::fs::write(&file, good).unwrap();
    daemon.signal("HUP");
    daemon.logged("reload found no changes").await;
    assert_eq!(the_problem(&daemon).await, Value::Null);
    assert!(!daemon.ask("/metrics").await.body().contains("bondgate_problem{"));
}

#[tokio::test]
async fn a_secret_that_becomes_unusable_is_a_warning_before_it_is_needed_until_it_is_usable() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("cisco.secret");
    std::fs::write(&file, "").unwrap();
    assert_warned(&mut daemon, "secret file emptied", "secret-empty").await;
    std::fs::write(&file, DEMO_SECRET).unwrap();
    daemon.logged("credentials can be read again").await;
    assert_eq!(the_problem(&daemon).await, Value::Null);
    assert_eq!(cisco.tokens.count(), 1);
}

#[tokio::test]
async fn a_secret_that_is_gone_is_a_warning_and_another_one_in_its_place_is_used_at_once() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("cisco.secret");
    std::fs::remove_file(&file).unwrap();
    assert_warned(&mut daemon, "secret file removed", "file-missing").await;
    cisco.options().clients[0].secret = "another-secret".to_owned();
    std::fs::write(&file, "another-secret").unwrap();
    daemon.logged("credentials changed, fetching a token").await;
    cisco.tokens.wait_for(2).await;
    assert_eq!(cisco.tokens.refused(), 0);
}

async fn assert_warned(daemon: &mut Daemon, injection: &str, code: &str) {
    daemon.logged(&format!("\"problem\":\"{code}\"")).await;
    let problem = the_problem(daemon).await;
    let shown = (&problem["code"], &problem["severity"], &problem["call"]);
    assert_eq!(shown, (&code.into(), &"warning".into(), &"token".into()));
    assert_eq!(daemon.ask("/readyz?token").await.status(), 200);
    let ended = check_of(&daemon.directory.path().join("bondgate.toml"), &[]).await;
    assert_eq!(lines(&ended, code).len(), 1, "{ended:?}");
    record(
        injection,
        "token",
        code,
        [code, code, code, "- the token is valid"],
    );
}
