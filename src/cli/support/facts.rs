//! Facts about the program and the machine, a line each.

use std::path::{Path, PathBuf};

use super::configuration::Configuration;
use super::daemon::Daemon;
use super::time_limit::limited;
use crate::cli::{systemd_units, variables};
use crate::platform::{machine, service};
use crate::telemetry::program;

/// The variables beside BONDGATE_… that bondgate, or a library that it uses, reads.
const VARIABLES: &[&str] = &[
    "ALL_PROXY",
    "CREDENTIALS_DIRECTORY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "KUBERNETES_SERVICE_HOST",
    "LISTEN_FDS",
    "MIMALLOC_VERBOSE",
    "NOTIFY_SOCKET",
    "NO_COLOR",
    "NO_PROXY",
    "REQUEST_METHOD",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "STATE_DIRECTORY",
    "SUDO_USER",
    "SYSTEMD_UNIT_PATH",
    "TZ",
    "WATCHDOG_USEC",
    "WSL_DISTRO_NAME",
    "container",
];

/// Which program this is.
pub(super) fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    format!(
        "version: {}\nprogram: {}\n",
        program::description(),
        path.display()
    )
}

/// What is known of the machine, the user and the environment of this command, and of the limits of the daemon.
pub(super) fn machine(daemon: &Daemon, configuration: &Configuration) -> String {
    let mut facts = machine::facts();
    if let Some(process) = daemon.process() {
        facts.extend(machine::facts_of_process(process));
    }
    if service::IS_SUPPORTED {
        let status =
            service::status().map_or_else(|error| error.to_string(), |(status, _)| status.to_owned());
        facts.push(("service".to_owned(), status));
    } else if systemd_units::service().is_some() {
        facts.push(("unit bondgate.service".to_owned(), "installed".to_owned()));
    }
    for (of, directory) in directories(configuration) {
        let name = format!("disk of {of} {}", directory.display());
        let space = limited("asking for its space", move || {
            machine::disk_space(&directory).map_err(|error| error.to_string())
        });
        let free = space.flatten().map_or_else(
            |reason| reason,
            |(free, all)| format!("{} MiB free of {} MiB", free >> 20, all >> 20),
        );
        facts.push((name, free));
    }
    let names = environment(variables().map(|(name, _)| name));
    facts.push((
        "variables of this command (values are not shown)".to_owned(),
        names,
    ));
    let lines = facts.iter().map(|(name, value)| format!("{name}: {value}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// The directories that the daemon writes to.
fn directories(configuration: &Configuration) -> Vec<(&'static str, PathBuf)> {
    let Some(config) = configuration.config() else {
        return Vec::new();
    };
    let spool = config.spool.directory.clone();
    let log = config
        .log
        .file
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned);
    let found = [("the spool", spool), ("the log", log)];
    found
        .into_iter()
        .filter_map(|(of, path)| Some((of, path?)))
        .collect()
}

/// The names of variables that bondgate reads.
fn environment(names: impl Iterator<Item = String>) -> String {
    let is_read = |name: &String| {
        let upper = name.to_ascii_uppercase();
        name.starts_with("BONDGATE_")
            || VARIABLES.contains(&name.as_str())
            || VARIABLES.contains(&upper.as_str())
    };
    let mut names: Vec<_> = names.filter(is_read).collect();
    names.sort_unstable();
    match &names[..] {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
