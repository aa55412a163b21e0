//! Checks the files, rules and names that a configuration refers to, before anything is built from it: at the
//! start, at a reload and for `bondgate check`.

use std::path::Path;
use std::{fs, io};

use crate::config::{CallerKeys, Config, ConfigError, Fault, NamedFile, Origin, Setting, Upstream};
use crate::platform::files;
use crate::problems::{Problem, Severity, configuration};
use crate::telemetry::LogError;
use crate::{proxy, server, telemetry, tls};

/// The faults and warnings of a configuration that was read, or could not be, and of everything that it refers to. A
/// starting daemon waits for its credentials; a check does not.
#[must_use]
pub fn inspect(loaded: Result<Config, ConfigError>) -> (Option<Config>, Findings) {
    match loaded {
        Ok(config) => {
            let mut findings = validate(&config, true);
            findings.warnings.splice(..0, config.warnings.iter().cloned());
            (Some(config), findings)
        }
        Err(error) => (None, findings_of_rest(error, |rest| validate(rest, true))),
    }
}

/// The error of a configuration with the faults of what can be read of it.
#[must_use]
pub fn with_all_faults(error: ConfigError) -> ConfigError {
    ConfigError::new(findings_of_rest(error, |rest| validate(rest, false)).faults)
}

/// The same at a reload.
pub(super) fn with_all_reload_faults(error: ConfigError, active: &Config) -> ConfigError {
    ConfigError::new(findings_of_rest(error, |rest| validate_reload(rest, active)).faults)
}

fn findings_of_rest(mut error: ConfigError, validate: impl Fn(&Config) -> Findings) -> Findings {
    let Some(config) = error.config.take() else {
        let faults = error.faults;
        return Findings {
            faults,
            ..Findings::default()
        };
    };
    let found = validate(&config);
    let warnings = [config.warnings, error.beside(found.warnings)].concat();
    let faults = [error.beside(found.faults), error.faults].concat();
    Findings { faults, warnings }
}

/// Checks everything that would keep a daemon with this configuration from starting, except what only binding shows. A
/// starting daemon waits for credentials that it cannot read, and for certificates that are valid: only a check has faults
/// for them.
#[must_use]
pub fn validate(config: &Config, is_check: bool) -> Findings {
    let mut findings = Validation::new(config, is_check);
    findings.check_log(telemetry::check_level(&config.log.level));
    findings.check_log(telemetry::check_file(&config.log));
    let writable = config.spool.directory.as_deref().map(check_writable).transpose();
    findings.check("spool.directory", writable);
    findings.check_reloadable();
    for upstream in &config.upstreams {
        findings.check_credentials(upstream, is_check);
    }
    findings.found
}

/// The same for a running daemon, for what a reload can change. New credentials must exist.
pub(super) fn validate_reload(config: &Config, active: &Config) -> Findings {
    let mut findings = Validation::new(config, false);
    findings.check_log(telemetry::check_level(&config.log.level));
    for upstream in &config.upstreams {
        let is_same = |other: &Upstream| other.name == upstream.name && other.fetches_like(upstream);
        if !active.upstreams.iter().any(is_same) {
            findings.check_credentials(upstream, true);
        }
    }
    findings.check_reloadable();
    findings.found
}

/// What a validation found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps a daemon from starting.
    pub faults: Vec<Fault>,
    /// What is valid, and probably not meant.
    pub warnings: Vec<Fault>,
}

impl Findings {
    /// The warnings, or the faults if there are any.
    pub fn into_warnings(self) -> Result<Vec<Fault>, ConfigError> {
        match self.faults {
            faults if faults.is_empty() => Ok(self.warnings),
            faults => Err(ConfigError::new(faults)),
        }
    }
}

/// Collects findings, each with the place where its key was set.
struct Validation<'a> {
    config: &'a Config,
    is_check: bool,
    found: Findings,
}

/// The errors of certificates that are valid at another time.
const DATES: [&str; 2] = ["certificate-file-expired", "certificate-file-not-yet-valid"];

impl<'a> Validation<'a> {
    fn new(config: &'a Config, is_check: bool) -> Self {
        Self {
            config,
            is_check,
            found: Findings::default(),
        }
    }

