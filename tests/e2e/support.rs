//! The support bundle: everything that a support case needs, beside a daemon or without one, and no secret.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::{Fault, Kind, On, Options, Then};
use http::StatusCode;

use crate::confidential;
use crate::corporate::Corporate;
use crate::harness::{DEMO_SECRET, Daemon, Ended, PULL, PUSH, Setup, bondgate, finished, send, simulator};
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

/// Each secret of the test of secrets; as they are, all of them are searched for in the bundle.
const KEY: &str = "callers+key %&=/\u{e4}1";
const OTHER_KEY: &str = "wrong+key %&=/\u{e4}2";
const PASSWORD: &str = "proxy-pass-word-3";
const VARIABLE: &str = "proxy-of-environment-4";
const BODY: &str = "ticket+body %&=/\u{e4}5";
const PUSHED: &str = "pushed+body %&=/\u{e4}6";
const QUERY: &str = "query-secret-7";
const TOKEN_QUERY: &str = "token-query-secret-8";
const AUTHORIZATION: &str = "callers-own-bearer-9";
const REFUSED_BODY: &str = "upstream+error %&=/\u{e4}10";
const SECRET: &str = "client+secret %&=/\u{e4}11";
const REFUSED_SECRET: &str = "refused+secret %&=/\u{e4}12";

