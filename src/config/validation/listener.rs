//! Rules for one listener.

use crate::config::address::ListenAddress;
use crate::config::listener::{Admin, Listener};
use crate::config::names::is_plain_path;
use crate::config::secret::SecretSource;
use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;

pub(super) fn validate(at: usize, listener: &Listener, upstreams: &[Upstream], report: &mut Report) {
    let (table, address) = (KeyPath::listener(at), &listener.address);
    let names: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    if !names.contains(&listener.upstream.as_str()) {
        let what = match listener.upstream.as_str() {
            "" => "is missing".to_owned(),
            unknown => format!("{unknown:?} is not an upstream"),
        };
        let what = format!("{what}; it is one of {}", names.join(", "));
        report.fault(&table.key("upstream"), what);
    }
    if !is_plain_path(listener.health.as_deref().unwrap_or("/")) {
        let what = "is not a plain path; write it like \"/healthz\"";
        report.fault(&table.key("health"), what);
    }
    if matches!(listener.keys, Some(SecretSource::Inline(_))) {
        let what = "is in the configuration itself; write keys = { file = \"/path\" }, with name:key lines";
        report.fault(&table.key("keys"), what);
    }
    let checks = "allow = [\"10.0.0.0/8\"], keys = { file = \"/path\" }";
    let checks = (listener.is_gated(), checks);
    validate_checks(&table, address, checks, &listener.tcp_keys(), report);
    let is_tcp = matches!(address, ListenAddress::Localhost(_) | ListenAddress::Socket(_));
    if is_tcp && !listener.users.is_empty() {
        let what = "is for unix sockets: over TCP the caller's user is unknown; use keys or allow";
        report.fault(&table.key("users"), what);
    }
}

pub(super) fn validate_admin(admin: &Admin, report: &mut Report) {
    let tcp_keys = [("allow", admin.allow.is_some()), ("tls", admin.tls.is_some())];
    let checks = (admin.is_gated(), "allow = [\"10.0.0.0/8\"]");
    validate_checks(&"admin".into(), &admin.address, checks, &tcp_keys, report);
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
        let what = format!(
            "{address} can be reached from other machines, and no key restricts the callers; set {checks} or \
             tls.client_ca_file, or listen on localhost"
        );
        report.fault(&table.key("address"), what);
    }
    let is_unix = matches!(address, ListenAddress::Unix(_));
    for (key, _) in tcp_keys.iter().filter(|(_, is_set)| is_unix && *is_set) {
        let what = "is for TCP: a unix socket checks callers by mode, group and users; leave it out";
        report.fault(&table.key(key), what);
    }
}
