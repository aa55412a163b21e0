//! `bondgate check`: faults by file and line, and nothing secret shown.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bondgate::simulator::Options;

use crate::harness::{DEMO_SECRET, Ended, Setup, bondgate, finished, simulator};

const SECRET: &str = "hunter2-is-the-secret";

/// Checks a file of this text, with these further arguments.
async fn check(text: &str, arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gate.toml"), text).unwrap();
    let mut command = bondgate();
    command
        .args(["check", "--config", "gate.toml"])
        .args(arguments)
        .current_dir(&directory);
    finished(command).await
}

pub(crate) fn assert_no_secret(ended: &Ended, secret: &str) {
    assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
    assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
}

#[tokio::test]
async fn five_faults_are_all_named_with_their_lines_at_once() {
    let text = format!(
        "[upstream.cisco]\n\
         preset = \"smart-bonding-stag\"\n\
         client_id = \"0oa\"\n\
         client_secret = \"{SECRET}\"\n\
         client_auth = \"post\"\n\
         wiat = \"2s\"\n\
         \n\
         [[listener]]\n\
         address = \"0.0.0.0:8080\"\n\
         \n\
         [server]\n\
         drain = \"25\"\n"
    );
    let began = Instant::now();

    let ended = check(&text, &[]).await;

    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(ended.code, Some(3));
    assert!(ended.stdout.contains("has faults: 5"), "{}", ended.stdout);
    for (line, told, code) in [
        (2, "smart-bonding-stage", "config-value-wrong"),
        (5, "client_auth", "config-value-wrong"),
        (6, "wait", "config-key-unknown"),
        (9, "allow", "listener-unprotected"),
        (12, "drain", "config-value-wrong"),
    ] {
        let place = format!("gate.toml:{line}: ");
        let found = ended.stdout.lines().find(|found| found.starts_with(&place));
        let found = found.unwrap_or_else(|| panic!("{place} is not in\n{}", ended.stdout));
        assert!(found.contains(told), "{found}");
        assert!(found.ends_with(&format!(" [{code}]")), "{found}");
    }
    assert_no_secret(&ended, SECRET);
}

#[tokio::test]
async fn a_syntax_error_on_the_secrets_line_shows_no_secret() {
    for line in [
        format!("client_secret = {SECRET}"),
        format!("client_secret = \"{SECRET}"),
        format!("client_secret = '{SECRET}\" # {SECRET}"),
        format!("client_secret \"{SECRET}\""),
        format!("client_secret = \"{SECRET}\\q\""),
        format!("client_secret = [\"{SECRET}\"]"),
        format!("client_secret = {{ fiel = \"{SECRET}\" }}"),
    ] {
        let text = format!("[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\n{line}\n");
        for arguments in [&[][..], &["--print"]] {
            let ended = check(&text, arguments).await;
            assert_eq!(ended.code, Some(3), "{line}: {ended:?}");
            assert!(ended.stdout.contains("gate.toml:4"), "{}", ended.stdout);
            assert_no_secret(&ended, SECRET);
        }
    }
}

