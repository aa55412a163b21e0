//! The support bundle: everything that a support case needs, beside a daemon or without one, and no secret.

mod places;
mod secrets;

use std::path::Path;

use bondgate::simulator::{Fault, Kind, On, Options};

use crate::confidential;
use crate::harness::{Daemon, Ended, PUSH, Setup, bondgate, finished, simulator};
use crate::wire::Caller;

/// Runs `bondgate support` in a directory.
async fn support(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = bondgate();
    command.arg("support").args(arguments).current_dir(directory);
    command.envs(variables.iter().copied());
    finished(command).await
}

/// The bundle of a daemon and of its configuration.
async fn bundle_of(daemon: &Daemon, variables: &[(&str, &str)]) -> (String, Ended) {
    let (address, directory) = (daemon.admin().to_string(), daemon.directory.path());
    let arguments = [
        "--config",
        "bondgate.toml",
        "--address",
        &address,
        "--output",
        "bundle",
    ];
    let ended = support(directory, &arguments, variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let file = directory.join("bundle");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    confidential::assert_clean(text.as_bytes());
    (text, ended)
}

/// The text of a section.
fn section<'a>(bundle: &'a str, title: &str) -> &'a str {
    let is_of = |section: &&str| {
        let (_, rest) = section.split_once(". ").unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        line == title || line.starts_with(&format!("{title} ("))
    };
    let section = bundle.split("\n=== ").skip(1).find(is_of);
    section.unwrap_or_else(|| panic!("{title} is not in\n{bundle}"))
}

fn assert_holds(bundle: &str, title: &str, parts: &[&str]) {
    let text = section(bundle, title);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// The lines at the beginning that say what is missing.
fn missing(bundle: &str) -> Vec<&str> {
    let (_, rest) = bundle.split_once("\nMissing:\n").unwrap();
    rest.lines().take_while(|line| !line.is_empty()).collect()
}

#[tokio::test]
async fn a_flood_of_requests_pushes_no_old_problem_out() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "")
        .environment("BONDGATE_LOG", "info")
        .start()
        .await;
    cisco.script(Fault::on(On::Push, Kind::Reset));
    let push = format!(
        "POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    assert_eq!(daemon.send(push).await.status(), 502);
    daemon.logged("requests to the API fail").await;
    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..2000 {
        caller
            .say("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(caller.message().await.status(), 200);
    }
    daemon.logged_times("\"status\":200", 2000).await;
    let (bundle, _) = bundle_of(&daemon, &[]).await;
    let log = section(&bundle, "Log");
    assert!(
        !log.contains("requests to the API fail") && !log.contains("\"message\":\"starting\""),
        "{log}"
    );
    assert!((200 << 10..300 << 10).contains(&log.len()), "{}", log.len());
    let problem = ": WARN requests to the API fail [";
    let hour = section(&bundle, "Last hour");
    let line = hour
        .lines()
        .find(|line| line.contains(problem))
        .unwrap_or_else(|| panic!("{hour}"));
    assert!(line.contains(", over at 20"), "{line}");
    assert_holds(
        &bundle,
        "Last hour",
        &[
            "ERROR request completed [",
            "path=\"/sb-partner-oauth-proxy-api/rest/v1/push/call\"",
        ],
    );
}
