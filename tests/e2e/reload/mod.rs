//! Reloads while requests are served: everything that can change without a restart takes effect, or nothing does.

mod files;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bondgate::simulator::{Client, Endpoint, Handle, Options};
use tempfile::TempDir;

use crate::harness::{DEMO_SECRET, Daemon, PULL, Setup, TSP_CODES, relayed, send, simulator};
use crate::rotation::Load;
use crate::tls_listeners::Certificates;
use crate::wire::Caller;

const APPLIED: &str = "reload applied";
const UNCHANGED: &str = "reload found no changes";
const REJECTED: &str = "reload rejected, keeping the current configuration";

fn file(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.directory.path().join(name)
}

/// Replaces a file at once, as editors and Kubernetes do.
fn replace(daemon: &Daemon, name: &str, text: &str) {
    let next = file(daemon, "next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file(daemon, name)).unwrap();
}

/// Replaces the configuration with what `text` makes of it.
fn rewrite(daemon: &Daemon, text: impl FnOnce(String) -> String) {
    let before = std::fs::read_to_string(file(daemon, "bondgate.toml")).unwrap();
    replace(daemon, "bondgate.toml", &text(before));
}

fn lines(daemon: &Daemon, text: &str) -> usize {
    daemon.log().iter().filter(|line| line.contains(text)).count()
}

/// Requests a reload, and returns the log line with its outcome.
async fn reload(daemon: &mut Daemon, outcome: &str) -> String {
    let before = lines(daemon, outcome);
    daemon.signal("HUP");
    daemon.logged_times(outcome, before + 1).await;
    let log = daemon.log();
    log.iter().rfind(|line| line.contains(outcome)).unwrap().clone()
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

async fn status(daemon: &Daemon, path: &str, host: &str, more: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
    daemon.send(request).await.status()
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request_and_fetch_no_token() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "wait = \"2s\"").start().await;
    let load = Load::start(daemon.address(), 8);
    for round in 1..=100 {
        // Each reload changes the upstream and the access policy; the token stays.
        rewrite(&daemon, |text| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            for line in &mut lines {
                if line.starts_with("wait") {
                    *line = format!("wait = \"{}s\"", 1 + round % 9);
                } else if line.starts_with("address = \"127.0.0.1:0\"") {
                    *line += &format!("\nhosts = [\"host-{round}\"]");
                } else if line.starts_with("hosts") {
                    line.clear();
                }
            }
            lines.join("\n")
        });
        reload(&mut daemon, APPLIED).await;
        let host = format!("host-{round}");
        assert_ne!(status(&daemon, "/simulator/echo", &host, "").await, 421, "{host}");
    }
    let answered = load.stop().await;

    println!("100 reloads under {answered} requests of 8 callers on kept connections");
    assert_eq!(cisco.tokens.count(), 1, "one token for all of them");
    let metrics = daemon.ask("/metrics").await;
    assert!(
        metrics
            .body()
            .contains("bondgate_config_reloads_total{result=\"applied\"} 100"),
        "{metrics:?}"
    );
    assert_eq!(
        status(&daemon, "/simulator/echo", "host-99", "").await,
        421,
        "it is over"
    );
}

#[tokio::test]
async fn a_token_task_that_is_replaced_under_load_fails_no_request_and_leaves_no_task_behind() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "client_auth = \"form\"").start().await;
    let load = Load::start(daemon.address(), 4);
    cisco.options().token_lifetime = Duration::from_secs(4);
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 {
            ("\"form\"", "\"basic\"")
        } else {
            ("\"basic\"", "\"form\"")
        };
        rewrite(&daemon, |text| text.replace(from, to));
        reload(&mut daemon, APPLIED).await;
        cisco.tokens.wait_for(round + 2).await;
    }
    let count = cisco.tokens.count();
    let began = Instant::now();
    cisco.tokens.wait_for(count + 3).await;

    // One token task fetches at about half of 4 s; eleven would fetch eleven times as often.
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    load.stop().await;
    assert_eq!(cisco.tokens.refused(), 0);
}

/// Waits for a log line that holds `part` after so many lines.
async fn logged_since(daemon: &mut Daemon, seen: usize, part: &str) {
    daemon.logged(part).await;
    let log = &daemon.log()[seen..];
    assert!(log.iter().any(|line| line.contains(part)), "{part} in {log:?}");
}

