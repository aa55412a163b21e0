//! Queues that no request can name any more.

use super::*;
use crate::config::{Config, Upstream};
use crate::platform::shell::quoted;
use crate::problems::Problem;

/// An upstream at `host` for this client, with these rules.
fn upstream(name: &str, host: &str, client_id: &str, rules: &str) -> String {
    format!(
        "[upstream.{name}]\npreset = \"none\"\nurl = \"https://{host}\"\ntoken_url = \"https://id.example/token\"\n\
         client_id = {client_id}\nclient_secret = {{ file = \"/s\" }}\nrules = {rules}\n"
    )
}

fn rule(path: &str, is_consuming: bool) -> String {
    format!("{{ methods = [\"GET\"], path = \"{path}\", consuming = {is_consuming} }}")
}

fn upstreams(text: &str) -> Vec<Upstream> {
    Config::parse(text, "f", []).unwrap().upstreams
}

fn pulling(name: &str, host: &str, client_id: &str) -> String {
    upstream(
        name,
        host,
        &format!("\"{client_id}\""),
        &format!("[{}]", rule("/pull", true)),
    )
}

/// What is reported with these upstreams.
fn found(spool: &Spool, text: &str) -> Vec<Problem> {
    spool.set_upstreams(upstreams(text));
    spool.shared.find_unrequested();
    let problems = spool.problems().into_iter().map(|lasting| lasting.problem);
    problems
        .filter(|problem| problem.code() == "spool-queue-unrequested")
        .collect()
}

#[tokio::test]
async fn a_queue_that_no_consuming_rule_requests_is_reported_with_its_messages() {
    let directory = tempfile::tempdir().unwrap();
    for place in [Some(directory.path()), None] {
        let spool = open(&config(place));
        hold(&spool, "/pull", "one").await;
        let host = "stage.example";
        for requested in [
            pulling("a", host, "id"),
            upstream("a", host, "\"id\"", &format!("[{}]", rule("/*", true))),
            upstream(
                "a",
                &format!("{host}/"),
                "\"id\"",
                &format!("[{}]", rule("/pull", true)),
            ),
            // It may be any.
            upstream(
                "a",
                host,
                "{ file = \"/nowhere/at/all\" }",
                &format!("[{}]", rule("/pull", true)),
            ),
        ] {
            assert_eq!(found(&spool, &requested), [], "{requested}");
        }
        for changed in [
            pulling("a", host, "id2"),
            pulling("a", "prod.example", "id"),
            pulling("a", &format!("{host}:8443"), "id"),
            upstream("a", host, "\"id\"", &format!("[{}]", rule("/pull", false))),
            upstream("a", host, "\"id\"", &format!("[{}]", rule("/pull2", true))),
            upstream(
                "a",
                host,
                "\"id\"",
                &format!("[{}, {}]", rule("/*", false), rule("/pull", true)),
            ),
            upstream(
                "a",
                &format!("{host}/base"),
                "\"id\"",
                &format!("[{}]", rule("/pull", true)),
            ),
        ] {
            let problems = found(&spool, &changed);
            let [problem] = &problems[..] else {
                panic!("{changed}: {problems:?}")
            };
            assert!(
                problem
                    .cause()
                    .contains("1 undelivered messages are in the queue stage.example/pull for client id")
            );
        }
        succeed(&spool, "one").await;
        spool.totals().await.unwrap();
        assert_eq!(codes(&spool), [""; 0], "it is empty");
    }
}

#[tokio::test]
async fn the_queue_that_replaces_it_is_named_with_the_command_if_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    hold(&spool, "/pull", "one").await;
    let fix = |text: &str| {
        let problems = found(&spool, text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].fix().to_owned()
    };
    let command = format!(
        "run `bondgate spool move --directory {} {} 'stage.example/pull for client id2'`",
        quoted(directory.path()),
        queue("/pull").folder()
    );
    assert!(fix(&pulling("a", "stage.example", "id2")).contains(&command));
    // Another API does not make it ambiguous.
    let two = pulling("a", "stage.example", "id2")
        + &pulling("b", "prod.example", "id3")
        + "[[listener]]\nupstream = \"a\"\n[[listener]]\naddress = \"localhost:1\"\nupstream = \"b\"\n";
    assert!(fix(&two).contains(&command));
    let two = two.replace("prod.example", "stage.example");
    let general = fix(&two);
    assert!(
        general.contains("QUEUE is like 'HOST/PATH for client ID'"),
        "{general}"
    );
    let below = upstream(
        "a",
        "stage.example",
        "\"id2\"",
        &format!("[{}]", rule("/*", true)),
    );
    assert!(
        fix(&below).contains(&command),
        "the same path under a rule that ends in *"
    );
    let memory = open(&config(None));
    hold(&memory, "/pull", "one").await;
    let problems = found(&memory, &pulling("a", "stage.example", "id2"));
    assert!(
        problems[0]
            .fix()
            .contains("configure it again before bondgate ends"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_message_on_its_way_to_a_caller_is_not_reported() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    let delivered = delivery(take(&spool, "/pull", "one").await);
    assert_eq!(found(&spool, &pulling("a", "stage.example", "id2")), []);
    drop(delivered);
    assert_eq!(found(&spool, &pulling("a", "stage.example", "id2")).len(), 1);
}

#[tokio::test]
async fn a_check_finds_the_same_and_the_problem_ends_with_the_move() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&config(Some(directory.path())));
    hold(&spool, "/pull", "one").await;
    spool.settled().await;
    let text = pulling("a", "stage.example", "id2");
    let requested = RequestedQueues::of(&upstreams(&text));
    assert_eq!(check_queues(directory.path(), &requested), found(&spool, &text));
    let from = queue("/pull");
    let to = QueueId {
        client_id: "id2".into(),
        ..queue("/pull")
    };
    // By its folder alone, since the configuration requests it.
    let moving = Move::find(directory.path(), &from.folder(), &to.folder(), Some(&requested)).unwrap();
    assert_eq!(moving.run().unwrap().undelivered, 1);
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), [""; 0]);
    let back = Move::find(
        directory.path(),
        &to.folder(),
        &from.to_string(),
        Some(&requested),
    );
    let refused = back.err().unwrap().to_string();
    assert!(
        refused.contains("no consuming rule of the configuration requests stage.example/pull for client id"),
        "{refused}"
    );
}
