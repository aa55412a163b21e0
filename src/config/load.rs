//! From a file and the environment to a [`Config`], or to every fault in them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::environment;
use super::listener::{Admin, Listener};
use super::preset;
use super::section::{Fault, Report, Section};
use super::together;
use super::tree::{self, Entry, Node, Origin, Table};
use super::upstream::Upstream;
use super::{Config, Limits, Log, Server, Spool};

/// Every fault of a configuration, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The file to read: the one that was asked for, `$BONDGATE_CONFIG`, or one in its usual place.
#[must_use]
pub fn find_file(asked: Option<PathBuf>) -> Option<PathBuf> {
    asked
        .or_else(|| std::env::var_os("BONDGATE_CONFIG").map(PathBuf::from))
        .or_else(|| {
            ["./bondgate.toml", "/etc/bondgate/bondgate.toml"]
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
        })
}

impl Config {
    /// Reads a file, where there is one, and the environment over it.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Self::parse("", "", environment);
        };
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, name.strip_prefix("./").unwrap_or(&name), environment),
            Err(error) => {
                let what = format!("cannot read the configuration file {name}: {error}");
                Err(ConfigError {
                    faults: vec![Fault {
                        origin: Origin::Default,
                        key: String::new(),
                        what,
                    }],
                })
            }
        }
    }

    /// Reads configuration text that was found in `file`, and the environment over it.
    pub fn parse(
        text: &str,
        file: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let report = Report::default();
        let place = |line| Origin::File {
            file: file.to_owned(),
            line,
        };
        let (mut root, errors) = tree::parse(text, &place);
        let (is_empty, is_broken) = (root.is_empty(), !errors.is_empty());
        report
            .faults
            .borrow_mut()
            .extend(errors.into_iter().map(|error| Fault {
                origin: place(error.line),
                key: String::new(),
                what: error.message,
            }));
        let variables: Vec<_> = environment.into_iter().collect();
        let unheeded = environment::outbound_proxy(&variables);
        let overlay = environment::overlay(&mut root, variables);
        report.faults.borrow_mut().extend(overlay.faults);
        report.warnings.borrow_mut().extend(overlay.warnings);

        let root = Entry {
            origin: Origin::Default,
            node: Node::Table(root),
        };
        let config = if is_empty && !has_upstream(&root) {
            Section::new(String::new(), Some(&root), &report).fault("", NOTHING);
            None
        } else {
            build(&root, &report)
        };
        if let (Some(config), Some(name)) = (&config, unheeded) {
            together::warn_of_proxy(&config.upstreams, &name, &report);
        }
        let mut faults = report.faults.into_inner();
        faults.retain(|fault| !(is_broken && fault.may_follow_from_syntax()));
        faults.sort_by_key(|fault| match &fault.origin {
            Origin::File { line, .. } => *line,
            _ => usize::MAX,
        });
        match config {
            Some(mut config) if faults.is_empty() => {
                config.settings = report.settings.into_inner();
                config.warnings = report.warnings.into_inner();
                Ok(config)
            }
            _ => Err(ConfigError { faults }),
        }
    }
}

const NOTHING: &str = "there is no configuration: no file was given or found (./bondgate.toml, /etc/bondgate/bondgate.toml), \
and the environment sets none. Set BONDGATE_PRESET, BONDGATE_CLIENT_ID and BONDGATE_CLIENT_SECRET_FILE, \
write a file (config/example.toml shows every key), or try `bondgate demo`";

fn has_upstream(root: &Entry) -> bool {
    matches!(&root.node, Node::Table(table) if table.contains_key("upstream"))
}