#[tokio::test]
async fn beside_faults_the_values_that_can_be_read_are_printed() {
    let text = format!(
        "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = \"{SECRET}\"\n\
         token_url = \"https://id.example/token?client_secret={SECRET}\"\nwait = \"soon\"\n"
    );
    let ended = check(&text, &["--print"]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    for shown in [
        "upstream.cisco.client_id = \"x\"",
        "upstream.cisco.client_secret = [redacted]",
        "upstream.cisco.token_url = \"https://id.example/token?[redacted]\"",
        "[config-value-wrong]",
    ] {
        assert!(ended.stdout.contains(shown), "{shown}: {}", ended.stdout);
    }
    assert!(
        !ended.stdout.contains("upstream.cisco.wait = "),
        "{}",
        ended.stdout
    );
    assert_no_secret(&ended, SECRET);
}

#[tokio::test]
async fn a_secret_that_is_missing_is_a_fault_that_names_its_place() {
    let text = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\n\
                client_secret = { file = \"/nowhere/secret\" }\n";
    let ended = check(text, &[]).await;
    assert_eq!(ended.code, Some(3));
    let told = "gate.toml:4: upstream.cisco.client_secret: cannot read /nowhere/secret: it does not exist";
    assert!(ended.stdout.contains(told), "{ended:?}");
}

#[tokio::test]
async fn print_shows_every_value_and_its_origin_and_redacts_secrets() {
    let text = format!(
        "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"0oa\"\nclient_secret = \"{SECRET}\"\n\
         proxy = \"http://user:{SECRET}@proxy.corp:3128\"\n[[listener]]\naddress = \"localhost:0\"\n[admin]\naddress = \"localhost:0\"\n"
    );

    let ended = check(&text, &["--print"]).await;

    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = |key: &str| {
        let found = ended.stdout.lines().find(|line| line.starts_with(key));
        found.unwrap_or_else(|| panic!("{key} is not in\n{}", ended.stdout))
    };
    assert!(line("upstream.cisco.preset = ").ends_with("# gate.toml:2"));
    assert!(line("upstream.cisco.client_secret = ").contains("redacted"));
    assert!(line("upstream.cisco.proxy = ").contains("redacted"));
    assert!(line("upstream.cisco.token_url = ").contains("int-id.cisco.com"));
    assert!(line("listener[0].address = ").contains("localhost:0"));
    assert!(line("limits.target = ").ends_with("# default"));
    assert!(
        ended
            .stdout
            .contains("warning: gate.toml:4: upstream.cisco.client_secret: is in the configuration itself"),
        "an inline secret works and is warned about: {}",
        ended.stdout
    );
    assert_no_secret(&ended, SECRET);
}

/// A start with this configuration and these modes of its files, to its end.
async fn start(toml: &str, secret_mode: u32, key_mode: u32) -> Ended {
    let setup = Setup::new();
    let secret = setup.file("secret", SECRET);
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = setup.file("server.pem", &issued.cert.pem());
    let key = setup.file("server.key", &issued.signing_key.serialize_pem());
    std::fs::set_permissions(&secret, Permissions::from_mode(secret_mode)).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(key_mode)).unwrap();
    let text = toml
        .replace("SECRET", &format!("{{ file = {secret:?} }}"))
        .replace("CERTIFICATE", &format!("{certificate:?}"))
        .replace("KEY", &format!("{key:?}"));
    let file = setup.file("bondgate.toml", &text);
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(file);
    finished(command).await
}

const LEAST: &str =
    "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = SECRET\n";

#[tokio::test]
async fn a_start_that_is_refused_is_one_line_with_the_mend_and_exit_code_3() {
    let tls = "tls = { certificate_file = CERTIFICATE, key_file = KEY }";
    for (more, secret_mode, key_mode, told, mend) in [
        (
            "[[listener]]\naddress = \"0.0.0.0:8080\"",
            0o600,
            0o600,
            "listener[0].address: 0.0.0.0:8080 can be reached",
            "allow",
        ),
        (
            "",
            0o606,
            0o600,
            "client_secret: names a file that every user of this machine may change",
            "chmod o-rwx /",
        ),
        (
            &format!("[[listener]]\n{tls}"),
            0o600,
            0o602,
            "tls.key_file: names a file that every user of this machine may change",
            "chmod o-rwx /",
        ),
        (
            "url = \"https://localhost:8443\"\n[[listener]]\naddress = \"localhost:8443\"",
            0o600,
            0o600,
            "cisco.url: leads back to bondgate itself",
            "write the API's own address",
        ),
        (
            "url = \"http://api.example\"",
            0o600,
            0o600,
            "cisco.url: is plain http",
            "write https",
        ),
        (
            "unsafe_plain_http = true\nurl = \"http://api.example\"",
            0o600,
            0o600,
            "cisco.url: is plain http to another machine",
            "loopback addresses only",
        ),
    ] {
        let ended = start(&format!("{LEAST}{more}\n"), secret_mode, key_mode).await;
        assert_eq!(ended.code, Some(3), "{more}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(
            ended.stderr.contains(told) && ended.stderr.contains(mend),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_check_refuses_what_a_start_would_all_of_it_at_once_and_each_cause_once() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new();
    let keys = setup.file("keys", &format!("name:{SECRET}\n{SECRET}\n"));
    let tls = "{ certificate_file = \"/nowhere/c.pem\", key_file = \"/nowhere/k.pem\" }";
    let rules =
        "rules = [{ methods = [\"GET\"], path = \"/a/../b\" }]\nproxy = { file = \"/nowhere/proxy\" }";
    let listener = format!("keys = {{ file = {keys:?} }}\ngroup = \"no-such-group\"\ntls = {tls}");
    let file = setup
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, rules)
        .listener("127.0.0.1:0", &listener)
        .environment("BONDGATE__ADMIN__TLS__CERTIFICATE_FILE", "/nowhere/c.pem")
        .environment("BONDGATE__ADMIN__TLS__KEY_FILE", "/nowhere/k.pem")
        .environment("BONDGATE_SPOOL_DIRECTORY", "/dev/null");
    let environment = file.environment.clone();
    let path = file.config_file();
    for subcommand in ["check", "run"] {
        let mut command = bondgate();
        command.args([subcommand, "--config"]).arg(&path);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let ended = finished(command).await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        for told in [
            "upstream.cisco.rules: the rule for \"/a/../b\" matches no request: the path has a dot segment",
            "upstream.cisco.proxy: cannot read /nowhere/proxy: it does not exist",
            "listener[0].keys: line 2 of the caller keys is not \"name:key\"",
            "listener[0].group: there is no group \"no-such-group\"",
            "listener[0].tls: cannot read /nowhere/c.pem: it does not exist",
            "admin.tls: cannot read /nowhere/c.pem: it does not exist",
            "spool.directory: cannot write to /dev/null ",
        ] {
            assert_eq!(
                ended.lines().filter(|line| line.contains(told)).count(),
                1,
                "{told}: {ended:?}"
            );
        }
        let faults = ended.lines().filter(|line| !line.starts_with("warning: "));
        let of_file = faults.filter(|line| line.contains("/bondgate.toml:")).count();
        assert_eq!(of_file, 5, "each with its line: {ended:?}");
        assert!(
            ended
                .lines()
                .any(|line| line.contains("environment BONDGATE__ADMIN__TLS__CERTIFICATE_FILE: admin.tls"))
        );
        for line in ended.lines() {
            assert!(line.matches("does not exist").count() <= 1, "{line}");
        }
        assert_no_secret(&ended, SECRET);
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_refused_by_check_and_run_alike() {
    let cisco = simulator(Options::default()).await;
    for (key, value, told) in [
        ("LEVEL", "loud", "log.level: \"loud\" is not a level"),
        (
            "FILE",
            "/nowhere/bondgate.log",
            "log.file: cannot open /nowhere/bondgate.log: ",
        ),
        ("FILE", "/", "log.file: cannot open /: "),
    ] {
        for subcommand in ["check", "run"] {
            let setup = Setup::at(&cisco);
            let mut command = bondgate();
            command.args([subcommand, "--config"]).arg(setup.config_file());
            command.env(format!("BONDGATE__LOG__{key}"), value);
            let ended = finished(command).await;
            assert_eq!(ended.code, Some(3), "{subcommand}: {ended:?}");
            assert_eq!(
                ended.lines().filter(|line| line.contains(told)).count(),
                1,
                "{ended:?}"
            );
        }
    }
    let setup = Setup::at(&cisco);
    let log = setup.directory.path().join("bondgate.log");
    let mut command = bondgate();
    command.args(["check", "--config"]).arg(setup.config_file());
    command.env("BONDGATE__LOG__FILE", &log);
    assert_eq!(finished(command).await.code, Some(0));
    assert!(!log.exists(), "a check makes no file");
}

#[tokio::test]
async fn a_secret_that_others_may_read_is_warned_about_with_the_mend() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let file = setup.directory.path().join("cisco.secret");
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let mut command = bondgate();
        command.args(["check", "--config"]).arg(setup.config_file());
        let ended = finished(command).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mend = format!("may read; run: chmod o-rwx {}", file.display());
        assert_eq!(ended.stdout.contains(&mend), warned, "{ended:?}");
    }
}

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn a_secret_on_a_read_only_mount_is_not_warned_about_whoever_may_read_it() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let secret = setup.directory.path().join("cisco.secret");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o666)).unwrap();
    let file = setup.config_file();
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]).arg(format!(
        "mount --bind {secret} {secret} && mount -o remount,bind,ro {secret} && exec {} check --config {}",
        env!("CARGO_BIN_EXE_bondgate"),
        file.display(),
        secret = secret.display(),
    ));
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("every user"), "{ended:?}");
}
