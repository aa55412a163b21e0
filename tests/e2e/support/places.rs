//! Bundles without a daemon, of configurations with faults, and where they are written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bondgate::simulator::Options;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{assert_holds, bundle_of, missing, section, support};
use crate::confidential;
use crate::harness::{Setup, bondgate, finished, simulator};

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
async fn a_configuration_that_is_a_pipe_is_missing_with_the_reason_and_the_rest_is_there() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let directory = daemon.directory.path();
    let made = std::process::Command::new("mkfifo")
        .arg(directory.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let address = daemon.admin().to_string();
    let arguments = ["--config", "pipe", "--address", &address, "--output", "-"];
    let ended = support(directory, &arguments, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let bundle = &ended.stdout;
    let reason = "- configuration, check: cannot read pipe: it is not a regular file";
    assert!(missing(bundle).contains(&reason), "{bundle}");
    assert!(
        bundle.contains("Not searched for: the configuration cannot be read."),
        "{bundle}"
    );
    assert_holds(bundle, "Status", &["\"state\": \"fresh\""]);
    assert_holds(bundle, "Log", &["\"message\":\"starting\""]);
}

#[tokio::test]
async fn a_response_that_is_cut_short_is_in_the_bundle_as_incomplete() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let (metrics, to) = (daemon.ask("/metrics").await, daemon.admin());
    let line = metrics.body().lines().next().unwrap().to_owned();
    // A proxy between this command and the daemon that cuts one response.
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap().to_string();
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{line}\n");
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = between.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                caller.read_buf(&mut head).await.unwrap();
            }
            if head.starts_with(b"GET /metrics ") {
                caller.write_all(cut.as_bytes()).await.unwrap();
            } else {
                let mut daemon = tokio::net::TcpStream::connect(to).await.unwrap();
                daemon.write_all(&head).await.unwrap();
                let _ = tokio::io::copy(&mut daemon, &mut caller).await;
            }
        }
    });
    let arguments = [
        "--config",
        "bondgate.toml",
        "--address",
        &address,
        "--output",
        "-",
    ];
    let ended = support(daemon.directory.path(), &arguments, &[]).await;
    let reason = format!(
        "the response on /metrics is incomplete (it ends after {} of 9999 bytes)",
        line.len() + 1
    );
    assert_eq!(missing(&ended.stdout), [format!("- metrics: {reason}")]);
    let metrics = section(&ended.stdout, "Metrics");
    assert!(
        metrics.ends_with(&format!("{line}\n[incomplete: {reason}]\n")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_file_that_only_the_daemon_names_is_reported_and_not_read() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let of_daemon = daemon.directory.path().join("bondgate.toml");
    let elsewhere = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&of_daemon).unwrap();
    std::fs::write(elsewhere.path().join("bondgate.toml"), &text).unwrap();
    let address = daemon.admin().to_string();
    let arguments = ["--address", &address, "--output", "-"];
    let found = support(elsewhere.path(), &arguments, &[]).await;
    assert_eq!(found.code, Some(0), "{found:?}");
    let [gap] = missing(&found.stdout)[..] else {
        panic!("{found:?}")
    };
    let daemons = format!("the daemon that responds has {}", of_daemon.display());
    assert!(gap.contains(&daemons), "{gap}");
    assert!(found.stderr.contains(&daemons), "{found:?}");
    assert!(
        !found.stdout.contains(&format!("# {}", of_daemon.display())),
        "{found:?}"
    );

    let file = of_daemon.display().to_string();
    let named = support(
        elsewhere.path(),
        &[&arguments[..], &["--config", &file]].concat(),
        &[],
    )
    .await;
    assert_holds(&named.stdout, "Configuration", &[&format!("# {file}\n")]);
    assert_eq!(missing(&named.stdout), ["- nothing"]);
}

#[tokio::test]
async fn a_relative_path_or_a_link_to_the_daemons_file_is_no_other_configuration() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let below = daemon.directory.path().join("below");
    std::fs::create_dir(&below).unwrap();
    std::os::unix::fs::symlink("../bondgate.toml", below.join("link.toml")).unwrap();
    let address = daemon.admin().to_string();
    for file in ["../bondgate.toml", "link.toml"] {
        let arguments = ["--config", file, "--address", &address, "--output", "-"];
        let ended = support(&below, &arguments, &[]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let gaps = missing(&ended.stdout);
        assert!(
            !gaps
                .iter()
                .any(|gap| gap.contains("the daemon that responds has")),
            "{gaps:?}"
        );
    }
}

#[tokio::test]
async fn an_interrupted_command_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    // The admin listener of this test does not respond: the command waits for it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = tokio::process::Command::from(bondgate());
    command
        .args(["support", "--address", &address])
        .current_dir(&directory);
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let (_connection, _) = silent.accept().await.unwrap();
    let id = child.id().unwrap().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &id]).status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), None, "the signal ends it");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bundle_for_which_the_disk_has_no_room_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let program = bondgate().get_program().to_str().unwrap().to_owned();
    // A limit for the size of files stands for a full disk.
    let script =
        format!("trap '' XFSZ; ulimit -f 1; exec {program} support --address 127.0.0.1:1 --output bundle");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script]).current_dir(&directory);
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("cannot write bundle; write it elsewhere"),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
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
async fn a_bundle_has_the_log_before_a_restart_and_says_that_the_configuration_is_not_loaded() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let line =
        |number: usize| format!("2026-11-29T04:00:00.000000Z  INFO before the restart number={number}\n");
    let log = setup.file("bondgate.log", &(0..500).map(line).collect::<String>());
    let daemon = setup.start().await;
    let file = daemon.directory.path().join("bondgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("[log]\n", &format!("[log]\nfile = {log:?}\n")),
    )
    .unwrap();
    let written = std::fs::File::options().append(true).open(&file).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    written.set_modified(later).unwrap();

    let (bundle, _) = bundle_of(&daemon, &[]).await;
    assert_holds(
        &bundle,
        "Log",
        &["bondgate.log", "before the restart number=499", "listening on"],
    );
    let gap = missing(&bundle)
        .into_iter()
        .find(|gap| gap.contains("and may use other values"));
    let name = file.canonicalize().unwrap();
    assert!(
        gap.is_some_and(|gap| gap.contains(name.to_str().unwrap())),
        "{bundle}"
    );
}
