//! Sets `BONDGATE_…` variables over the configuration file: the environment overrides the file and is
//! sufficient alone.

use std::ffi::OsString;

use toml::{Table, Value};

use super::document::Document;
use super::fault::{Fault, Origin};
use super::key_path::KeyPath;
use super::report::Report;
use crate::problems::{Problem, configuration};

/// Short names of the keys that a container usually sets. `upstream` and `listener` stand for the only one.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("BONDGATE_PRESET", "upstream.preset"),
    ("BONDGATE_CLIENT_ID", "upstream.client_id"),
    ("BONDGATE_CLIENT_SECRET", "upstream.client_secret"),
    ("BONDGATE_CLIENT_SECRET_FILE", "upstream.client_secret"),
    ("BONDGATE_PROXY", "upstream.proxy"),
    ("BONDGATE_CA_FILE", "upstream.ca_file"),
    ("BONDGATE_LISTEN", "listener.address"),
    ("BONDGATE_ALLOW", "listener.allow"),
    ("BONDGATE_HOSTS", "listener.hosts"),
    ("BONDGATE_ADMIN", "admin.address"),
    ("BONDGATE_SPOOL_DIRECTORY", "spool.directory"),
    ("BONDGATE_LOG", "log.level"),
];

/// The upstream that the short names make if the file has none.
const DEFAULT_UPSTREAM: &str = "cisco";

/// Set by systemd for `StateDirectory=`, several directories separated by colons.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// The variables as text. One that is not UTF-8 is a fault if it sets a key.
pub(in crate::config) fn variables(
    environment: impl IntoIterator<Item = (String, OsString)>,
    report: &mut Report,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, value) in environment {
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) if name == STATE_DIRECTORY || name.starts_with("BONDGATE_") && !is_foreign(&name, "") => {
                let problem = configuration::variable_not_utf_8(&name);
                report.faults.push(Fault::at(Origin::Environment(name), problem));
            }
            Err(_) => {}
        }
    }
    variables
}

/// Sets the values of the variables in the report's document.
pub(in crate::config) fn overlay(report: &mut Report, variables: &[(String, String)]) {
    let is_own = |(name, _): &&(String, String)| name.starts_with("BONDGATE_");
    let mut own: Vec<_> = variables.iter().filter(is_own).collect();
    own.sort();
    let is_set = |name: &str| own.iter().any(|(other, _)| other == name);
    let fault = |variable: &str, problem| Fault::at(Origin::Environment(variable.to_owned()), problem);
    if is_set("BONDGATE_CLIENT_SECRET") && is_set("BONDGATE_CLIENT_SECRET_FILE") {
        let problem =
            configuration::keys_conflict("is set, and so is BONDGATE_CLIENT_SECRET_FILE", "set one of them");
        report.faults.push(fault("BONDGATE_CLIENT_SECRET", problem));
    }
    for (name, text) in own {
        if let Err(problem) = set(report, name, text) {
            report.faults.push(fault(name, problem));
        }
    }
    let state = variables.iter().find(|(name, _)| name == STATE_DIRECTORY);
    let state = state.and_then(|(_, value)| value.split(':').next());
    if let Some(directory) = state.filter(|directory| !directory.is_empty()) {
        let spool = Table::from_iter([("spool".to_owned(), place("directory", directory))]);
        let origin = Origin::Environment(STATE_DIRECTORY.to_owned());
        report.document.fill(&KeyPath::default(), &spool, &origin);
    }
}

/// The variable that would send calls through a proxy if bondgate used it.
pub(in crate::config) fn proxy_variable(variables: &[(String, String)]) -> Option<&str> {
    let is_set = |(name, value): &(String, String), wanted: &str| name == wanted && !value.is_empty();
    let mut names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter();
    names.find(|wanted| variables.iter().any(|variable| is_set(variable, wanted)))
}