#[tokio::test]
async fn a_bundle_has_every_part_of_a_run_and_none_of_its_secrets_in_any_encoding() {
    let options = Options {
        clients: vec![bondgate::simulator::Client {
            id: "demo".to_owned(),
            secret: SECRET.to_owned(),
        }],
        ..Options::default()
    };
    let (cisco, proxy) = (simulator(options).await, Corporate::start().await);
    let setup = Setup::new();
    let keys = setup.file("callers", &format!("snow:{KEY}\n"));
    let spool = setup.directory.path().join("spool");
    let proxied = format!("proxy = \"http://user:{PASSWORD}@{}\"", proxy.address);
    let mut daemon = setup
        .upstream("cisco", &cisco, "demo", SECRET, &proxied)
        .upstream("refused", &cisco, "demo", REFUSED_SECRET, "wait = \"100ms\"")
        .listener(
            "127.0.0.1:0",
            &format!("upstream = \"cisco\"\nkeys = {{ file = {keys:?} }}"),
        )
        .listener("127.0.0.1:0", "upstream = \"refused\"")
        .and(&format!("[spool]\ndirectory = {spool:?}\n"))
        .start_without_token()
        .await;
    daemon.logged("token acquired").await;
    daemon.logged("client-secret-refused").await;

    let message = |text: &str| serde_json::json!({ "Calls": { "CustCallID": text } }).to_string();
    cisco.put_raw_message("demo", message(BODY));
    let [listener, refused] = daemon.addresses()[..] else {
        panic!("two listeners")
    };
    let basic = BASE64_STANDARD.encode(format!("snow:{KEY}"));
    let request = |authorization: &str, request: &str, body: &str| {
        format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let ask =
        async |line: &str, body: &str| send(listener, request(&format!("Basic {basic}"), line, body)).await;
    let pulled = ask(&format!("GET {PULL}?a={QUERY}"), "").await;
    assert!(
        pulled.status() == 200 && pulled.body().contains("ticket+body"),
        "{pulled:?}"
    );
    daemon.logged("\"pull\":\"ticket\"").await;
    let wrong = BASE64_STANDARD.encode(format!("snow:{OTHER_KEY}"));
    for authorization in [format!("Basic {wrong}"), format!("Bearer {AUTHORIZATION}")] {
        let line = format!("GET {PULL}?a={QUERY}");
        assert_eq!(
            send(listener, request(&authorization, &line, "")).await.status(),
            401
        );
    }
    assert_eq!(ask(&format!("GET /nowhere?a={QUERY}"), "").await.status(), 403);
    assert_eq!(ask(&format!("GET {PUSH}?a={QUERY} x"), "").await.status(), 400);
    for kind in [
        Kind::Reset,
        Kind::Half { then: Then::Close },
        Kind::Status {
            code: 500,
            headers: Vec::new(),
            body: message(REFUSED_BODY),
        },
        Kind::status(StatusCode::FORBIDDEN),
    ] {
        cisco.script(Fault::on(On::Push, kind));
        ask(&format!("POST {PUSH}?a={QUERY}"), &message(PUSHED)).await;
    }
    let plain = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(send(refused, plain).await.status(), 503);
    daemon.logged_times("\"message\":\"request completed\"", 8).await;
    // The pulled message is delivered once its connection has closed.
    daemon.logged("\"status\":503").await;

    // A manual may have the secret in the URL.
    let file = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("/v1/token\"").unwrap();
    let with_query = format!("{before}/v1/token?client_secret={TOKEN_QUERY}\"{after}");
    std::fs::write(&file, with_query).unwrap();
    let in_variable = format!("http://user:{VARIABLE}@127.0.0.1:9");
    let (bundle, ended) = bundle_of(&daemon, &[("HTTPS_PROXY", &in_variable)]).await;

    for secret in [
        KEY,
        OTHER_KEY,
        PASSWORD,
        VARIABLE,
        BODY,
        PUSHED,
        QUERY,
        TOKEN_QUERY,
        AUTHORIZATION,
        REFUSED_BODY,
        SECRET,
        REFUSED_SECRET,
    ] {
        for spelling in confidential::spellings(secret) {
            let found = memchr_find(bundle.as_bytes(), &spelling);
            assert!(
                !found,
                "{} of {secret} is in\n{bundle}",
                String::from_utf8_lossy(&spelling)
            );
        }
    }
    assert!(!bundle.contains(&basic) && !bundle.contains("BEGIN "), "{bundle}");

    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let address = daemon.address().to_string();
    for (title, parts) in [
        (
            "Program",
            &[concat!("version: ", env!("CARGO_PKG_VERSION"), " (commit ")][..],
        ),
        (
            "Machine",
            &[
                kernel.trim(),
                "HTTPS_PROXY",
                "open files of the daemon",
                "disk of the spool",
            ],
        ),
        (
            "Configuration",
            &[
                "upstream.cisco.client_id = \"demo\"",
                "upstream.cisco.proxy = [redacted]",
                "/v1/token?[redacted]\"",
                "cisco.secret",
                "bondgate.toml:",
            ],
        ),
        (
            "Check",
            &["bondgate.toml is valid", "descriptors", "spool", "\nexit code 0"],
        ),
        (
            "Status",
            &[
                "\"state\": \"fresh\"",
                "\"code\": \"client-secret-refused\"",
                &address,
            ],
        ),
        (
            "Problems",
            &["ok: cisco (", "failed: refused: ", "[client-secret-refused]"],
        ),
        (
            "Last hour",
            &[
                ", 2 times: WARN request completed [caller-key-refused]",
                "once: WARN request completed [path-not-allowed]",
                "INFO token acquired",
                "ERROR token refresh failed, no valid token [client-secret-refused]",
                "caller=\"snow\"",
                "status=500",
            ],
        ),
        ("Spool", &["messages: 1", " bytes, delivered at 20", PULL]),
        (
            "Log",
            &[
                "\"message\":\"starting\"",
                "\"pull\":\"ticket\"",
                "\"level\":\"TRACE\"",
            ],
        ),
        (
            "Metrics",
            &["bondgate_requests_total{upstream=\"cisco\",status=\"401\"} 2"],
        ),
    ] {
        assert_holds(&bundle, title, parts);
    }
    assert_eq!(missing(&bundle), ["- nothing"], "{ended:?}");
    assert!(bundle.contains(": no line holds one."), "{bundle}");
    for part in [
        "wrote bundle (",
        "contains: program, machine, configuration, check, status, problems, last hour, spool, log, metrics\n",
        "read it before you send it",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
}

fn memchr_find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

#[tokio::test]
async fn a_line_that_holds_a_secret_is_left_out() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
    let keys = setup.file("callers", "snow:key-in-a-path\n");
    let listener = format!("keys = {{ file = {keys:?} }}");
    let mut daemon = setup.listener("127.0.0.1:0", &listener).start().await;
    for path in ["/x/key-in-a-path", "/x/%6bey-in-a-path", "/x/other"] {
        assert_eq!(daemon.get(path).await.status(), 401);
    }
    daemon.logged_times("/x/", 3).await;
    let (bundle, ended) = bundle_of(&daemon, &[]).await;
    assert!(!bundle.contains("ey-in-a-path"), "{bundle}");
    assert!(bundle.contains("lines hold one and are left out."), "{bundle}");
    assert_holds(
        &bundle,
        "Log",
        &[
            "/x/other",
            "[line left out: it holds a secret of the configuration]",
        ],
    );
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn without_a_daemon_a_bundle_has_the_rest_and_names_what_is_missing_and_why() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let log = setup.file(
        "bondgate.log",
        "2026-11-29T04:00:00.000000Z ERROR the last line of the daemon\nno line of a log\n",
    );
    // Nothing listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let setup = setup.and("[spool]\ndirectory = \"spool\"\n");
    let directory = setup.into_file();
    let file = directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace(
            "[admin]\naddress = \"127.0.0.1:0\"",
            &format!("[admin]\naddress = \"{free}\""),
        )
        .replace("[log]\n", &format!("[log]\nfile = {log:?}\n"));
    std::fs::write(&file, text).unwrap();

    // The file is found in the current directory, and the bundle is written there.
    let ended = support(directory.path(), &[], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = bundle_in(directory.path());
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(ended.stdout.starts_with(&format!("wrote {name} (")), "{ended:?}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let bundle = std::fs::read_to_string(&path).unwrap();
    confidential::assert_clean(bundle.as_bytes());

    let [gap] = missing(&bundle)[..] else {
        panic!("{bundle}")
    };
    let reason = format!("no bondgate responds at {free} (Connection refused)");
    assert!(
        gap.starts_with("- status, problems, last hour, metrics: "),
        "{gap}"
    );
    assert!(
        gap.contains(&reason) && gap.ends_with("[daemon-not-reachable]"),
        "{gap}"
    );
    assert!(
        ended.stdout.contains(&format!("missing: {}", &gap[2..])),
        "{ended:?}"
    );
    assert_holds(&bundle, "Configuration", &["admin.address = "]);
    assert_holds(&bundle, "Check", &["is valid", "exit code 0"]);
    assert_holds(&bundle, "Spool", &["spool"]);
    let log = section(&bundle, "Log");
    assert!(log.contains("ERROR the last line of the daemon"), "{log}");
    assert!(!log.contains("no line of a log"), "{log}");
}

/// The only bundle in a directory, by the form of its name.
fn bundle_in(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|kind| kind == "txt"))
        .collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let name = file.file_stem().unwrap().to_str().unwrap();
    let time = name.strip_prefix("bondgate-support-").unwrap();
    let (date, hour) = time.split_at(10);
    let [hours, minutes, seconds] = [1..3, 3..5, 5..7].map(|range| &hour[range]);
    let time = format!("{date}T{hours}:{minutes}:{seconds}Z");
    assert!(
        hour.len() == 8 && humantime::parse_rfc3339(&time).is_ok(),
        "{name}"
    );
    file.clone()
}

#[tokio::test]
async fn a_configuration_with_a_fault_is_shown_in_part_and_one_that_cannot_be_read_keeps_the_rest() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (misspelled, canary) = ("wiat = \"2s\"", "canary-of-a-broken-line");
    let faulty = text.replace(
        "client_id",
        &format!("{misspelled}\nscope = [\"{canary}\"]\nclient_id"),
    );
    std::fs::write(&file, faulty).unwrap();
    let (bundle, _) = bundle_of(&daemon, &[]).await;
    assert_holds(
        &bundle,
        "Configuration",
        &["It has faults", "upstream.cisco.client_id = \"demo\""],
    );
    assert!(
        !section(&bundle, "Configuration").contains("scope = "),
        "{bundle}"
    );
    assert_holds(
        &bundle,
        "Check",
        &["has faults: 2", "[config-key-unknown]", "\nexit code 3"],
    );
    assert_holds(&bundle, "Status", &["\"state\": \"fresh\""]);
    assert!(!bundle.contains(canary), "{bundle}");

    std::fs::write(
        &file,
        text.replace("client_secret = {", &format!("client_secret = {canary}\nx = {{")),
    )
    .unwrap();
    let (bundle, ended) = bundle_of(&daemon, &[]).await;
    assert!(!bundle.contains(canary), "{bundle}");
    let gap = "configuration: it cannot be read; the check says why";
    assert!(ended.stdout.contains(&format!("missing: {gap}\n")), "{ended:?}");
    assert!(
        bundle.contains("Not searched for: the configuration cannot be read."),
        "{bundle}"
    );
    assert_holds(
        &bundle,
        "Check",
        &["bondgate.toml:", "[config-syntax]", "exit code 3"],
    );
    for (title, part) in [
        ("Status", "\"state\": \"fresh\""),
        ("Last hour", "INFO token acquired"),
        ("Log", "\"message\":\"starting\""),
        ("Metrics", "bondgate_token_state{"),
    ] {
        assert_holds(&bundle, title, &[part]);
    }
}

