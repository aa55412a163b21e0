//! Credentials that are probably not meant as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bondgate::simulator::{Client, Options};
use tokio::net::TcpListener;

use super::{apply, check, lines};
use crate::harness::{DEMO_SECRET, Daemon, Setup, bondgate, finished, simulator};

#[tokio::test]
async fn a_secret_with_blanks_or_quotes_at_its_ends_is_warned_about_by_check_and_log_and_never_shown() {
    let with = |inside: &str| DEMO_SECRET.replacen('+', &format!("{inside}+{inside}"), 1);
    for (written, code) in [
        (format!("{DEMO_SECRET}\n\n"), "secret-has-blanks"),
        (format!(" {DEMO_SECRET} \t\r\n"), "secret-has-blanks"),
        (format!("\"{DEMO_SECRET}\"\n"), "secret-in-quotes"),
        (format!("'{DEMO_SECRET}'"), "secret-in-quotes"),
        (format!("\u{a0}{DEMO_SECRET}\u{3000}\n"), "secret-has-blanks"),
        (format!("\u{201c}{DEMO_SECRET}\u{201d}\r\n"), "secret-in-quotes"),
        (with("\u{b}"), "secret-has-invisible-characters"),
        (with("\u{200d}"), "secret-has-invisible-characters"),
        (with("\u{202e}\u{ad}"), "secret-has-invisible-characters"),
        (with("\u{a0}"), "secret-has-invisible-characters"),
        (
            format!("\u{feff}\u{feff}{DEMO_SECRET}"),
            "secret-has-invisible-characters",
        ),
        (format!("{DEMO_SECRET}\nx"), "secret-has-lines"),
    ] {
        // The identity service knows it as it is written: it is sent unchanged.
        let secret = written.strip_suffix('\n').unwrap_or(&written);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        let secret = secret.strip_prefix('\u{feff}').unwrap_or(secret).to_owned();
        let clients = vec![Client {
            id: "demo".to_owned(),
            secret,
        }];
        let cisco = simulator(Options {
            clients,
            ..Options::default()
        })
        .await;
        let setup = Setup::at(&cisco);
        let file = setup.file("cisco.secret", &written);
        let ended = check(&setup).await;
        assert_eq!((ended.code, lines(&ended, code).len()), (Some(0), 1), "{ended:?}");
        assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");

        let mut daemon = setup.start().await;
        daemon
            .logged(&format!("\"key\":\"client_secret\",\"problem\":\"{code}\""))
            .await;
        if code != "secret-has-lines" {
            apply(lines(&ended, code)[0]);
            assert_eq!(std::fs::read_to_string(file).unwrap(), DEMO_SECRET, "{written:?}");
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_with_a_line_break_too_many_is_warned_about_in_the_log_once() {
    let options = Options {
        token_lifetime: Duration::from_secs(2),
        ..Options::default()
    };
    let cisco = simulator(options).await;
    let mut daemon = Setup::at(&cisco).start().await;
    assert!(!daemon.log().iter().any(|line| line.contains("secret-has-blanks")));
    cisco.options().clients[0].secret = format!("{DEMO_SECRET}\n");
    std::fs::write(
        daemon.directory.path().join("cisco.secret"),
        format!("{DEMO_SECRET}\n\n"),
    )
    .unwrap();
    daemon.logged("\"problem\":\"secret-has-blanks\"").await;
    cisco.tokens.wait_for(cisco.tokens.count() + 3).await;
    let log = daemon.log();
    let warned = log
        .iter()
        .filter(|line| line.contains("\"problem\":\"secret-has-blanks\""))
        .count();
    assert_eq!(warned, 1, "{log:?}");
}

/// A proxy that closes each connection, and counts them.
async fn closing_proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_placeholder_is_never_sent_to_a_host_off_loopback() {
    let (proxy, connections) = closing_proxy().await;
    let setup = Setup::new().listener("127.0.0.1:0", "");
    let secret = setup.file("secret", "issued-secret");
    let text = format!(
        "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"demo\"\nproxy = \"{proxy}\"\n\
         client_secret = {{ file = {secret:?} }}\n{}",
        std::fs::read_to_string(setup.config_file()).unwrap()
    );
    let file = setup.file("bondgate.toml", &text);
    let command = |subcommand: &str| {
        let mut command = bondgate();
        command.args([subcommand, "--config"]).arg(&file);
        command
    };
    for placeholder in [
        "<client secret>",
        "changeme\n",
        "demo-secret",
        "\"<client secret>\"\n",
    ] {
        std::fs::write(&secret, placeholder).unwrap();
        for subcommand in ["check", "run"] {
            let ended = finished(command(subcommand)).await;
            let found = lines(&ended, "placeholder-in-credentials");
            assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
            let place = format!("client_secret in {} is a placeholder", secret.display());
            assert!(found[0].contains(&place), "{found:?}");
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);

    // A running daemon tries again after a failure, with what the file holds then.
    std::fs::write(&secret, "issued-secret").unwrap();
    let mut daemon = Daemon::spawn(command("run"), setup.directory);
    daemon.logged("token refresh failed").await;
    std::fs::write(&secret, "changeme").unwrap();
    daemon
        .logged("is a placeholder from the documentation, and is not sent")
        .await;
    let sent = connections.load(Ordering::SeqCst);
    let answer = daemon.get("/sb-partner-oauth-proxy-api/rest/v1/pull/call").await;
    assert_eq!((answer.status(), connections.load(Ordering::SeqCst)), (503, sent));
}

#[tokio::test]
async fn a_placeholder_is_sent_to_a_simulator_on_loopback() {
    let secret = "<client secret>";
    let clients = vec![Client {
        id: "demo".to_owned(),
        secret: secret.to_owned(),
    }];
    let options = Options {
        clients,
        ..Options::default()
    };
    let cisco = simulator(options).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", secret, "");
    setup.listener("127.0.0.1:0", "").start().await;
    assert_eq!(cisco.tokens.count(), 1);
}

#[tokio::test]
async fn a_caller_key_in_quotes_is_a_warning_and_a_placeholder_is_none() {
    let cisco = simulator(Options::default()).await;
    for (keys, exit, code) in [
        ("snow:k1\n", 0, "none"),
        ("snow:\"k1\"\n", 0, "key-in-quotes"),
        ("'snow:k1'\n", 0, "key-in-quotes"),
        ("snow:\u{201c}k1\u{201d}\n", 0, "key-in-quotes"),
        ("a:k1\nsnow:<key>\n", 3, "key-is-placeholder"),
        ("snow:changeme\n", 3, "key-is-placeholder"),
    ] {
        let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
        let file = setup.file("keys", keys);
        let setup = setup.listener("127.0.0.1:0", &format!("keys = {{ file = {file:?} }}"));
        let ended = check(&setup).await;
        let found = lines(&ended, code).len();
        assert_eq!(
            (ended.code, found),
            (Some(exit), usize::from(code != "none")),
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("k1"), "{ended:?}");
    }
}