fn build(root: &Entry, report: &Report) -> Option<Config> {
    let presets: Vec<(&'static str, Table)> = preset::NAMES
        .iter()
        .filter_map(|name| preset::values(name))
        .collect();
    let mut section = Section::new(String::new(), Some(root), report);

    let mend = "write [upstream.cisco] with preset, client_id and client_secret";
    let tables = section.named("upstream", mend);
    let names: Vec<String> = tables.iter().map(|(name, _)| name.clone()).collect();
    let upstreams: Option<Vec<_>> = {
        let read: Vec<_> = tables
            .into_iter()
            .map(|(name, section)| Upstream::read(name, section, &presets))
            .collect();
        read.into_iter().collect()
    };

    let mut listed = section.list("listener");
    if listed.is_empty() {
        listed.push(Section::new("listener[0]".to_owned(), None, report));
    }
    let listeners: Vec<_> = listed
        .into_iter()
        .map(|section| Listener::read(section, &names))
        .collect();
    let listeners: Option<Vec<_>> = listeners.into_iter().collect();

    let config = Config {
        admin: Admin::read(section.section("admin")),
        server: Server::read(section.section("server")),
        limits: Limits::read(section.section("limits")),
        log: Log::read(section.section("log")),
        spool: Spool::read(section.section("spool")),
        upstreams: Vec::new(),
        listeners: Vec::new(),
        settings: Vec::new(),
        warnings: Vec::new(),
    };
    together::judge(&section, upstreams.as_deref(), listeners.as_deref(), &config);
    section.finish();
    Some(Config {
        upstreams: upstreams?,
        listeners: listeners?,
        ..config
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Setting;

    const LEAST: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "bondgate.toml", [])
    }

    #[test]
    fn a_preset_and_credentials_are_enough() {
        let config = read(LEAST).unwrap();
        assert_eq!(config.upstreams[0].url.host(), "stage.sbnprd.xylem.cisco.com");
        assert_eq!(config.listeners[0].address.to_string(), "localhost:8080");
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_line_and_without_the_secret() {
        let text = "[upstream.cisco]\npreset = \"smart-bonding\"\nclient_secret = \"hunter2\"\nwait = \"2x\"\nreplai = \"1MiB\"\n\
                    [[listener]]\naddress = \"0.0.0.0:8080\"\n[limits]\nfields = \"many\"\n";
        let error = read(text).unwrap_err();
        let told = error.to_string();
        assert_eq!(error.faults.len(), 6, "{told}");
        for part in [
            "bondgate.toml:2: upstream.cisco.preset: \"smart-bonding\" is no preset",
            "bondgate.toml:1: upstream.cisco.client_id: is missing",
            "bondgate.toml:4: upstream.cisco.wait: \"2x\" is not a duration",
            "bondgate.toml:5: upstream.cisco.replai: is not a key here; did you mean \"replay\"?",
            "bondgate.toml:7: listener[0].address: 0.0.0.0:8080 can be reached",
            "bondgate.toml:9: limits.fields: is string \"many\"; write a whole number, like 100",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        assert!(!told.contains("hunter2"));
    }

    #[test]
    fn one_mistake_is_one_fault() {
        for (right, wrong, told) in [
            (
                "[upstream.cisco]",
                "[upstream]",
                "f:1: upstream: has keys and no name; write [upstream.cisco] with preset, client_id and client_secret",
            ),
            (
                "[upstream.cisco]",
                "[upstream.cisco",
                "f:1: unclosed table, expected `]`",
            ),
            (
                "client_id",
                "clientid",
                "f:3: upstream.cisco.clientid: is not a key here; did you mean \"client_id\"?",
            ),
        ] {
            let error = Config::parse(&LEAST.replace(right, wrong), "f", []).unwrap_err();
            assert_eq!(error.to_string(), told);
        }
        assert!(read("[upstream]\n").unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn the_environment_beats_the_file_and_says_so() {
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
        assert_eq!(config.listeners[0].access.allow.as_ref().map(Vec::len), Some(2));
        let wait = config
            .settings
            .iter()
            .find(|setting| setting.key == "upstream.cisco.wait")
            .unwrap();
        assert_eq!(
            wait.origin.to_string(),
            "environment BONDGATE__UPSTREAM__CISCO__WAIT"
        );
    }

    #[test]
    fn a_number_in_the_environment_is_a_number_or_a_secret_as_the_key_wants() {
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
        assert!(matches!(
            config.upstreams[0].client_id,
            super::super::SecretSource::Inline(_)
        ));
    }

    #[test]
    fn plain_http_needs_to_be_asked_for_and_stays_on_this_machine() {
        let with = |more: &str| read(&format!("{LEAST}{more}"));
        assert!(with("url = \"http://127.0.0.1:1\"").is_err());
        assert!(with("unsafe_plain_http = true\nurl = \"http://127.0.0.1:1\"").is_ok());
        assert!(with("unsafe_plain_http = true\nurl = \"http://10.0.0.1:1\"").is_err());
    }

    #[test]
    fn a_gate_that_a_unix_socket_has_not_is_a_fault() {
        let unix = |more: &str| read(&format!("{LEAST}[[listener]]\naddress = \"unix:/x\"\n{more}\n"));
        assert!(unix("users = [0]").is_ok());
        for more in [
            "allow = [\"10.0.0.0/8\"]",
            "trusted_proxies = [\"10.0.0.0/8\"]",
            "tls = { certificate_file = \"/c\", key_file = \"/k\" }",
        ] {
            let told = unix(more).unwrap_err().to_string();
            assert!(told.contains("is for TCP"), "{told}");
        }
    }

    #[test]
    fn a_warning_says_where_its_key_is() {
        let text = format!("{LEAST}[[listener]]\naddress = \"10.0.0.1:1\"\nallow = [\"10.0.0.0/8\"]\n");
        let warnings = read(&text.replace("{ file = \"/s\" }", "\"s\""))
            .unwrap()
            .warnings
            .join("\n");
        for place in [
            "bondgate.toml:4: upstream.cisco.client_secret: ",
            "bondgate.toml:7: listener[0].allow: ",
            "spool.directory: ",
        ] {
            assert!(warnings.contains(place), "{place}:\n{warnings}");
        }
    }

    #[test]
    fn no_configuration_at_all_says_what_to_do() {
        let told = read("").unwrap_err().to_string();
        assert!(
            told.contains("BONDGATE_PRESET") && told.contains("bondgate demo"),
            "{told}"
        );
    }

    const EXAMPLE: &str = include_str!("../../config/example.toml");

    fn example_settings(text: &str) -> Vec<(String, String)> {
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
            if ["preset", "client_id", "client_secret"]
                .iter()
                .any(|own| key.ends_with(own))
            {
                continue;
            }
            let default = defaults.iter().find(|setting| setting.key == key);
            let default =
                default.unwrap_or_else(|| panic!("{key} has no default: it belongs behind a bare #"));
            assert_eq!(value, default.value, "{key}");
        }
    }

    #[test]
    fn the_example_shows_every_key_and_no_other() {
        let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
        let lines = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|bare| is_key(bare)).unwrap_or(line));
        let text = lines.collect::<Vec<_>>().join("\n");
        let (root, errors) = tree::parse(&text, &|line| Origin::File {
            file: String::new(),
            line,
        });
        assert!(errors.is_empty());
        let report = Report::default();
        assert!(
            build(
                &Entry {
                    origin: Origin::Default,
                    node: Node::Table(root.clone())
                },
                &report
            )
            .is_some()
        );
        assert_eq!(*report.faults.borrow(), []);
        let value = Entry {
            origin: Origin::Default,
            node: Node::Table(root),
        }
        .value();
        for key in report.asked.into_inner() {
            let found = key
                .split('.')
                .try_fold(&value, |value, part| match part.strip_suffix("[0]") {
                    Some(list) => value.get(list)?.get(0),
                    None => value.get(part),
                });
            assert!(found.is_some(), "config/example.toml does not show {key}");
        }
    }

    #[test]
    fn a_user_list_over_tcp_and_a_timeout_of_nothing_are_faults() {
        let text =
            format!("{LEAST}max_age = \"0s\"\ntimeout = {{ head = \"0s\" }}\n[[listener]]\nusers = [1000]\n");
        let told = read(&text).unwrap_err().to_string();
        assert!(
            told.contains("timeout.head: is 0")
                && told.contains("max_age: is 0")
                && told.contains("users: is for unix sockets"),
            "{told}"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-z\\[\\]{}=\"#., 0-9\\n]|upstream|listener|client_secret|file){0,60}") {
            let _ = read(&text);
        }
    }
}
