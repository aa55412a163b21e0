//! The commands that query a running daemon: probe and status.

use std::os::unix::fs::PermissionsExt as _;

use bondgate::simulator::{Fault, Kind, On, Options};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Daemon, Ended, Setup, bondgate, finished, simulator};
use crate::tls_listeners::Certificates;

/// Runs the program in an empty directory.
async fn run(arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bondgate();
    command.args(arguments).current_dir(&directory);
    finished(command).await
}

/// The address of an admin listener that may have TLS.
fn admin_address(daemon: &Daemon) -> String {
    let log = daemon.log().join("\n");
    let (_, url) = log.split_once("metrics are at https://").unwrap();
    url.split(['"', '/']).next().unwrap().to_owned()
}

#[tokio::test]
async fn a_probe_works_with_tls_and_allow_and_without_a_configuration() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let with_tls = |setup: Setup| {
        let certificate = setup.file("server.pem", &certificates.server.0);
        let key = setup.file("server-key.pem", &certificates.server.1);
        let [certificate, key] = [certificate, key].map(|path| path.to_str().unwrap().to_owned());
        setup
            .environment("BONDGATE__ADMIN__TLS__CERTIFICATE_FILE", &certificate)
            .environment("BONDGATE__ADMIN__TLS__KEY_FILE", &key)
            .environment("BONDGATE__ADMIN__ALLOW", "10.99.99.99")
    };
    let daemon = with_tls(Setup::at(&cisco)).start().await;
    let address = admin_address(&daemon);
    for what in ["live", "ready"] {
        let probe = run(&["probe", what, "--tls", "--address", &address]).await;
        assert_eq!(probe.code, Some(0), "{probe:?}");
        let plain = run(&["probe", what, "--address", &address]).await;
        assert_eq!(plain.code, Some(1), "{plain:?}");
    }
    let status = run(&["status", "--tls", "--address", &address]).await;
    assert_eq!(status.code, Some(1), "{status:?}");
    assert!(
        status
            .stderr
            .contains("add 127.0.0.1 and ::1 to allow in [admin]"),
        "{status:?}"
    );
    assert!(
        status.stderr.contains("[admin-refuses-this-machine]"),
        "{status:?}"
    );

    let setup = with_tls(Setup::at(&cisco));
    let ca = setup.file("client-ca.pem", &certificates.ca);
    let certificate = setup.file("client.pem", &certificates.client.0);
    let key = setup.file("client-key.pem", &certificates.client.1);
    let setup = setup.environment("BONDGATE__ADMIN__TLS__CLIENT_CA_FILE", ca.to_str().unwrap());
    let daemon = setup.start().await;
    let address = admin_address(&daemon);
    let probe = ["probe", "live", "--tls", "--address", &address];
    assert_eq!(
        run(&probe).await.code,
        Some(0),
        "a listener that asks for a certificate lives"
    );
    let ready = ["probe", "ready", "--tls", "--address", &address];
    let without = run(&ready).await;
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(
        without.stderr.contains("add --certificate FILE and --key FILE"),
        "{without:?}"
    );
    let identity = [
        "--certificate",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let with = run(&[&ready[..], &identity].concat()).await;
    assert_eq!(with.code, Some(0), "{with:?}");

    let setup = Setup::at(&cisco);
    let socket = format!("unix:{}", setup.directory.path().join("admin.sock").display());
    let _daemon = setup
        .environment("BONDGATE_ADMIN", &socket)
        .start_without_token()
        .await;
    let probe = run(&["probe", "live", "--address", &socket]).await;
    assert_eq!(probe.code, Some(0), "{probe:?}");

    // Something may listen there on this machine.
    let unconfigured = run(&["probe"]).await;
    assert_ne!(unconfigured.code, Some(3), "{unconfigured:?}");
    if unconfigured.code != Some(0) {
        assert!(unconfigured.stderr.contains("localhost:9180"), "{unconfigured:?}");
    }
}

