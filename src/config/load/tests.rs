use proptest::prelude::*;

use super::*;
use crate::config::{SecretSource, Setting};

const LEAST: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "bondgate.toml", [])
}

#[test]
fn a_relative_path_is_relative_to_the_file_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bondgate.toml");
    let absolute = std::path::absolute("/absolute").unwrap();
    let text = format!(
        "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = {{ file = \"id\" }}\n\
         client_secret = {{ file = {absolute:?} }}\nca_file = \"certificates/ca.pem\"\n\
         [[listener]]\nkeys = {{ file = \"keys\" }}\n[log]\nfile = \"log\"\n[spool]\ndirectory = \"spool\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let set = [("BONDGATE_CLIENT_ID".to_owned(), "{ file = 'elsewhere' }".into())];
    let config = Config::load(Some(&file), []).unwrap();
    let upstream = &config.upstreams[0];
    let below = |name: &str| directory.path().join(name);
    assert_eq!(upstream.client_id.path(), Some(below("id")));
    assert_eq!(upstream.client_secret.path(), Some(absolute));
    assert_eq!(upstream.ca_file, Some(below("certificates/ca.pem")));
    assert_eq!(
        config.listeners[0].keys.as_ref().unwrap().path(),
        Some(below("keys"))
    );
    assert_eq!(config.log.file, Some(below("log")));
    assert_eq!(config.spool.directory, Some(below("spool")));
    // One of the environment is relative to the working directory, as on a command line.
    let config = Config::load(Some(&file), set).unwrap();
    assert_eq!(config.upstreams[0].client_id.path(), Some("elsewhere".into()));
}

#[test]
fn a_path_with_a_tab_was_meant_to_have_a_backslash() {
    let faults = read(&format!("{LEAST}ca_file = \"C:\\temp\"\n"))
        .unwrap_err()
        .to_string();
    assert!(
        faults.starts_with("bondgate.toml:5: upstream.cisco.ca_file: ") && faults.contains("single quotes"),
        "{faults}"
    );
}

#[test]
fn a_preset_and_credentials_are_enough() {
    let config = read(LEAST).unwrap();
    assert_eq!(config.upstreams[0].url.host(), "stage.sbnprd.xylem.cisco.com");
    assert_eq!(config.listeners[0].address.to_string(), "localhost:8080");
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn every_fault_is_reported_at_once_with_its_line_and_without_the_secret() {
    let text = "[upstream.cisco]\npreset = \"smart-bonding\"\nclient_secret = \"hunter2\"\nwait = \"2x\"\nreplai = \"1MiB\"\n\
                [[listener]]\naddress = \"0.0.0.0:8080\"\n[limits]\nfields = \"many\"\n";
    let error = read(text).unwrap_err();
    let faults = error.to_string();
    assert_eq!(error.faults.len(), 6, "{faults}");
    for part in [
        "bondgate.toml:2: upstream.cisco.preset: \"smart-bonding\" is not a preset",
        "bondgate.toml:1: upstream.cisco.client_id: is missing",
        "bondgate.toml:4: upstream.cisco.wait: \"2x\" is not a duration",
        "bondgate.toml:5: upstream.cisco.replai: is not a key here; did you mean \"replay\"?",
        "bondgate.toml:7: listener[0].address: 0.0.0.0:8080 can be reached",
        "bondgate.toml:9: limits.fields: is text; write a whole number, like 100",
    ] {
        assert!(faults.contains(part), "{part} in\n{faults}");
    }
    assert!(!faults.contains("hunter2"));
}

#[test]
fn one_mistake_is_one_fault() {
    for (right, wrong, fault) in [
        (
            "[upstream.cisco]",
            "[upstream]",
            "f:1: upstream: has keys and no name; write [upstream.cisco] with preset, client_id and client_secret [config-value-wrong]",
        ),
        (
            "[upstream.cisco]",
            "[upstream.cisco",
            "f:1: unclosed table, expected `]`; correct the line; the file is TOML [config-syntax]",
        ),
        (
            "client_id",
            "clientid",
            "f:3: upstream.cisco.clientid: is not a key here; did you mean \"client_id\"? [config-key-unknown]",
        ),
    ] {
        let error = Config::parse(&LEAST.replace(right, wrong), "f", []).unwrap_err();
        assert_eq!(error.to_string(), fault);
    }
    assert!(read("[upstream]\n").unwrap_err().to_string().contains("is empty"));
    for text in [
        "[[listener]]\naddress = \"localhost:8080\"\n[[listener]]\naddress = \"127.0.0.1:80810\"\n",
        "[[listener]]\naddress = \"127.0.0.1:80810\"\n[[listener]]\naddress = \"localhost:8080\"\n",
        "[[listener]]\naddress = \"localhost:9180\"\n[admin]\naddress = \"127.0.0.1:80810\"\n",
    ] {
        let error = read(&format!("{LEAST}{text}")).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("\"127.0.0.1:80810\" is not an address"), "{error}");
    }
    let error = read(&format!("{LEAST}ulr = \"https://localhost\"\n")).unwrap_err();
    assert!(error.to_string().contains("did you mean \"url\"?"), "{error}");
}

