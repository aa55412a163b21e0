//! What has to hold of upstreams and listeners together, once each has been read for itself.

use super::listener::{Admin, Listener};
use super::section::Section;
use super::upstream::Upstream;
use super::{Config, Rules, Spool};

/// Tells the faults and warnings that no part of the configuration has alone. A part with faults of its
/// own is missing here.
pub(super) fn judge(
    section: &Section<'_>,
    upstreams: Option<&[Upstream]>,
    listeners: Option<&[Listener]>,
    rest: &Config,
) {
    if let Some(listeners) = listeners {
        judge_addresses(section, listeners, &rest.admin);
    }
    if let (Some(upstreams), Some(listeners)) = (upstreams, listeners) {
        judge_loops(section, upstreams, listeners, &rest.admin);
        warn_of_browsers(section, upstreams, listeners);
    }
    if let Some(upstreams) = upstreams {
        warn_of_pulls(section, upstreams, &rest.spool);
    }
}

/// Over plain HTTP to an address or name in a network a browser says neither where a GET comes from nor
/// that it is a browser: there a page can pull with the machine of an allowed caller.
fn warn_of_browsers(section: &Section<'_>, upstreams: &[Upstream], listeners: &[Listener]) {
    for (at, listener) in listeners.iter().enumerate() {
        let access = &listener.access;
        let is_open = access.tls.is_none() && access.keys.is_none() && access.require_header.is_none();
        let may_pull = upstreams
            .iter()
            .filter(|upstream| upstream.name == listener.upstream)
            .any(|upstream| matches!(upstream.rules, Rules::Any(_)) || upstream.rules.consume());
        if is_open && may_pull && !listener.address.is_local() {
            section.warn(
                &format!("listener[{at}]"),
                "is plain HTTP for other machines with allow as its only gate: a web page in a browser on one of them \
                 can pull a message with a GET that nothing tells from a program's; set require_header = \"X-Bondgate\", \
                 keys, or tls",
            );
        }
    }
}

/// What is only in memory ends with the process.
fn warn_of_pulls(section: &Section<'_>, upstreams: &[Upstream], spool: &Spool) {
    let consumes = |upstream: &&Upstream| upstream.rules.consume();
    if spool.directory.is_none()
        && let Some(upstream) = upstreams.iter().find(consumes)
    {
        section.warn(
            "spool.directory",
            &format!(
                "is not set: messages pulled from {} that no caller took yet are held in memory, and are lost when \
                 bondgate ends; set it to a directory that stays",
                upstream.name
            ),
        );
    }
}

fn judge_addresses(section: &Section<'_>, listeners: &[Listener], admin: &Admin) {
    let mut seen = vec![&admin.address];
    for listener in listeners {
        if seen.contains(&&listener.address) && !listener.address.is_any_port() {
            section.fault(
                "listener",
                format!(
                    "{} is listened on twice; give each listener (and [admin]) its own",
                    listener.address
                ),
            );
        }
        seen.push(&listener.address);
    }
}

/// What goes out must not come in again.
fn judge_loops(section: &Section<'_>, upstreams: &[Upstream], listeners: &[Listener], admin: &Admin) {
    for upstream in upstreams {
        for (key, endpoint) in [("url", &upstream.url), ("token_url", &upstream.token_url)] {
            let mut own = listeners.iter().map(|listener| &listener.address);
            let found = own.find(|address| address.is_reached_by(endpoint));
            let found =
                found.or_else(|| Some(&admin.address).filter(|address| address.is_reached_by(endpoint)));
            if let Some(address) = found {
                section.fault(
                    "upstream",
                    format!(
                        "{}.{key} leads back to bondgate itself, which listens on {address}; write the API's own address",
                        upstream.name
                    ),
                );
            }
        }
    }
}