fn set(report: &mut Report, name: &str, text: &str) -> Result<(), Problem> {
    let short = SHORT_NAMES.iter().find(|(short, _)| *short == name);
    let key = if let Some((_, key)) = short {
        full_key(&report.document, key)?
    } else if let Some(path) = name.strip_prefix("BONDGATE__") {
        resolve(&report.document, path)?
    } else {
        if !is_foreign(name, text) {
            let problem = configuration::variable_unknown(name);
            report.warnings.push(Fault::at(Origin::Default, problem));
        }
        return Ok(());
    };
    let value = match (name, text.parse()) {
        // The variable is the place of the secret, so that the secret itself is not a value here.
        ("BONDGATE_CLIENT_SECRET", _) => place("env", name),
        ("BONDGATE_CLIENT_SECRET_FILE", _) => place("file", text),
        (_, Ok(Value::Table(table))) => Value::Table(table),
        _ => text.into(),
    };
    let origin = Origin::Environment(name.to_owned());
    report.document.set(&key, value, origin);
    Ok(())
}

/// A table of one key.
fn place(key: &str, value: &str) -> Value {
    Value::Table(Table::from_iter([(key.to_owned(), value.into())]))
}

/// Variables that are not settings: the place of the file, and what Kubernetes sets in each pod for a Service named
/// "bondgate" (`BONDGATE_PORT=tcp://…`) or "bondgate-push" (`BONDGATE_PUSH_PORT=tcp://…`).
fn is_foreign(name: &str, value: &str) -> bool {
    let is_of_port = |(_, rest): (&str, &str)| match rest.strip_prefix('_') {
        // Without the URL, it is a misspelled setting.
        None => rest.is_empty() && value.contains("://"),
        Some(number) => number.starts_with(|first: char| first.is_ascii_digit()),
    };
    ["BONDGATE_CONFIG", "BONDGATE_PORT"].contains(&name)
        || name.starts_with("BONDGATE_PORT_")
        || name.starts_with("BONDGATE_SERVICE_")
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT").is_some_and(is_of_port)
}

/// The key of a short name in the only upstream or listener.
fn full_key(document: &Document, key: &str) -> Result<KeyPath, Problem> {
    let (section, name) = key.split_once('.').unwrap_or_default();
    match (section, &document.tables(&section.into())[..]) {
        ("upstream" | "listener", [only]) => Ok(only.key(name)),
        ("upstream" | "listener", [first, ..]) => {
            let variable = first.key(name).variable();
            Err(configuration::variable_wrong(
                format!("sets the one {section}, but there are several"),
                format!("write a name like {variable}"),
            ))
        }
        ("upstream", []) => Ok(KeyPath::upstream(DEFAULT_UPSTREAM).key(name)),
        ("listener", []) => Ok(KeyPath::listener(0).key(name)),
        _ => Ok(key.into()),
    }
}