#[tokio::test]
async fn the_file_of_the_running_daemon_is_shown_unless_another_one_is_named() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let of_daemon = daemon.directory.path().join("bondgate.toml");
    let elsewhere = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&of_daemon).unwrap();
    std::fs::write(elsewhere.path().join("bondgate.toml"), &text).unwrap();
    let address = daemon.admin().to_string();
    let arguments = ["--address", &address, "--output", "-"];
    let own = support(elsewhere.path(), &arguments, &[]).await;
    assert_eq!(own.code, Some(0), "{own:?}");
    assert_holds(
        &own.stdout,
        "Configuration",
        &[&format!("# {}\n", of_daemon.display())],
    );
    assert_eq!(missing(&own.stdout), ["- nothing"]);
    let named = support(
        elsewhere.path(),
        &[&arguments[..], &["--config", "bondgate.toml"]].concat(),
        &[],
    )
    .await;
    let [gap] = missing(&named.stdout)[..] else {
        panic!("{named:?}")
    };
    let daemons = format!("the daemon that responds has {}", of_daemon.display());
    assert!(gap.contains(&daemons), "{gap}");
    assert!(named.stderr.contains(&daemons), "{named:?}");
}

#[tokio::test]
async fn no_file_is_overwritten_and_an_error_names_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bundle");
    std::fs::write(&file, "kept").unwrap();
    for (output, said) in [
        (
            "bundle",
            "bundle exists and is not overwritten; name another file with --output FILE",
        ),
        ("/proc/bundle", "cannot create /proc/bundle: "),
        ("/nowhere/bundle", "or write to standard output with --output -"),
    ] {
        let ended = support(directory.path(), &["--output", output], &[]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");

    let mut command = std::process::Command::new("sh");
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    command.args(["-c", &format!("exec {program} support --output - > /dev/full")]);
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("cannot write to standard output"),
        "{ended:?}"
    );
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