#[tokio::test]
async fn a_rejected_reload_changes_nothing_and_reports_every_fault() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let keys = setup.file("broken-keys", "no colon in this line\n");
    setup.file(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let outside = tempfile::NamedTempFile::new().unwrap();
    let secret = setup.directory.path().join("cisco.secret");
    let mut daemon = setup.start().await;
    let good = std::fs::read_to_string(file(&daemon, "bondgate.toml")).unwrap();

    let upstream = |more: &str| good.replace("[upstream.cisco]\n", &format!("[upstream.cisco]\n{more}\n"));
    let listener = |more: &str| good.replace("[[listener]]\n", &format!("[[listener]]\n{more}\n"));
    let another = |more: &str| {
        format!(
            "{good}\n[upstream.other]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nurl = \"{}\"\n\
             token_url = \"{}\"\n{more}\n",
            cisco.url(),
            cisco.token_url()
        )
        .replace("[[listener]]\n", "[[listener]]\nupstream = \"cisco\"\n")
    };
    for (broken, reported) in [
        ("[upstream.cisco\n".to_owned(), &["bondgate.toml:1"][..]),
        (String::new(), &["bondgate.toml sets no key"]),
        (
            upstream("wait = 7\nscoop = \"x\"").replace("cisco-ca.pem", "none.pem"),
            &[
                "cisco.wait: ",
                "mean \\\"scope\\\"?",
                "none.pem: it does not exist",
            ],
        ),
        (
            upstream("proxy = \"socks5://x\""),
            &["upstream.cisco.proxy: the outbound proxy is not "],
        ),
        (
            good.replace("cisco-ca.pem", "nowhere.pem"),
            &["upstream.cisco.ca_file: ", "nowhere.pem: "],
        ),
        (
            good.replace("cisco-ca.pem", "broken.pem"),
            &["upstream.cisco.ca_file: ", "broken.pem"],
        ),
        (
            listener(&format!("keys = {{ file = {keys:?} }}")),
            &["listener[0].keys: line 1 of the caller keys"],
        ),
        (
            another("client_secret = { file = \"/nowhere/secret\" }"),
            &["upstream.other.client_secret: ", "needs a restart"],
        ),
        (
            another(&format!(
                "client_secret = {{ file = {:?} }}",
                secret.with_file_name("missing")
            )),
            &["upstream.other.client_secret: cannot read"],
        ),
        (
            good.replace("cisco-ca.pem\"", "cisco-ca.pem\"#")
                .replace("ca_file = ", &format!("ca_file = {:?} #", outside.path())),
            &[
                "upstream.cisco.ca_file: ",
                "is outside the sandbox",
                "needs a restart",
            ],
        ),
        (
            good.replace(
                &format!("url = \"{}\"", cisco.url()),
                "url = \"https://127.0.0.1:1\"",
            ),
            &["upstream.cisco: port 1 is outside the sandbox", "needs a restart"],
        ),
    ] {
        replace(&daemon, "bondgate.toml", &broken);
        let seen = daemon.log().len();
        reload(&mut daemon, REJECTED).await;
        for part in reported {
            logged_since(&mut daemon, seen, part).await;
        }
        assert_eq!(status(&daemon, PULL, "localhost", "").await, 200, "{broken}");
    }

    assert_eq!(cisco.tokens.count(), 1);
    assert_eq!(lines(&daemon, APPLIED), 0);
    let metrics = daemon.ask("/metrics").await;
    assert!(
        metrics
            .body()
            .contains("bondgate_config_reloads_total{result=\"refused\"} 11"),
        "{metrics:?}"
    );

    replace(&daemon, "bondgate.toml", &good);
    reload(&mut daemon, UNCHANGED).await;
}

#[tokio::test]
async fn rules_callers_and_hosts_change_for_the_next_request_of_a_kept_connection() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    setup.file("callers", "itsm:first-key\n");
    let keys = setup.directory.path().join("callers");
    let mut daemon = setup.start().await;
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(&get(TSP_CODES, "localhost")).await;
    assert_eq!(caller.message().await.status(), 200);

    let rule = format!("rules = [{{ methods = [\"GET\"], path = \"{PULL}\" }}]\n");
    let listener =
        format!("keys = {{ file = {keys:?} }}\nhosts = [\"bondgate.internal\"]\nhealth = \"/healthz\"\n");
    rewrite(&daemon, |text| {
        text.replace("[upstream.cisco]\n", &format!("[upstream.cisco]\n{rule}"))
            .replace("[[listener]]\n", &format!("[[listener]]\n{listener}"))
    });
    let line = reload(&mut daemon, APPLIED).await;
    for key in [
        "upstream.cisco.rules",
        "listener[0].keys",
        "listener[0].hosts",
        "listener[0].health",
    ] {
        assert!(line.contains(key), "{line}");
    }

    let key = "Host: bondgate.internal\r\nX-Bondgate-Key: first-key\r\n\r\n";
    for (request, status) in [
        (get(PULL, "bondgate.internal"), 401),
        (format!("GET {PULL} HTTP/1.1\r\n{key}"), 200),
        (format!("GET {TSP_CODES} HTTP/1.1\r\n{key}"), 403),
        (get("/healthz", "localhost"), 200),
    ] {
        caller.say(&request).await;
        assert_eq!(caller.message().await.status(), status, "{request}");
    }
    assert_eq!(cisco.tokens.count(), 1);

    // The file of caller keys is read again without a signal.
    replace(&daemon, "callers", "itsm:second-key\n");
    daemon.logged("listener[0].keys (its file)").await;
    for (key, status) in [("first-key", 401), ("second-key", 200)] {
        caller
            .say(&format!(
                "GET {PULL} HTTP/1.1\r\nHost: localhost\r\nX-Bondgate-Key: {key}\r\n\r\n"
            ))
            .await;
        assert_eq!(caller.message().await.status(), status, "{key}");
    }
}