#[tokio::test]
async fn status_shows_what_the_page_shows_and_exits_1_while_something_fails() {
    let cisco = simulator(Options::default()).await;
    let failure = Kind::status(StatusCode::SERVICE_UNAVAILABLE);
    cisco.script(Fault::on(On::Token, failure));
    let mut daemon = Setup::at(&cisco).start_without_token().await;
    daemon.logged("no valid token").await;
    let address = daemon.admin().to_string();

    let unready = run(&["status", "--address", &address]).await;
    assert_eq!(unready.code, Some(1), "{unready:?}");
    for part in ["serving, not ready", "temporarily unavailable (503)"] {
        assert!(unready.stdout.contains(part), "{part}: {unready:?}");
    }

    daemon.logged("token acquired").await;
    let ready = run(&["status", "--address", &address]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");
    let bound = daemon.address();
    let listener = format!("listening on {bound} (configured as 127.0.0.1:0) for cisco");
    for part in [
        "serving, ready",
        &format!("  ok  cisco ({}/): token fresh since 20", cisco.url()),
        ", expires 20",
        ", next attempt in ",
        ", clock agrees with Cisco's",
        &listener,
        "spool: no message waits for a caller",
    ] {
        assert!(ready.stdout.contains(part), "{part}: {}", ready.stdout);
    }
    let json = run(&["status", "--json", "--address", &address]).await;
    assert_eq!(json.code, Some(0), "{json:?}");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["upstreams"][0]["token"]["clock"], "agrees with Cisco's");

    drop(daemon);
    let gone = run(&["status", "--address", &address]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(
        gone.stderr
            .contains(&format!("no bondgate responds at {address}")),
        "{gone:?}"
    );
}

/// What a command prints on a terminal.
async fn on_a_terminal(command: &str, environment: &[(&str, &str)]) -> String {
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--command", command, "/dev/null"]);
    script.env_clear().envs(environment.iter().copied());
    script.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    finished(script).await.stdout
}

#[tokio::test]
async fn a_terminal_gets_signs_and_colours_and_a_pipe_gets_words() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let command = format!("{program} status --address {}", daemon.admin());
    let coloured = on_a_terminal(&command, &[]).await;
    assert!(coloured.contains("\x1b[32m√\x1b[0m  cisco"), "{coloured}");
    let plain = on_a_terminal(&command, &[("NO_COLOR", "1")]).await;
    assert!(plain.contains("  √  cisco") && !plain.contains('\x1b'), "{plain}");
    let piped = run(&["status", "--address", &daemon.admin().to_string()]).await;
    assert!(piped.stdout.contains("  ok  cisco"), "{piped:?}");
}

/// The address of a program that sends the same to each connection, and ends it.
pub(crate) async fn another_program(response: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    address
}

