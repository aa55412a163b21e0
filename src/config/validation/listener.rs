//! Rules for one listener.

use crate::config::address::ListenAddress;
use crate::config::listener::{Admin, Listener};
use crate::config::names::is_plain_path;
use crate::config::secret::SecretSource;
use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;
use crate::platform::files::host_name;
use crate::problems::{Problem, configuration};

pub(super) fn validate(at: usize, listener: &Listener, upstreams: &[Upstream], report: &mut Report) {
    let (table, address) = (KeyPath::listener(at), &listener.address);
    let names: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    if !names.contains(&listener.upstream.as_str()) {
        let form = format!("it is one of {}", names.join(", "));
        let problem = match listener.upstream.as_str() {
            "" => configuration::key_missing(form),
            unknown => configuration::value_wrong(format!("{unknown:?} is not an upstream"), form),
        };
        report.fault(&table.key("upstream"), problem);
    }
    if !is_plain_path(listener.health.as_deref().unwrap_or("/")) {
        let problem = configuration::value_wrong("is not a plain path", "write it like \"/healthz\"");
        report.fault(&table.key("health"), problem);
    }
    if matches!(listener.keys, Some(SecretSource::Inline(_))) {
        let form = "write keys = { file = \"/path\" }, with name:key lines";
        let problem = configuration::value_wrong("is in the configuration itself", form);
        report.fault(&table.key("keys"), problem);
    }
    if !address.is_local() && listener.hosts.is_empty() {
        report.warn(&table.key("hosts"), without_hosts(address));
    }
    let checks = "allow = [\"10.0.0.0/8\"], keys = { file = \"/path\" }";
    let checks = (listener.is_gated(), checks);
    validate_checks(&table, address, checks, &listener.tcp_keys(), report);
    let is_tcp = matches!(address, ListenAddress::Localhost(_) | ListenAddress::Socket(_));
    if is_tcp && !listener.users.is_empty() {
        let conflict = "is for unix sockets: over TCP the caller's user is unknown";
        let problem = configuration::keys_conflict(conflict, "use keys or allow");
        report.fault(&table.key("users"), problem);
    }
}

pub(super) fn validate_admin(admin: &Admin, report: &mut Report) {
    if !admin.address.is_local() && admin.hosts.is_empty() {
        report.warn(&"admin.hosts".into(), without_hosts(&admin.address));
    }
    let tcp_keys = [("allow", admin.allow.is_some()), ("tls", admin.tls.is_some())];
    let checks = (admin.is_gated(), "allow = [\"10.0.0.0/8\"]");
    validate_checks(&"admin".into(), &admin.address, checks, &tcp_keys, report);
}

/// The warning for a listener for other machines that accepts no name.
pub(crate) fn without_hosts(address: &ListenAddress) -> Problem {
    let name = host_name().unwrap_or_else(|| "bondgate.example".to_owned());
    configuration::without_hosts(address, name)
}

/// Off loopback, a listener must check its callers. A check without effect is refused: an operator may rely on it.
fn validate_checks(
    table: &KeyPath,
    address: &ListenAddress,
    (is_gated, checks): (bool, &str),
    tcp_keys: &[(&str, bool)],
    report: &mut Report,
) {
    if !address.is_local() && !is_gated {
        let problem = configuration::listener_unprotected(address, checks);
        report.fault(&table.key("address"), problem);
    }
    let is_unix = matches!(address, ListenAddress::Unix(_));
    for (key, _) in tcp_keys.iter().filter(|(_, is_set)| is_unix && *is_set) {
        let conflict = "is for TCP: a unix socket checks callers by mode, group and users";
        report.fault(
            &table.key(key),
            configuration::keys_conflict(conflict, "leave it out"),
        );
    }
}