/// A daemon with the upstream "cisco", and the text of an upstream "other" with its own client.
async fn two_clients() -> (Handle, Daemon, String) {
    let client = |id: &str| Client {
        id: id.to_owned(),
        secret: DEMO_SECRET.to_owned(),
    };
    let cisco = simulator(Options {
        clients: vec![client("demo"), client("other")],
        ..Options::default()
    })
    .await;
    let daemon = Setup::at(&cisco).start().await;
    let other = format!(
        "[upstream.other]\npreset = \"smart-bonding-stage\"\nclient_id = \"other\"\nclient_secret = {{ file = {:?} }}\n\
         url = \"{}\"\ntoken_url = \"{}\"\nca_file = {:?}\n",
        file(&daemon, "cisco.secret"),
        cisco.url(),
        cisco.token_url(),
        file(&daemon, "cisco-ca.pem"),
    );
    (cisco, daemon, other)
}

/// The clients that requested tokens, in order.
fn logins(cisco: &Handle) -> Vec<String> {
    let seen = cisco
        .seen()
        .into_iter()
        .filter(|seen| seen.endpoint == Endpoint::Token);
    seen.filter_map(|seen| seen.token_client).collect()
}

#[tokio::test]
async fn upstreams_are_added_and_removed_each_with_its_own_token_and_no_request_fails() {
    let (cisco, mut daemon, other) = two_clients().await;
    let mut caller = Caller::to(daemon.address()).await;
    let mut status = async || {
        caller.say(&get(PULL, "localhost")).await;
        caller.message().await.status()
    };
    assert_eq!(status().await, 200);

    rewrite(&daemon, |text| {
        text.replace("[[listener]]\n", "[[listener]]\nupstream = \"other\"\n") + &other
    });
    reload(&mut daemon, APPLIED).await;
    assert_eq!(status().await, 200);
    let shown = daemon.status().await;
    assert_eq!(shown["upstreams"].as_array().unwrap().len(), 2);
    assert_eq!(shown["listeners"][0]["upstream"], "other");

    // The first one goes; the second one's secret comes from another place.
    let moved = file(&daemon, "moved.secret");
    std::fs::write(&moved, DEMO_SECRET).unwrap();
    rewrite(&daemon, |text| {
        let from = text.find("[upstream.cisco]").unwrap();
        let to = text.find("[[listener]]").unwrap();
        let last = text.rfind("cisco.secret").unwrap();
        let text = format!(
            "{}moved.secret{}",
            &text[..last],
            &text[last + "cisco.secret".len()..]
        );
        format!("{}{}", &text[..from], &text[to..])
    });
    reload(&mut daemon, APPLIED).await;
    assert_eq!(status().await, 200);
    let shown = daemon.status().await;
    assert_eq!(shown["upstreams"].as_array().unwrap().len(), 1, "{shown}");

    let relayed: Vec<_> = relayed(&cisco)
        .into_iter()
        .filter_map(|seen| seen.token_client)
        .collect();
    assert_eq!(relayed, ["demo", "other", "other"]);
    cisco.tokens.wait_for(3).await;
    assert_eq!(logins(&cisco), ["demo", "other", "other"]);
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_api_than_it_was_issued_for() {
    let (cisco, mut daemon, _) = two_clients().await;
    // The same simulator by another name: another API, as far as the daemon knows.
    let url = cisco.url();
    let elsewhere = url.replace("localhost", "127.0.0.1");
    assert_ne!(url, elsewhere);
    rewrite(&daemon, |text| {
        text.replace(&format!("url = \"{url}\""), &format!("url = \"{elsewhere}\""))
    });
    reload(&mut daemon, APPLIED).await;
    assert_eq!(status(&daemon, PULL, "localhost", "").await, 200);
    assert_eq!(cisco.tokens.count(), 2);
    let relayed = relayed(&cisco);
    let bearers: Vec<_> = relayed
        .iter()
        .flat_map(|seen| seen.header("authorization"))
        .collect();
    assert_eq!(bearers, [format!("Bearer {}", cisco.tokens.issued()[1])]);
}

#[tokio::test]
async fn the_admin_listeners_access_control_changes_too() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    assert_eq!(daemon.ask("/metrics").await.status(), 200);
    rewrite(&daemon, |text| {
        text.replace("[admin]\n", "[admin]\nallow = [\"10.0.0.0/8\"]\n")
    });
    reload(&mut daemon, APPLIED).await;
    assert_eq!(daemon.ask("/metrics").await.status(), 403);
}