    fn add(&mut self, key: &str, problem: Problem) {
        let is_of_key = |setting: &&Setting| {
            let setting = setting.key.to_string();
            let rest = setting.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let setting = self.config.settings.iter().find(is_of_key);
        let list = match problem.entry().severity {
            // A daemon starts with it, since other listeners may be fine.
            Severity::Error if DATES.contains(&problem.code()) && !self.is_check => &mut self.found.warnings,
            Severity::Error => &mut self.found.faults,
            Severity::Warning => &mut self.found.warnings,
        };
        list.push(Fault {
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            key: key.into(),
            problem,
        });
    }

    fn check<T>(&mut self, key: &str, result: Result<T, impl Into<Problem>>) {
        if let Err(error) = result {
            self.add(key, error.into());
        }
    }

    fn check_log(&mut self, result: Result<(), LogError>) {
        if let Err(LogError { key, problem }) = result {
            self.add(key, problem);
        }
    }

    /// Credentials that cannot be read are a fault if they must exist now. Those that are read for a token are warned of
    /// then.
    fn check_credentials(&mut self, upstream: &Upstream, must_exist: bool) {
        for (name, source) in [
            ("client_id", &upstream.client_id),
            ("client_secret", &upstream.client_secret),
        ] {
            let key = format!("upstream.{}.{name}", upstream.name);
            match source.load() {
                Ok(secret) => {
                    self.check(&key, upstream.check_credential(name, &secret));
                    let warning = source.warn_of(&secret).filter(|_| must_exist);
                    self.check(&key, warning.map_or(Ok(()), Err));
                }
                Err(error) if must_exist => self.add(&key, error.into()),
                Err(_) => {}
            }
        }
    }

    fn check_reloadable(&mut self) {
        let config = self.config;
        for upstream in &config.upstreams {
            let key = |name: &str| format!("upstream.{}.{name}", upstream.name);
            self.check(&key("ca_file"), tls::client(upstream.ca_file.as_deref()));
            let routes = [&upstream.url, &upstream.token_url].map(|to| upstream.proxy.route(to));
            self.check(&key("proxy"), routes.into_iter().collect::<Result<Vec<_>, _>>());
            for warning in upstream.proxy.warnings() {
                self.add(&key("proxy"), warning);
            }
            let rules = proxy::validate_rules(&upstream.rules).map_err(anyhow::Error::from);
            self.check(
                &key("rules"),
                rules.map_err(|error| configuration::rules_wrong(format!("{error:#}"))),
            );
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            let key = |name: &str| format!("listener[{at}].{name}");
            let keys = listener.keys.as_ref().map(CallerKeys::load).transpose();
            for warning in keys.iter().flatten().flat_map(CallerKeys::warnings) {
                self.add(&key("keys"), warning);
            }
            self.check(&key("keys"), keys);
            self.check(&key("tls"), listener.tls.as_ref().map(tls::server).transpose());
            let group = listener.group.as_deref();
            let missing = |_| configuration::group_missing(group.unwrap_or_default());
            self.check(&key("group"), server::group_id(group).map_err(missing));
        }
        let admin_tls = config.admin.tls.as_ref().map(tls::server);
        self.check("admin.tls", admin_tls.transpose());
        self.check_blocks();
    }

    /// Warns of each block of a PEM file that is not loaded.
    fn check_blocks(&mut self) {
        let mut files = self.config.files();
        files.retain(NamedFile::is_pem);
        while let Some(NamedFile { key, path }) = files.first().cloned() {
            let (same, others): (Vec<_>, _) = files.into_iter().partition(|file| file.path == path);
            files = others;
            let keys: Vec<_> = same.iter().map(|file| file.key.name()).collect();
            let are_authorities = !keys.contains(&"certificate_file");
            let dates = tls::date_problems(&path, are_authorities);
            for problem in tls::unloaded_blocks(&path, &keys).into_iter().chain(dates) {
                self.add(&key.to_string(), problem);
            }
        }
    }
}

/// Whether bondgate can write in a directory, or create it.
fn check_writable(directory: &Path) -> Result<(), Problem> {
    // A link that leads nowhere is there, and does not exist.
    let mut there = directory
        .ancestors()
        .filter(|path| path.symlink_metadata().is_ok());
    let there = there.next().unwrap_or(Path::new("."));
    let usable = match files::check_writable_directory(there) {
        Ok(()) if there != directory => try_directory_in(there),
        usable => usable,
    };
    match usable {
        // It may become writable while the daemon runs, and pushes need no spool: until then each pull gets 503.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        usable => usable.map_err(|error| configuration::spool_not_writable(there.display(), error)),
    }
}

/// Makes a directory and removes it. Some file systems forbid that to a user who may write.
fn try_directory_in(parent: &Path) -> io::Result<()> {
    let path = parent.join(format!(".bondgate-check-{}", std::process::id()));
    match fs::create_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        // Another check may have removed it.
        Ok(()) => fs::remove_dir(&path).or(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_log_level_does_not_hide_a_wrong_log_file() {
        let text = "[upstream.a]\npreset = \"none\"\nurl = \"https://a\"\ntoken_url = \"https://b\"\nrules = \"any\"\n\
                    client_id = \"id\"\nclient_secret = \"s\"\n[log]\nlevel = \"loud\"\nfile = \"/nowhere/a.log\"\n";
        let found = validate(&Config::parse(text, "f", []).unwrap(), false);
        let texts: Vec<_> = ConfigError::new(found.faults)
            .faults
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("f:9: log.level: \"loud\" is not a level"));
        assert!(texts[1].starts_with("f:10: log.file: cannot open /nowhere/a.log: "));
    }

    #[test]
    fn a_spool_directory_must_be_writable_or_possible_to_create() {
        let directory = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = |spool: &Path| {
            let text = format!(
                "[upstream.a]\npreset = \"none\"\nurl = \"https://a\"\ntoken_url = \"https://b\"\nrules = \"any\"\n\
                 client_id = \"id\"\nclient_secret = \"s\"\n[spool]\ndirectory = {spool:?}\n"
            );
            validate(&Config::parse(&text, "f", []).unwrap(), false).into_warnings()
        };
        for spool in [file.path().to_owned(), file.path().join("below")] {
            let text = found(&spool).unwrap_err().to_string();
            assert!(
                text.starts_with("f:9: spool.directory: cannot write to ")
                    && text.to_lowercase().contains("(not a directory)"),
                "{text}"
            );
        }
        for spool in [directory.path().to_owned(), directory.path().join("a/b")] {
            assert!(found(&spool).is_ok(), "{spool:?}");
        }
    }
}
