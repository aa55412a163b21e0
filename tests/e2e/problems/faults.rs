//! Faults of a configuration beside each other.

use bondgate::simulator::Options;

use super::{check, lines};
use crate::harness::{DEMO_SECRET, Setup, bondgate, finished, simulator};

#[tokio::test]
async fn an_unknown_key_hides_no_other_fault_and_no_warning() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).and("replai = 1\n");
    let setup = setup.upstream(
        "other",
        &cisco,
        "demo",
        DEMO_SECRET,
        "wait = 7\nproxy = { file = \"/nowhere/proxy\" }",
    );
    let setup = setup.listener(
        "127.0.0.1:0",
        "upstream = \"other\"\nkeys = { file = \"/nowhere/keys\" }",
    );
    std::fs::remove_file(setup.directory.path().join("cisco.secret")).unwrap();
    let ended = check(&setup).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(lines(&ended, "config-key-unknown").len(), 1, "{ended:?}");
    assert_eq!(lines(&ended, "config-value-wrong").len(), 1, "{ended:?}");
    assert_eq!(lines(&ended, "spool-in-memory").len(), 1, "{ended:?}");
    let missing = lines(&ended, "file-missing");
    for key in ["cisco.client_secret: ", "other.proxy: ", "listener[1].keys: "] {
        assert_eq!(
            missing.iter().filter(|line| line.contains(key)).count(),
            1,
            "{key} {ended:?}"
        );
    }

    // A start waits for its credentials, and reports all else.
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(setup.config_file());
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(lines(&ended, "file-missing").len(), 2, "{ended:?}");
    assert_eq!(lines(&ended, "config-key-unknown").len(), 1, "{ended:?}");
}

#[tokio::test]
async fn a_key_with_a_fault_causes_no_second_one() {
    let cisco = simulator(Options::default()).await;
    let upstream = "preset = \"none\"\nrules = 1\nproxy = \"\"\nscoop = \"\"";
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, upstream);
    let setup = setup.listener("127.0.0.1:0", "tls = { certificate_file = \"/nowhere\" }");
    let ended = check(&setup).await;
    let faults = ended
        .lines()
        .filter(|line| line.contains(".toml:") && !line.starts_with("warning"));
    let codes: Vec<_> = faults.map(|line| line.rsplit_once(" [").unwrap().1).collect();
    assert_eq!(
        codes,
        [
            "config-value-wrong]",
            "config-value-wrong]",
            "config-key-unknown]",
            "config-key-missing]"
        ],
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_listener_for_other_machines_without_hosts_is_warned_about_until_it_has_the_name_that_the_warning_shows()
 {
    let cisco = simulator(Options::default()).await;
    let with = |hosts: &str| {
        let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
        setup.listener(
            "0.0.0.0:0",
            &format!("keys = {{ file = \"/dev/null\" }}\n{hosts}"),
        )
    };
    let ended = check(&with("")).await;
    let found = lines(&ended, "listener-without-hosts");
    assert_eq!(found.len(), 1, "{ended:?}");
    let (_, fix) = found[0].split_once("write ").unwrap();
    let ended = check(&with(fix.split_once(", with").unwrap().0)).await;
    assert!(lines(&ended, "listener-without-hosts").is_empty(), "{ended:?}");
    assert!(lines(&ended, "config-value-wrong").is_empty(), "{ended:?}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_hides_no_other_fault_of_a_start() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    std::fs::remove_file(setup.directory.path().join("cisco-ca.pem")).unwrap();
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(setup.config_file());
    command.env("BONDGATE__LOG__FILE", "/nowhere/bondgate.log");
    let ended = finished(command).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    for code in ["log-file-not-writable", "file-missing"] {
        assert_eq!(lines(&ended, code).len(), 1, "{code}: {ended:?}");
    }
}
