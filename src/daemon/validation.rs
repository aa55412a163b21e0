//! Checks the files, rules and names that a configuration refers to, before anything is built from it: at the
//! start, at a reload and for `bondgate check`.

use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::config::{CallerKeys, Config, ConfigError, Fault, Origin, Setting, Upstream};
use crate::problems::{Problem, configuration};
use crate::telemetry::LogError;
use crate::{proxy, server, telemetry, tls};

/// Checks everything that would keep a daemon with this configuration from starting, except what only binding shows. A
/// starting daemon waits for credentials that it cannot read: they are checked only on request.
pub fn validate(config: &Config, with_credentials: bool) -> Result<(), ConfigError> {
    let mut faults = Faults::new(config);
    faults.check_log(telemetry::check_level(&config.log.level));
    faults.check_log(telemetry::check_file(&config.log));
    let writable = config.spool.directory.as_deref().map(check_writable).transpose();
    faults.check("spool.directory", writable);
    faults.check_reloadable();
    for upstream in config.upstreams.iter().filter(|_| with_credentials) {
        faults.check_credentials(upstream);
    }
    faults.into_result()
}

/// The same for a running daemon, for what a reload can change. New credentials must exist.
pub(super) fn validate_reload(config: &Config, active: &Config) -> Result<(), ConfigError> {
    let mut faults = Faults::new(config);
    faults.check_log(telemetry::check_level(&config.log.level));
    for upstream in &config.upstreams {
        let is_same = |other: &Upstream| other.name == upstream.name && other.fetches_like(upstream);
        if !active.upstreams.iter().any(is_same) {
            faults.check_credentials(upstream);
        }
    }
    faults.check_reloadable();
    faults.into_result()
}

/// Collects faults, each with the place where its key was set.
struct Faults<'a> {
    config: &'a Config,
    found: Vec<Fault>,
}

impl<'a> Faults<'a> {
    fn new(config: &'a Config) -> Self {
        let found = Vec::new();
        Self { config, found }
    }

    fn into_result(self) -> Result<(), ConfigError> {
        match self.found {
            found if found.is_empty() => Ok(()),
            found => Err(ConfigError::new(found)),
        }
    }

    fn add(&mut self, key: &str, problem: Problem) {
        let is_of_key = |setting: &&Setting| {
            let setting = setting.key.to_string();
            let rest = setting.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let setting = self.config.settings.iter().find(is_of_key);
        self.found.push(Fault {
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

    fn check_credentials(&mut self, upstream: &Upstream) {
        let key = |name: &str| format!("upstream.{}.{name}", upstream.name);
        self.check(&key("client_id"), upstream.client_id.load());
        self.check(&key("client_secret"), upstream.client_secret.load());
    }

    fn check_reloadable(&mut self) {
        let config = self.config;
        for upstream in &config.upstreams {
            let key = |name: &str| format!("upstream.{}.{name}", upstream.name);
            self.check(&key("ca_file"), tls::client(upstream.ca_file.as_deref()));
            let routes = [&upstream.url, &upstream.token_url].map(|to| upstream.proxy.route(to));
            self.check(&key("proxy"), routes.into_iter().collect::<Result<Vec<_>, _>>());
            let rules = proxy::validate_rules(&upstream.rules).map_err(anyhow::Error::from);
            self.check(
                &key("rules"),
                rules.map_err(|error| configuration::rules_wrong(format!("{error:#}"))),
            );
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            let key = |name: &str| format!("listener[{at}].{name}");
            let keys = listener.keys.as_ref().map(CallerKeys::load);
            self.check(&key("keys"), keys.transpose());
            self.check(&key("tls"), listener.tls.as_ref().map(tls::server).transpose());
            let group = listener.group.as_deref();
            let missing = |_| configuration::group_missing(group.unwrap_or_default());
            self.check(&key("group"), server::group_id(group).map_err(missing));
        }
        let admin_tls = config.admin.tls.as_ref().map(tls::server);
        self.check("admin.tls", admin_tls.transpose());
    }
}

/// Whether bondgate can write in a directory, or create it.
fn check_writable(directory: &Path) -> Result<(), Problem> {
    let mut existing = directory.ancestors().filter(|path| path.exists());
    let existing = existing.next().unwrap_or(Path::new("."));
    match rustix::fs::access(existing.join("."), Access::WRITE_OK | Access::EXEC_OK) {
        // It may become writable while the daemon runs, and pushes need no spool: until then each pull gets 503.
        Err(Errno::ROFS) => Ok(()),
        access => access.map_err(|error| configuration::spool_not_writable(existing.display(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_log_level_does_not_hide_a_wrong_log_file() {
        let text = "[upstream.a]\npreset = \"none\"\nurl = \"https://a\"\ntoken_url = \"https://b\"\nrules = \"any\"\n\
                    client_id = \"id\"\nclient_secret = \"s\"\n[log]\nlevel = \"loud\"\nfile = \"/nowhere/a.log\"\n";
        let error = validate(&Config::parse(text, "f", []).unwrap(), false).unwrap_err();
        let texts: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
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
            validate(&Config::parse(&text, "f", []).unwrap(), false)
        };
        for spool in [file.path().to_owned(), file.path().join("below")] {
            let text = found(&spool).unwrap_err().to_string();
            assert!(
                text.starts_with("f:9: spool.directory: cannot write to ") && text.contains("(os error 20)"),
                "{text}"
            );
        }
        for spool in [directory.path().to_owned(), directory.path().join("a/b")] {
            assert!(found(&spool).is_ok(), "{spool:?}");
        }
    }
}