#[tokio::test]
async fn changes_that_need_a_restart_are_named_and_the_rest_is_applied() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    rewrite(&daemon, |text| {
        text.replace("[server]\n", "[server]\nworkers = 3\ndrain = \"9s\"\n")
            .replace("format = \"json\"", "format = \"text\"")
            .replace(
                "[[listener]]\n",
                "[[listener]]\nhosts = [\"bondgate.internal\"]\nmode = \"0600\"\n",
            )
            .replace("[admin]\n", "[[listener]]\naddress = \"127.0.0.1:1\"\n[admin]\n")
            .replace(
                "[admin]\naddress = \"127.0.0.1:0\"",
                "[admin]\naddress = \"localhost:0\"",
            )
            + "[limits]\nhead = \"8KiB\"\n[spool]\ndirectory = \"/var\"\n"
    });
    let line = reload(&mut daemon, APPLIED).await;
    assert!(
        line.contains("listener[0].hosts") && line.contains("server.drain"),
        "{line}"
    );
    assert_eq!(status(&daemon, PULL, "bondgate.internal", "").await, 200);

    for key in [
        "server.workers",
        "log.format",
        "limits.head",
        "spool.directory",
        "admin.address",
        "listener[0].mode",
        "listener[1] is new: 127.0.0.1:1",
    ] {
        daemon.logged(&format!("\"change\":\"{key}")).await;
    }
    assert_eq!(lines(&daemon, "needs a restart"), 7);
    // Each reload reports it until the restart.
    reload(&mut daemon, UNCHANGED).await;
    daemon.logged_times("needs a restart", 14).await;
}

#[tokio::test]
async fn a_listener_that_is_removed_or_turns_tls_on_serves_as_before_until_the_restart() {
    let (cisco, mut daemon, _) = two_clients().await;
    let certificates = Certificates::new();
    std::fs::write(file(&daemon, "server.pem"), &certificates.server.0).unwrap();
    std::fs::write(file(&daemon, "server.key"), &certificates.server.1).unwrap();
    let tls = format!(
        "tls = {{ certificate_file = {:?}, key_file = {:?} }}\nhealth = \"/healthz\"\n",
        file(&daemon, "server.pem"),
        file(&daemon, "server.key")
    );
    rewrite(&daemon, |text| {
        text.replace("[[listener]]\n", &format!("[[listener]]\n{tls}"))
    });
    daemon.signal("HUP");
    daemon.logged("listener[0].tls is turned on or off").await;
    assert_eq!(status(&daemon, PULL, "localhost", "").await, 200);
    assert_eq!(status(&daemon, "/healthz", "localhost", "").await, 403);

    rewrite(&daemon, |text| {
        text.replace("address = \"127.0.0.1:0\"\n\n[admin]", "[admin]")
            .replace("127.0.0.1:0", "127.0.0.1:2")
    });
    daemon.signal("HUP");
    daemon.logged("is removed: it still listens").await;
    assert_eq!(status(&daemon, PULL, "localhost", "").await, 200);
    assert_eq!(cisco.tokens.count(), 1);
}

#[tokio::test]
async fn the_log_level_changes() {
    let cisco = simulator(Options::default()).await;
    let directory: TempDir = Setup::at(&cisco).into_file();
    let mut command = crate::harness::bondgate();
    command
        .args(["run", "--config"])
        .arg(directory.path().join("bondgate.toml"));
    let mut daemon = Daemon::spawn(command, directory);
    daemon.logged("token acquired").await;
    assert_eq!(lines(&daemon, "DEBUG"), 0);
    rewrite(&daemon, |text| {
        text.replace("[log]\n", "[log]\nlevel = \"debug\"\n")
    });
    assert!(reload(&mut daemon, APPLIED).await.contains("log.level"));
    send(daemon.address(), "nonsense\r\n\r\n").await;
    reload(&mut daemon, UNCHANGED).await;
    assert!(lines(&daemon, "DEBUG") > 0);
    rewrite(&daemon, |text| text.replace("debug", "loud"));
    let line = reload(&mut daemon, REJECTED).await;
    assert!(line.contains("log.level: \\\"loud\\\" is not a level"), "{line}");
}
