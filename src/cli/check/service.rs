//! What systemd gives the service, and a check in a shell does not have: credentials, the state directory and sockets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::systemd_units;
use crate::config::{Config, ConfigError, Fault, ListenAddress};
use crate::daemon::Findings;
use crate::platform::processes::is_administrator;
use crate::platform::shell::quoted;
use crate::problems::files;

/// Where systemd keeps the credentials of the running service.
const CREDENTIALS: &str = "/run/credentials/bondgate.service";

/// The service that runs a configuration, seen from outside.
pub(in crate::cli) struct Service {
    /// Lines of the unit; none without a unit.
    unit: Vec<String>,
    /// The names of the credentials that the configuration needs and only the service has.
    credentials: Vec<String>,
    /// Where the credentials were found.
    pub(super) found_in: Option<&'static str>,
    /// The credentials that were replaced since the service started.
    pub(super) outdated: Vec<String>,
    /// The directory that systemd gives the service for its spool, where neither the configuration nor the environment
    /// names one.
    pub(in crate::cli) state_directory: Option<PathBuf>,
}

impl Service {
    /// Looks for the service of a configuration, and lets the configuration read the credentials that its next start will
    /// have; where this user may not read those, the ones of the running service.
    pub(in crate::cli) fn find(file: Option<&Path>, loaded: &mut Result<Config, ConfigError>) -> Self {
        let text = systemd_units::service().unwrap_or_default();
        let mut service = Self {
            unit: text.lines().map(|line| line.trim().to_owned()).collect(),
            credentials: Vec::new(),
            found_in: None,
            outdated: Vec::new(),
            state_directory: None,
        };
        let config = match loaded {
            Ok(config) => Some(config),
            Err(error) => error.config.as_deref_mut(),
        };
        let Some(config) = config else { return service };
        let is_set = |name| std::env::var_os(name).is_some();
        if config.spool.directory.is_none() && !is_set("STATE_DIRECTORY") && service.runs(config, file) {
            service.state_directory = service.spool();
        }
        let credentials = config.credentials();
        if credentials.is_empty() || is_set("CREDENTIALS_DIRECTORY") {
        } else if let Some(sources) = service.sources(&credentials) {
            let is_outdated = |name: &&String| {
                let running = fs::read(Path::new(CREDENTIALS).join(name)).ok();
                running.is_some_and(|copy| fs::read(&sources[*name]).is_ok_and(|source| source != copy))
            };
            service.outdated = credentials.iter().filter(is_outdated).cloned().collect();
            config.read_credentials_from(|name| sources[name].clone());
            service.found_in = Some("as the unit's LoadCredential= names them");
        } else if fs::read_dir(CREDENTIALS).is_ok() {
            config.read_credentials_from(|name| Path::new(CREDENTIALS).join(name));
            service.found_in = Some("in /run/credentials/bondgate.service");
        } else {
            service.credentials = credentials;
        }
        service
    }

    /// The file of each credential, if the unit names all of them and this user may read them. Root may: a file that root
    /// cannot read is missing.
    fn sources(&self, credentials: &[String]) -> Option<BTreeMap<String, PathBuf>> {
        let source = |name: &String| {
            let mut loads = self
                .settings("LoadCredential=")
                .filter_map(|load| load.split_once(':'));
            let (_, file) = loads.find(|(id, _)| id == name)?;
            (is_administrator() || fs::File::open(file).is_ok()).then(|| (name.clone(), file.into()))
        };
        credentials.iter().map(source).collect()
    }

    /// Whether the configuration is that of a service: it needs what only systemd gives, or the unit names it.
    fn runs(&self, config: &Config, file: Option<&Path>) -> bool {
        let mut addresses = config.listeners.iter().map(|listener| &listener.address);
        let is_named = |file: &Path| {
            let file = file.display().to_string();
            let mut starts = self.settings("ExecStart=");
            starts.any(|command| command.split(' ').any(|word| word == file))
        };
        !config.credentials().is_empty()
            || addresses.any(|address| matches!(address, ListenAddress::Systemd(_)))
            || file.is_some_and(is_named)
    }

    fn spool(&self) -> Option<PathBuf> {
        let names = match self.settings("StateDirectory=").next() {
            Some(names) => names,
            None if self.unit.is_empty() => "bondgate",
            None => return None,
        };
        let name = names.split([' ', ':']).next().filter(|name| !name.is_empty())?;
        Some(Path::new("/var/lib").join(name))
    }

    fn settings(&self, key: &str) -> impl Iterator<Item = &str> {
        self.unit.iter().filter_map(move |line| line.strip_prefix(key))
    }

    /// Makes warnings of the faults that only a shell has, which name the command that checks what the service has.
    /// Returns these.
    pub(super) fn correct(
        &self,
        findings: &mut Findings,
        file: Option<&Path>,
        arguments: &str,
    ) -> Vec<Fault> {
        if self.state_directory.is_some() {
            let is_right = |warning: &Fault| warning.problem.code() != "spool-in-memory";
            findings.warnings.retain(is_right);
        }
        let is_of_shell = |fault: &mut Fault| fault.problem.code() == "credentials-directory-missing";
        if self.credentials.is_empty() {
            return Vec::new();
        }
        let command = self.command(file, arguments);
        let mut unchecked: Vec<_> = findings.faults.extract_if(.., is_of_shell).collect();
        for fault in &mut unchecked {
            fault.problem = files::credential_not_checked(&command);
        }
        findings.warnings.extend(unchecked.iter().cloned());
        unchecked
    }

    /// The command that runs this check with the credentials of the service.
    fn command(&self, file: Option<&Path>, arguments: &str) -> String {
        let sudo = if is_administrator() { "" } else { "sudo " };
        let mut command = format!("{sudo}systemd-run --pipe --wait --collect");
        for name in &self.credentials {
            let mut loads = self.settings("LoadCredential=");
            let load = loads.find(|load| load.split(':').next() == Some(name));
            let load = load.map_or_else(|| format!("{name}:/etc/bondgate/{name}"), str::to_owned);
            let property = format!("LoadCredential={load}");
            command = format!("{command} -p {}", quoted(Path::new(&property)));
        }
        let program = std::env::current_exe().unwrap_or_else(|_| "bondgate".into());
        command = format!("{command} {} check{arguments}", quoted(&program));
        let file = file.and_then(|file| std::path::absolute(file).ok());
        file.map_or(command.clone(), |file| {
            format!("{command} --config {}", quoted(&file))
        })
    }
}