#[tokio::test]
async fn a_response_that_is_incomplete_is_refused_with_the_reason() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let status = daemon.ask("/status.json").await;
    let status = status.body();
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{status}");
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{status}{}", " ".repeat(5 << 20));
    for (response, reason) in [
        (cut, format!("it ends after {} of 99999 bytes", status.len())),
        (long, "it is longer than 4 MiB".to_owned()),
    ] {
        let address = another_program(response).await;
        for command in [&["status"][..], &["status", "--json"], &["probe", "ready"]] {
            let ended = run(&[command, &["--address", &address]].concat()).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
            let said = format!("at {address} is incomplete ({reason})");
            assert!(ended.stderr.contains(&said), "{ended:?}");
            assert!(ended.stderr.contains("[admin-response-incomplete]"), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn control_characters_of_another_program_are_not_printed() {
    let status = serde_json::json!({
        "version": "1\u{1b}]0;a\u{7}", "phase": "b\nc", "ready": true, "listeners": [{ "address": "\u{9b}2J" }],
        "upstreams": [{ "name": "\u{1b}c", "token": { "state": "fresh" } }], "spool": { "text": "\r" },
    });
    let ready = "ready\n\u{1b}]0;a\u{7}\n\u{9b}2J\n";
    for (body, command) in [
        (status.to_string(), &["status"][..]),
        (status.to_string(), &["status", "--json"]),
        (ready.to_owned(), &["probe", "ready"]),
    ] {
        let address = another_program(format!("HTTP/1.1 200 OK\r\n\r\n{body}")).await;
        let ended = run(&[command, &["--address", &address]].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("\\u009b2J"), "{ended:?}");
        let is_executed = |c: char| c.is_control() && c != '\n';
        assert!(!ended.stdout.contains(is_executed), "{ended:?}");
    }
    let address = another_program("HTTP/1.1 503 A\r\n\r\n\u{1b}c".to_owned()).await;
    let ended = run(&["probe", "--address", &address]).await;
    assert_eq!((ended.code, &*ended.stdout), (Some(1), "\\u001bc\n"), "{ended:?}");
}

#[tokio::test]
async fn a_status_of_another_program_is_one_plain_sentence() {
    let body = "{\"status\":\"UP\"}";
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let address = another_program(response).await;
    for arguments in [
        &["status", "--address", &address][..],
        &["status", "--json", "--address", &address],
    ] {
        let ended = run(arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(
            ended.stderr.contains("another program's") && ended.stderr.contains("[admin-not-bondgate]"),
            "{ended:?}"
        );
    }
    // Many a program responds with 200 to every path.
    for what in ["live", "ready"] {
        let ended = run(&["probe", what, "--address", &address]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains("[admin-not-bondgate]"), "{ended:?}");
    }
    let ended = run(&["status", "--tls", "--address", &address]).await;
    assert!(ended.stderr.contains("(it does not speak TLS)"), "{ended:?}");
}

#[tokio::test]
async fn a_status_uses_the_admin_address_of_a_configuration_with_faults() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "[admin]\naddress = \"127.0.0.1:0\"",
        &format!("[admin]\naddress = \"{}\"", daemon.admin()),
    );
    std::fs::write(&file, format!("{text}unknown = 1\n")).unwrap();
    let ended = run(&["status", "--config", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
#[ignore = "needs unshare, as root or in a user namespace; run by .ci/run"]
async fn a_status_asks_the_default_address_if_the_user_may_not_read_the_configuration() {
    let setup = Setup::new();
    let file = setup.config_file();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = std::process::Command::new("unshare");
    // Another user without privileges, in a network of its own.
    command.args(["--user", "--net"]).arg(bondgate().get_program());
    command.args(["status", "--config"]).arg(&file);
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for code in ["[admin-address-from-default]", "[daemon-not-reachable]"] {
        assert!(ended.stderr.contains(code), "{code}: {ended:?}");
    }
    assert!(
        ended.stderr.contains("no bondgate responds at localhost:9180"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_reader_that_closes_its_end_early_changes_no_exit_code_and_gets_no_message() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let address = daemon.admin().to_string();
    for arguments in [&["status"][..], &["status", "--json"], &["probe", "ready"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tokio::process::Command::from(bondgate());
        command
            .args(arguments)
            .args(["--address", &address])
            .stdout(writer);
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(
            (ended.status.code(), ended.stderr),
            (Some(0), Vec::new()),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn a_command_whose_output_cannot_be_written_fails_and_says_why_without_a_number() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let file = daemon.directory.path().join("bondgate.toml");
    for subcommand in [
        format!("status --address {}", daemon.admin()),
        format!("check --config {}", file.display()),
        "explain".to_owned(),
    ] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec {program} {subcommand} > /dev/full")]);
        let ended = finished(command).await;
        assert_eq!(ended.code, Some(1), "{subcommand}: {ended:?}");
        let said = "bondgate: cannot write to standard output: No space left on device\n";
        assert!(ended.stderr.ends_with(said), "{subcommand}: {ended:?}");
    }
}