#[test]
fn a_value_of_a_wrong_kind_is_described_without_the_words_of_a_library() {
    for (wrong, fault) in [
        ("scope = 7", "scope: is a whole number; write text in quotes ["),
        (
            "client_auth = 3",
            "client_auth: is a whole number; write text in quotes, like \"form\" [",
        ),
        (
            "client_auth = \"post\"",
            "is \"post\", which has no meaning; write one of \"query\", \"form\", \"mixed\", \"basic\" [",
        ),
        (
            "timeout = 5",
            "timeout: is a whole number; write a table, as [section] or { key = value } [",
        ),
        ("ca_file = [\"a\"]", "ca_file: is a list; write text in quotes ["),
        (
            "unsafe_plain_http = 1.5",
            "is a number with a fraction; write true or false, like false [",
        ),
        (
            "[[listener]]\nallow = [10]",
            "allow: has an item that is a whole number; write text in quotes [",
        ),
        (
            "[listener]\nhosts = []",
            "listener: is a table; write it as [[listener]] [",
        ),
        (
            "[server]\nworkers = -3",
            "workers: is a number below 0; write a whole number, like 0 [",
        ),
        (
            "[server]\nworkers = 100000",
            "server.workers: is over 512, the largest possible value; write at most 512 [",
        ),
    ] {
        let faults = read(&format!("{LEAST}{wrong}\n")).unwrap_err();
        assert_eq!(faults.faults.len(), 1, "{faults}");
        assert!(faults.to_string().contains(fault), "{fault} in {faults}");
    }
}

