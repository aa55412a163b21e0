//! Messages of a queue that the configuration no longer requests: they are reported with the command that moves them.

use std::path::Path;
use std::process::Command;

use bondgate::simulator::{Client, Fault, Handle, Kind, On, Options};
use serde_json::Value;

use super::{is_pull, is_redelivered, message, pull, request};
use crate::harness::{DEMO_SECRET, Daemon, Setup, bondgate, finished, seen_when, simulator};
use crate::wire::Caller;

const CODE: &str = "spool-queue-unrequested";

/// A simulator with a queue each for the clients "before" and "after".
async fn cisco() -> Handle {
    let client = |id: &str| Client {
        id: id.to_owned(),
        secret: DEMO_SECRET.to_owned(),
    };
    simulator(Options {
        clients: vec![client("before"), client("after")],
        ..Options::default()
    })
    .await
}

fn setup(cisco: &Handle, client_id: &str, spool: &Path) -> Setup {
    Setup::new()
        .upstream("cisco", cisco, client_id, DEMO_SECRET, "")
        .listener("127.0.0.1:0", "")
        .and(&format!("[spool]\ndirectory = {spool:?}\n"))
}

/// A daemon with the client "before" and a message that no caller took.
async fn with_undelivered_message(cisco: &Handle, spool: &Path) -> Daemon {
    let mut daemon = setup(cisco, "before", spool).start().await;
    cisco.put_raw_message("before", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 200 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    seen_when(cisco, |seen| seen.iter().any(is_pull)).await;
    caller.reset();
    daemon
        .logged("caller disconnected before its message arrived")
        .await;
    daemon
}

fn problem(status: &Value) -> Option<&Value> {
    let problems = status["problems"].as_array().unwrap();
    problems.iter().find(|problem| problem["code"] == CODE)
}

/// Runs the command between the backquotes of a fix, as it is printed.
async fn run_command_of(fix: &str) {
    let command = fix.split('`').nth(1).unwrap();
    assert!(command.starts_with("bondgate spool move "), "{fix}");
    let program = Path::new(env!("CARGO_BIN_EXE_bondgate")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
        .current_dir("/");
    let moved = finished(shell).await;
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert!(
        moved
            .stdout
            .starts_with("moved 1 undelivered and 0 delivered messages"),
        "{moved:?}"
    );
}

/// The next pull gets the message of the earlier client, and the one after it that of its own queue.
async fn assert_moved(cisco: &Handle, daemon: &mut Daemon) {
    let response = pull(daemon).await;
    assert_eq!(response.text(), message(1));
    assert!(is_redelivered(&response), "{response:?}");
    daemon.logged("pulled message delivered").await;
    cisco.put_raw_message("after", message(2));
    assert_eq!(pull(daemon).await.text(), message(2));
    assert_eq!(problem(&daemon.status().await), None);
    daemon.logged(&format!("\"was\":\"{CODE}\"")).await;
}

#[tokio::test]
async fn messages_of_an_earlier_client_id_are_reported_at_the_start_until_the_printed_command_has_moved_them()
{
    let (cisco, spool) = (cisco().await, tempfile::tempdir().unwrap());
    let mut before = with_undelivered_message(&cisco, spool.path()).await;
    before.signal("TERM");
    before.ended().await;
    let mut daemon = setup(&cisco, "after", spool.path()).start().await;
    daemon.logged(&format!("\"problem\":\"{CODE}\"")).await;
    let status = daemon.status().await;
    let problem = problem(&status).unwrap();
    assert_eq!(problem["severity"], "warning");
    let cause = problem["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("1 undelivered messages are in the queue localhost:"),
        "{cause}"
    );
    assert!(
        cause.contains("/pull/call for client before, which no consuming rule"),
        "{cause}"
    );
    let fix = problem["fix"].as_str().unwrap();

    let mut shown = bondgate();
    shown.args(["status", "--address", &daemon.admin().to_string()]);
    let shown = finished(shown).await;
    assert!(shown.stdout.contains(fix), "{shown:?}");
    assert_eq!(shown.code, Some(0), "it is a warning");
    let mut check = bondgate();
    let config = daemon.directory.path().join("bondgate.toml");
    check.args(["check", "--config"]).arg(&config);
    let checked = finished(check).await;
    assert!(
        checked.stdout.contains(CODE) && checked.stdout.contains(fix),
        "{checked:?}"
    );
    assert_eq!(checked.code, Some(0), "{checked:?}");

    run_command_of(fix).await;
    assert_moved(&cisco, &mut daemon).await;
    let mut list = bondgate();
    list.args(["spool", "list", "--config"]).arg(&config);
    let listed = finished(list).await.stdout;
    assert!(
        listed.contains("for client after (moved from localhost:"),
        "{listed}"
    );
}

#[tokio::test]
async fn messages_of_an_earlier_client_id_are_reported_after_a_reload() {
    let (cisco, spool) = (cisco().await, tempfile::tempdir().unwrap());
    let mut daemon = with_undelivered_message(&cisco, spool.path()).await;
    assert_eq!(problem(&daemon.status().await), None);
    let config = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"before\"", "\"after\"")).unwrap();
    daemon.signal("HUP");
    daemon.logged("reload applied").await;
    daemon.logged(&format!("\"problem\":\"{CODE}\"")).await;
    let status = daemon.status().await;
    run_command_of(problem(&status).unwrap()["fix"].as_str().unwrap()).await;
    assert_moved(&cisco, &mut daemon).await;
}

#[tokio::test]
async fn a_mistaken_move_is_refused_with_one_sentence() {
    let (cisco, spool) = (cisco().await, tempfile::tempdir().unwrap());
    let daemon = with_undelivered_message(&cisco, spool.path()).await;
    let config = daemon.directory.path().join("bondgate.toml");
    let listed = std::fs::read_dir(spool.path()).unwrap().next().unwrap().unwrap();
    let own = listed.file_name().into_string().unwrap();
    for (from, to, sentence) in [
        (
            "0123456789abcdef",
            own.as_str(),
            "there is no queue \"0123456789abcdef\"; name one of",
        ),
        (&own, "elsewhere", "there is no queue \"elsewhere\"; name one of"),
        (&own, &own, "name two queues"),
        (
            &own,
            "h/pull for client x",
            "no consuming rule of the configuration requests h/pull for client x; name one of",
        ),
    ] {
        let mut command = bondgate();
        command.args(["spool", "move", from, to, "--config"]).arg(&config);
        let refused = finished(command).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(sentence), "{sentence}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
}
