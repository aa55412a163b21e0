//! What would keep a daemon from starting as configured, all of it at once and but for what only binding
//! shows: for the start itself, and for `bondgate check`.

use std::error::Error;

use crate::config::{CallerKeys, Config, Fault, Origin, ServerTls, Setting, Upstream};
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
        for (key, source) in [
            ("client_id", &upstream.client_id),
            ("client_secret", &upstream.client_secret),
        ] {
            if let Err(error) = source.load() {
                found.tell(&format!("upstream.{}.{key}", upstream.name), error);
            }
        }
    }
    found.in_order()
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
        if let Err(error) = proxy::judge_rules(&upstream.rules) {
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