/// The key that `SECTION__KEY` names; the case of letters and `-` for `_` make no difference.
fn resolve(document: &Document, name: &str) -> Result<KeyPath, Problem> {
    let mut key = KeyPath::default();
    for part in name.split("__").map(str::to_ascii_lowercase) {
        let index = part.parse::<usize>().ok();
        let length = match document.get(&key) {
            Some(Value::Array(list)) => Some(list.len()),
            None => index.map(|_| 0),
            Some(_) => None,
        };
        key = match (length, index) {
            _ if part.is_empty() => {
                let form = "write BONDGATE__SECTION__KEY";
                return Err(configuration::variable_wrong("has an empty part", form));
            }
            (Some(length), Some(index)) if index <= length => key.item(index),
            (Some(length), _) => {
                let part = part.to_uppercase();
                return Err(configuration::variable_wrong(
                    format!("has {part:?} for an item of a list of {length}"),
                    "count from 0, without a gap",
                ));
            }
            (None, _) => {
                let is_meant = |key: &&String| key.to_ascii_lowercase().replace('-', "_") == part;
                let table = document.get(&key).and_then(Value::as_table);
                key.key(
                    table
                        .and_then(|table| table.keys().find(is_meant))
                        .unwrap_or(&part),
                )
            }
        };
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The report on TOML text with these variables over it.
    fn overlaid(text: &str, variables: &[(&str, &str)]) -> Report {
        let mut report = Report::new(text, "f");
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        overlay(&mut report, &variables.iter().map(pair).collect::<Vec<_>>());
        report
    }

    #[test]
    fn short_names_make_one_upstream_and_one_listener() {
        let report = overlaid(
            "",
            &[
                ("BONDGATE_PRESET", "smart-bonding-stage"),
                ("BONDGATE_CLIENT_SECRET_FILE", "/run/secret"),
                ("BONDGATE_LISTEN", "localhost:1"),
            ],
        );
        assert!(report.faults.is_empty() && report.warnings.is_empty());
        let root = report.document.root();
        let secret = &root["upstream"]["cisco"]["client_secret"];
        assert_eq!(secret["file"].as_str(), Some("/run/secret"));
        assert_eq!(root["listener"][0]["address"].as_str(), Some("localhost:1"));
    }

    #[test]
    fn variables_of_kubernetes_are_ignored_and_unknown_names_cause_a_warning() {
        let report = overlaid(
            "",
            &[
                ("BONDGATE_PORT", "tcp://10.0.0.1:80"),
                ("BONDGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("BONDGATE_SERVICE_HOST", "10.0.0.1"),
                ("BONDGATE_PUSH_SERVICE_HOST", "10.0.0.1"),
                ("BONDGATE_PUSH_SERVICE_PORT", "80"),
                ("BONDGATE_PUSH_SERVICE_PORT_HTTP", "80"),
                ("BONDGATE_PUSH_PORT", "tcp://10.0.0.1:80"),
                ("BONDGATE_PUSH_PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("BONDGATE_PUSH_PORT_80_TCP_PROTO", "tcp"),
                ("BONDGATE_PUSH_PORT_80_TCP_ADDR", "10.0.0.1"),
                ("BONDGATE_CLIENTID", "x"),
                ("BONDGATE_LISTEN_PORT", "8080"),
                ("PATH", "/bin"),
            ],
        );
        assert!(report.document.root().as_table().unwrap().is_empty() && report.faults.is_empty());
        let warnings: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("BONDGATE_CLIENTID"), "{warnings:?}");
        assert!(warnings[1].contains("BONDGATE_LISTEN_PORT"), "{warnings:?}");
    }

    #[test]
    fn a_short_name_is_rejected_if_there_are_several_upstreams() {
        let variables = [
            ("BONDGATE_CLIENT_ID", "x"),
            ("BONDGATE__UPSTREAM__B__CLIENT_ID", "y"),
        ];
        let report = overlaid("[upstream.a]\n[upstream.b]\n", &variables);
        assert_eq!(report.faults.len(), 1);
        let fault = report.faults[0].to_string();
        assert!(fault.contains("BONDGATE__UPSTREAM__A__CLIENT_ID"), "{fault}");
    }

    #[test]
    fn an_underscore_in_a_variable_stands_for_a_dash_in_a_name() {
        let variables = [("BONDGATE__UPSTREAM__SB_STAGE__CLIENT_ID", "x")];
        let report = overlaid("[upstream.sb-stage]\n", &variables);
        let id = &report.document.root()["upstream"]["sb-stage"]["client_id"];
        assert_eq!(id.as_str(), Some("x"));
    }

    #[test]
    fn a_malformed_name_is_a_fault() {
        for name in [
            "BONDGATE__",
            "BONDGATE____",
            "BONDGATE__A__",
            "BONDGATE__LISTENER__7__HOSTS",
        ] {
            assert_eq!(overlaid("", &[(name, "x")]).faults.len(), 1, "{name}");
        }
        assert!(overlaid("", &[("BONDGATE__LISTENER__0", "x")]).faults.is_empty());
    }
}
