//! What would keep a daemon from starting as configured, all of it at once and but for what only binding
//! shows: for the start itself, and for `bondgate check`.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::config::{
    CallerKeys, Config, Fault, Origin, SecretError, SecretSource, ServerTls, Setting, Upstream,
};
use crate::proxy;
use crate::server::UnixAccess;
use crate::{telemetry, tls};

/// Files, rules and names that the configuration is right about and that cannot be used.
#[must_use]
pub fn faults(config: &Config) -> Vec<Fault> {
    let mut found = Found::new(config);
    if let Err(error) = telemetry::judge(&config.log) {
        found.tell(error.key(), error);
    }
    if let Some(directory) = &config.spool.directory
        && let Err(error) = may_write_in(directory)
    {
        found.tell("spool.directory", error);
    }
    found.judge_parts(config);
    found.in_order()
}

/// The same of what a running daemon can put in force: its log stays where it is.
pub(super) fn faults_of_change(config: &Config) -> Vec<Fault> {
    let mut found = Found::new(config);
    if let Err(error) = telemetry::judge_level(&config.log.level) {
        found.tell(error.key(), error);
    }
    found.judge_parts(config);
    found.in_order()
}

/// Credentials that cannot be read: a daemon waits for them.
#[must_use]
pub fn missing_credentials(config: &Config) -> Vec<Fault> {
    let mut found = Found::new(config);
    for upstream in &config.upstreams {
        for (key, error) in unreadable(upstream) {
            found.tell(&format!("upstream.{}.{key}", upstream.name), error);
        }
    }
    found.in_order()
}

/// An upstream's credentials that cannot be read, each with its key.
pub(super) fn unreadable(upstream: &Upstream) -> impl Iterator<Item = (&'static str, SecretError)> {
    let credentials = [
        ("client_id", &upstream.client_id),
        ("client_secret", &upstream.client_secret),
    ];
    let unreadable = |(key, source): (_, &SecretSource)| source.load().err().map(|error| (key, error));
    credentials.into_iter().filter_map(unreadable)
}

/// Whether a directory, or the nearest one above it that is there, lets us write in it.
fn may_write_in(directory: &Path) -> Result<(), Unwritable> {
    let mut there = directory;
    let written = loop {
        if there.exists() && !there.is_dir() {
            break Err(Errno::NOTDIR);
        }
        match rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK) {
            Err(Errno::NOENT) if there != Path::new(".") => {
                let above = there.parent().filter(|above| !above.as_os_str().is_empty());
                there = above.unwrap_or(Path::new("."));
            }
            // It may be mended while the daemon runs, and pushes need no spool: each pull is 503 until then.
            Err(Errno::ROFS) => break Ok(()),
            written => break written,
        }
    };
    written.map_err(|source| Unwritable {
        directory: there.to_owned(),
        source: source.into(),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("nothing can be written in {}; let it be a directory of bondgate's user, on a disk that is writable", directory.display())]
struct Unwritable {
    directory: PathBuf,
    source: io::Error,
}

struct Found<'a> {
    settings: &'a [Setting],
    faults: Vec<Fault>,
}

impl<'a> Found<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            settings: &config.settings,
            faults: Vec::new(),
        }
    }

    /// What was found, in the order of the file.
    fn in_order(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| match &fault.origin {
            Origin::File { line, .. } => *line,
            _ => usize::MAX,
        });
        self.faults
    }

    fn judge_parts(&mut self, config: &Config) {
        for upstream in &config.upstreams {
            self.judge_upstream(upstream);
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            let key = |name: &str| format!("listener[{at}].{name}");
            if let Some(Err(error)) = listener.access.keys.as_ref().map(CallerKeys::load) {
                self.tell(&key("keys"), error);
            }
            self.judge_tls(&key("tls"), listener.access.tls.as_ref());
            let unix = UnixAccess {
                mode: listener.mode,
                group: listener.group.clone(),
            };
            if let Err(error) = unix.group_id() {
                self.tell(&key("group"), error);
            }
        }
        self.judge_tls("admin.tls", config.admin.tls.as_ref());
    }

    fn judge_upstream(&mut self, upstream: &Upstream) {
        let key = |name: &str| format!("upstream.{}.{name}", upstream.name);
        if let Err(error) = tls::client(upstream.ca_file.as_deref()) {
            self.tell(&key("ca_file"), error);
        }
        let routes = [&upstream.url, &upstream.token_url].map(|to| upstream.proxy.route(to));
        if let Some(error) = routes.into_iter().find_map(Result::err) {
            self.tell(&key("proxy"), error);
        }
        if let Err(error) = proxy::validate_rules(&upstream.rules) {
            self.tell(&key("rules"), error);
        }
    }

    fn judge_tls(&mut self, key: &str, tls: Option<&ServerTls>) {
        if let Some(Err(error)) = tls.map(tls::server) {
            self.tell(key, error);
        }
    }

    fn tell(&mut self, key: &str, error: impl Error + Send + Sync + 'static) {
        let is_of_key = |setting: &&Setting| {
            let rest = setting.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let setting = self.settings.iter().find(is_of_key);
        self.faults.push(Fault {
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            key: key.to_owned(),
            what: format!("{:#}", anyhow::Error::new(error)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_where_nothing_can_be_written_is_a_fault_and_one_that_can_be_made_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = |spool: &Path| {
            let text = format!(
                "[upstream.a]\npreset = \"none\"\nurl = \"https://a\"\ntoken_url = \"https://b\"\nrules = \"any\"\n\
                 client_id = \"id\"\nclient_secret = \"s\"\n[spool]\ndirectory = {spool:?}\n"
            );
            faults(&Config::parse(&text, "f", []).unwrap())
        };
        for spool in [file.path().to_owned(), file.path().join("below")] {
            let faults = found(&spool);
            let [fault] = &faults[..] else {
                panic!("{faults:?}")
            };
            let told = fault.to_string();
            let place = "f:9: spool.directory: nothing can be written in ";
            assert!(
                told.starts_with(place) && told.ends_with("(os error 20)"),
                "{told}"
            );
        }
        for spool in [directory.path().to_owned(), directory.path().join("a/b")] {
            assert_eq!(found(&spool), []);
        }
    }
}