#[test]
fn no_configuration_and_an_empty_one_are_told_apart_and_name_the_command_that_writes_one() {
    for (file, code) in [("", "no-configuration"), ("f", "configuration-empty")] {
        let error = Config::parse("# nothing\n", file, []).unwrap_err();
        let [fault] = &error.faults[..] else {
            panic!("{error}")
        };
        assert_eq!(fault.problem.code(), code);
        assert!(fault.problem.fix().contains("bondgate init"), "{error}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_is_named_as_origin() {
    let set = [
        ("BONDGATE__UPSTREAM__CISCO__WAIT", "3s"),
        ("BONDGATE_ALLOW", "10.0.0.0/8, 192.168.0.0/16"),
    ];
    let config = Config::parse(
        LEAST,
        "f",
        set.map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .unwrap();
    assert_eq!(config.upstreams[0].wait.as_secs(), 3);
    assert_eq!(config.listeners[0].allow.as_ref().map(Vec::len), Some(2));
    let wait = config
        .settings
        .iter()
        .find(|setting| setting.key == "upstream.cisco.wait".into())
        .unwrap();
    assert_eq!(
        wait.origin.to_string(),
        "environment BONDGATE__UPSTREAM__CISCO__WAIT"
    );
}

#[test]
fn a_number_in_the_environment_has_the_type_of_its_key() {
    let set = [
        ("BONDGATE__SERVER__WORKERS", "2"),
        ("BONDGATE__UPSTREAM__CISCO__CLIENT_ID", "12345"),
    ];
    let config = Config::parse(
        LEAST,
        "f",
        set.map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .unwrap();
    assert_eq!(config.server.workers, 2);
    assert!(matches!(config.upstreams[0].client_id, SecretSource::Inline(_)));
}

#[test]
fn plain_http_must_be_allowed_and_is_limited_to_loopback() {
    let with = |more: &str| read(&format!("{LEAST}{more}"));
    assert!(with("url = \"http://127.0.0.1:1\"").is_err());
    assert!(with("unsafe_plain_http = true\nurl = \"http://127.0.0.1:1\"").is_ok());
    assert!(with("unsafe_plain_http = true\nurl = \"http://10.0.0.1:1\"").is_err());
}

#[cfg(unix)]
#[test]
fn a_check_that_a_unix_socket_lacks_is_a_fault() {
    let unix = |more: &str| read(&format!("{LEAST}[[listener]]\naddress = \"unix:/x\"\n{more}\n"));
    assert!(unix("users = [0]").is_ok());
    for more in [
        "allow = [\"10.0.0.0/8\"]",
        "trusted_proxies = [\"10.0.0.0/8\"]",
        "tls = { certificate_file = \"/c\", key_file = \"/k\" }",
    ] {
        let faults = unix(more).unwrap_err().to_string();
        assert!(faults.contains("is for TCP"), "{faults}");
    }
}

#[test]
fn a_warning_names_the_place_of_its_key() {
    let text = format!("{LEAST}[[listener]]\naddress = \"10.0.0.1:1\"\nallow = [\"10.0.0.0/8\"]\n");
    let config = read(&text.replace("{ file = \"/s\" }", "\"s\"")).unwrap();
    let warnings = ConfigError::new(config.warnings).to_string();
    for place in [
        "bondgate.toml:4: upstream.cisco.client_secret: ",
        "bondgate.toml:7: listener[0].allow: ",
        "spool.directory: ",
    ] {
        assert!(warnings.contains(place), "{place}:\n{warnings}");
    }
}

const EXAMPLE: &str = include_str!("../../../config/example.toml");

fn example_settings(text: &str) -> Vec<(KeyPath, String)> {
    let config = Config::parse(text, "example.toml", []).unwrap();
    let in_file = |setting: &&Setting| matches!(setting.origin, Origin::File { .. });
    config
        .settings
        .iter()
        .filter(in_file)
        .map(|setting| (setting.key.clone(), setting.value.clone()))
        .collect()
}

#[test]
fn the_example_sets_every_key_to_its_default() {
    let defaults = read(LEAST).unwrap().settings;
    for (key, value) in example_settings(EXAMPLE) {
        if ["preset", "client_id", "client_secret"].contains(&key.name()) {
            continue;
        }
        let default = defaults.iter().find(|setting| setting.key == key);
        let default = default.unwrap_or_else(|| panic!("{key} has no default: it belongs behind a bare #"));
        assert_eq!(value, default.value, "{key}");
    }
}

/// The example with every key that it shows behind a bare `#`.
fn whole_example() -> String {
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let lines = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|bare| is_key(bare)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_shows_every_key_and_no_other() {
    let text = whole_example();
    let config = Config::parse(&text, "example.toml", []).unwrap();
    let tables = [
        "upstream.cisco",
        "upstream.cisco.timeout",
        "listener[0]",
        "listener[0].tls",
        "admin",
        "admin.tls",
        "log.rotate",
    ];
    for table in tables.into_iter().chain(["server", "limits", "log", "spool"]) {
        let unknown = format!(
            "BONDGATE__{}__ZZZ",
            table.replace("[0]", "__0").replace('.', "__")
        );
        let error = Config::parse(&text, "example.toml", [(unknown, "x".to_owned())]).unwrap_err();
        let faults = error.to_string();
        let (_, known) = faults.split_once("zzz: is not a key here; known are ").unwrap();
        let (known, _) = known.split_once(" [").unwrap();
        for key in known.split(", ") {
            let key = KeyPath::from(table).key(key).to_string();
            let is_shown = |setting: &Setting| setting.key.to_string().starts_with(&key);
            assert!(
                config.settings.iter().any(is_shown),
                "config/example.toml does not show {key}"
            );
        }
    }
}

#[test]
fn users_over_tcp_and_a_timeout_of_zero_are_faults() {
    let text =
        format!("{LEAST}max_age = \"0s\"\ntimeout = {{ head = \"0s\" }}\n[[listener]]\nusers = [1000]\n");
    let faults = read(&text).unwrap_err().to_string();
    assert!(
        faults.contains("timeout.head: is 0")
            && faults.contains("max_age: is 0")
            && faults.contains("users: is for unix sockets"),
        "{faults}"
    );
}

proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "([a-z\\[\\]{}=\"#., 0-9\\n]|upstream|listener|client_secret|file){0,60}") {
        let _ = read(&text);
    }
}
