//! `bondgate init`: from nothing to the first ticket.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Instant;

use bondgate::simulator::{Handle, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{DEMO_SECRET, Daemon, PATIENCE, PULL, Setup, bondgate, finished, simulator};

/// The options that point at a simulator, whose certificate authority is in `setup`.
fn options(setup: &Setup, cisco: &Handle) -> Vec<String> {
    let ca_file = setup.file("ca.pem", cisco.ca_pem());
    let words = [
        ("--url", cisco.url()),
        ("--token-url", cisco.token_url()),
        ("--ca-file", ca_file.to_str().unwrap().to_owned()),
        ("--listen", "127.0.0.1:0".to_owned()),
        (
            "--config",
            setup
                .directory
                .path()
                .join("new/bondgate.toml")
                .to_str()
                .unwrap()
                .to_owned(),
        ),
        (
            "--spool",
            setup.directory.path().join("spool").to_str().unwrap().to_owned(),
        ),
    ];
    words
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
}

#[tokio::test]
async fn init_asks_for_preset_id_and_secret_and_leads_to_the_first_ticket() {
    let cisco = simulator(Options::default()).await;
    cisco.put_samples(1);
    let setup = Setup::new();
    let began = Instant::now();
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let command = format!("{program} init {}", options(&setup, &cisco).join(" "));
    let mut script = tokio::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    script
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    script.env("BONDGATE_ADMIN", "127.0.0.1:0");
    let mut terminal = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut shown = String::new();
    let secret = format!("\"{DEMO_SECRET}\" ");
    for (question, answer) in [
        ("Number or name: ", "7"),
        (
            "\"7\" is none of these: type a number from 1 to 4, or the name\r\nNumber or name: ",
            "1",
        ),
        ("Client id: ", ""),
        (
            "An answer is needed; Ctrl-C ends without writing anything.\r\nClient id: ",
            "demo",
        ),
        ("(it is not shown): ", &*secret),
    ] {
        while !shown.contains(question) {
            let read = tokio::time::timeout(PATIENCE, screen.read_u8()).await;
            shown.push(char::from(
                read.expect("the question comes")
                    .unwrap_or_else(|_| panic!("{shown}")),
            ));
        }
        keys.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
    let mut rest = Vec::new();
    let ended = async {
        let _ = screen.read_to_end(&mut rest).await;
        terminal.wait().await.unwrap()
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    shown.push_str(&String::from_utf8_lossy(&rest));
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(!shown.contains(DEMO_SECRET), "the secret is not shown: {shown}");
    for part in [
        "1  smart-bonding-stage",
        "cisco: token",
        "bondgate run --config",
        "curl -i http://",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let new = setup.directory.path().join("new");
    let mode = |name: &str| std::fs::metadata(new.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("client_secret"), 0o600);
    assert_eq!(
        std::fs::read_to_string(new.join("client_secret")).unwrap(),
        DEMO_SECRET
    );
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(new.join("bondgate.toml"));
    command.env("BONDGATE_ADMIN", "127.0.0.1:0");
    let mut daemon = Daemon::spawn(command, setup.directory);
    daemon.logged("token acquired").await;
    daemon.logged("listening on").await;
    let answer = daemon.get(PULL).await;
    assert!(
        answer.status() == 200 && answer.body().contains("\"Calls\""),
        "{answer:?}"
    );
    println!("from init to the first ticket: {:?}", began.elapsed());
}

#[tokio::test]
async fn init_without_a_terminal_takes_options_and_overwrites_nothing() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new();
    let secret = setup.file("secret", "not-the-secret-of-the-simulator\n");
    let init = |words: &[&str]| {
        let mut command = bondgate();
        command.arg("init").args(options(&setup, &cisco)).args(words);
        command.env("BONDGATE_ADMIN", "127.0.0.1:0");
        finished(command)
    };
    let incomplete = init(&["--preset", "smart-bonding-stage"]).await;
    assert_eq!(incomplete.code, Some(2), "{incomplete:?}");
    assert!(
        incomplete.stderr.contains("--client-id and --secret-file"),
        "{incomplete:?}"
    );
    let words = [
        "--client-id",
        "demo",
        "--secret-file",
        secret.to_str().unwrap(),
        "--preset",
    ];
    let wrong = init(&[&words[..], &["smart-bonding"]].concat()).await;
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(!setup.directory.path().join("new").exists(), "nothing is written");

    let refused = init(&[&words[..], &["smart-bonding-stage"]].concat()).await;
    assert_eq!(refused.code, Some(6), "the exit code of the check: {refused:?}");
    assert!(
        refused.stdout.contains("Correct what the check reports"),
        "{refused:?}"
    );
    std::fs::remove_dir_all(setup.directory.path().join("new")).unwrap();
    let by_stdin = options(&setup, &cisco).join(" ");
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(format!(
        "printf '%s\\r\\n' '{DEMO_SECRET}' | {program} init {by_stdin} --preset smart-bonding-stage --client-id demo --secret-file -"
    ));
    command.env("BONDGATE_ADMIN", "127.0.0.1:0");
    let by_stdin = finished(command).await;
    assert_eq!(by_stdin.code, Some(0), "{by_stdin:?}");

    let again = init(&[&words[..], &["smart-bonding-stage"]].concat()).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again.stderr.contains("exists and is not overwritten"),
        "{again:?}"
    );
}
