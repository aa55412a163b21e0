//! What has to hold of upstreams and listeners together, once each has been read for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::ListenAddress;
use super::listener::{Admin, Listener};
use super::outbound::OutboundProxy;
use super::section::{Report, Section};
use super::upstream::Upstream;
use super::{Config, Spool};

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
        judge_health(section, upstreams, listeners);
        warn_of_browsers(section, upstreams, listeners);
    }
    if let Some(upstreams) = upstreams {
        warn_of_pulls(section, upstreams, &rest.spool);
    }
}

fn warn_of_browsers(section: &Section<'_>, upstreams: &[Upstream], listeners: &[Listener]) {
    for (at, listener) in listeners.iter().enumerate() {
        let mut own = upstreams
            .iter()
            .filter(|upstream| upstream.name == listener.upstream);
        if !listener.address.is_local() && own.any(|upstream| listener.lets_pages_pull(upstream)) {
            section.warn(&format!("listener[{at}].allow"), PAGES_MAY_PULL);
        }
    }
}

/// What is warned about where [`Listener::lets_pages_pull`] and other machines can reach it.
pub const PAGES_MAY_PULL: &str = "is the only gate of plain HTTP for other machines: a web page in a browser on one of \
                                  them can pull a message with a GET that nothing tells from a program's; set \
                                  require_header = \"X-Bondgate\", keys, or tls";

/// The bearer goes no way that nobody chose; but somebody may believe that it does.
pub(super) fn warn_of_proxy(upstreams: &[Upstream], variable: &str, report: &Report) {
    for upstream in upstreams
        .iter()
        .filter(|upstream| matches!(upstream.proxy, OutboundProxy::Direct))
    {
        report.warnings.borrow_mut().push(format!(
            "upstream.{}.proxy: is not set, and {variable} of the environment is not heeded unasked; to go that way, \
             set proxy = \"environment\"",
            upstream.name
        ));
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
                 bondgate ends; set it (or BONDGATE_SPOOL_DIRECTORY) to a directory that stays",
                upstream.name
            ),
        );
    }
}

/// A path that is answered here never reaches the API.
fn judge_health(section: &Section<'_>, upstreams: &[Upstream], listeners: &[Listener]) {
    for (at, listener) in listeners.iter().enumerate() {
        let rules = upstreams
            .iter()
            .filter(|upstream| upstream.name == listener.upstream)
            .map(|upstream| upstream.rules.named());
        if let Some(health) = &listener.health
            && rules.flatten().any(|rule| rule.path.matches(health))
        {
            section.fault(
                &format!("listener[{at}].health"),
                format!(
                    "{health:?} is a path of the API, by a rule of upstream {}; choose another",
                    listener.upstream
                ),
            );
        }
    }
}

fn judge_addresses(section: &Section<'_>, listeners: &[Listener], admin: &Admin) {
    let mut seen = vec![&admin.address];
    for (at, listener) in listeners.iter().enumerate() {
        if let Some(other) = seen.iter().find(|other| collide(other, &listener.address)) {
            let address = &listener.address;
            let what = if address == *other {
                format!("{address} is listened on twice")
            } else {
                format!("{address} and {other} have an address and port in common")
            };
            section.fault(
                &format!("listener[{at}].address"),
                format!("{what}; give each listener (and [admin]) its own"),
            );
        }
        seen.push(&listener.address);
    }
}

/// Whether two addresses cannot both be listened on: `localhost` and an unspecified address take others in.
fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    let sockets = |address: &ListenAddress| match address {
        ListenAddress::Localhost(port) => vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, *port)),
        ],
        ListenAddress::Socket(socket) => vec![*socket],
        ListenAddress::Unix(_) | ListenAddress::Systemd(_) => Vec::new(),
    };
    // `[::]` takes IPv4 callers too.
    let takes_in = |one: IpAddr, other: IpAddr| {
        one == other || (one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    let share = |one: &SocketAddr, other: &SocketAddr| {
        let (ip, of) = (one.ip(), other.ip());
        one.port() == other.port() && one.port() != 0 && (takes_in(ip, of) || takes_in(of, ip))
    };
    let others = sockets(other);
    let meet = |one: &SocketAddr| others.iter().any(|other| share(one, other));
    (one == other && !one.is_any_port()) || sockets(one).iter().any(meet)
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
                    &format!("upstream.{}.{key}", upstream.name),
                    format!(
                        "leads back to bondgate itself, which listens on {address}; write the API's own address"
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigError;
    use super::*;

    const LEAST: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "bondgate.toml", [])
    }

    #[test]
    fn a_plain_listener_for_other_machines_with_nothing_but_networks_is_warned_about() {
        let warned = |listener: &str| {
            let text = format!("{LEAST}[[listener]]\nallow = [\"10.0.0.0/8\"]\n{listener}\n");
            let warnings = read(&text).unwrap().warnings;
            warnings.iter().any(|warning| warning.contains("require_header"))
        };
        assert!(warned("address = \"10.0.0.1:8080\""));
        for listener in [
            "address = \"localhost:8080\"",
            "address = \"10.0.0.1:8080\"\nrequire_header = \"X-Bondgate\"",
            "address = \"10.0.0.1:8080\"\nkeys = { file = \"/k\" }",
        ] {
            assert!(!warned(listener), "{listener}");
        }
    }

    #[test]
    fn two_listeners_that_meet_are_told_before_they_are_bound() {
        let faults = |one: &str, other: &str| {
            let listener = |address: &str| {
                format!(
                    "[[listener]]\naddress = \"{address}\"\nrequire_header = \"X-B\"\nallow = [\"10.0.0.0/8\"]\n"
                )
            };
            let text = format!("{LEAST}{}{}", listener(one), listener(other));
            read(&text).map_or_else(|error| error.to_string(), |_| String::new())
        };
        for (one, other) in [
            ("localhost:8080", "localhost:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "localhost:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("10.0.0.1:8080", "[::]:8080"),
            ("localhost:9180", "127.0.0.1:8080"),
        ] {
            let told = faults(one, other);
            assert!(
                told.contains("give each listener (and [admin]) its own"),
                "{one} {other}: {told}"
            );
        }
        for (one, other) in [
            ("localhost:8080", "localhost:8081"),
            ("127.0.0.1:8080", "[::1]:8080"),
            ("0.0.0.0:8080", "[::1]:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(faults(one, other), "", "{one} {other}");
        }
    }

    #[test]
    fn an_upstream_that_is_a_listener_of_ours_is_a_loop() {
        let with = |url: &str, listen: &str| {
            read(&format!(
                "{LEAST}url = \"{url}\"\n[[listener]]\naddress = \"{listen}\"\nallow = [\"10.0.0.0/8\"]\n"
            ))
        };
        for (url, listen) in [
            ("https://localhost:8443", "localhost:8443"),
            ("https://127.0.0.1:8443/base", "localhost:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("https://localhost", "127.0.0.1:443"),
            ("https://127.0.0.1:8443", "0.0.0.0:8443"),
            ("https://10.0.0.1:8443", "10.0.0.1:8443"),
            ("https://[::ffff:10.0.0.1]:8443", "10.0.0.1:8443"),
            ("https://127.0.0.1:9180", "localhost:8443"),
            ("https://LOCALHOST.:8443", "localhost:8443"),
            ("https://0.0.0.0:8443", "localhost:8443"),
            ("https://[::]:8443", "0.0.0.0:8443"),
        ] {
            let told = with(url, listen).unwrap_err().to_string();
            assert!(
                told.contains("cisco.url: leads back to bondgate itself"),
                "{told}"
            );
            assert!(told.starts_with("bondgate.toml:5: "), "{told}");
        }
        for (url, listen) in [
            ("https://localhost:8444", "localhost:8443"),
            ("https://127.0.0.2:8443", "localhost:8443"),
            ("https://10.0.0.2:8443", "10.0.0.1:8443"),
            ("https://stage.sbnprd.xylem.cisco.com:8443", "localhost:8443"),
        ] {
            assert!(with(url, listen).is_ok(), "{url} {listen}");
        }
    }

    #[test]
    fn a_proxy_in_the_environment_that_is_not_heeded_is_warned_about_by_its_name_alone() {
        let warned = |proxy: &str, name: &str, value: &str| {
            let text = format!("{LEAST}{proxy}\n");
            let config = Config::parse(&text, "f", [(name.to_owned(), value.to_owned())]).unwrap();
            config.warnings.iter().any(|warning| {
                assert!(!warning.contains("hunter2"), "{warning}");
                warning.contains(name) && warning.contains("proxy = \"environment\"")
            })
        };
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            assert!(warned("", name, "http://user:hunter2@proxy.corp:3128"), "{name}");
            assert!(!warned("proxy = \"environment\"", name, "http://proxy.corp:3128"));
            assert!(!warned(
                "proxy = \"http://proxy.corp:3128\"",
                name,
                "http://proxy.corp:3128"
            ));
            assert!(!warned("", name, ""));
        }
    }

    #[test]
    fn a_health_path_is_none_of_the_apis() {
        let read = |rules: &str, health: &str| {
            read(&format!("{LEAST}{rules}\n[[listener]]\nhealth = \"{health}\"\n"))
        };
        assert!(read("", "/healthz").is_ok());
        assert!(read("rules = \"any\"", "/healthz").is_ok());
        let told = read("", "/sb-partner-oauth-proxy-api/rest/v1/pull/call").unwrap_err();
        assert!(
            told.to_string()
                .starts_with("bondgate.toml:7: listener[0].health"),
            "{told}"
        );
        let below = "rules = [{ methods = [\"GET\"], path = \"/api/*\" }]";
        assert!(read(below, "/api/healthz").is_err());
        assert!(read(below, "/healthz").is_ok());
        assert!(read(below, "/a/../healthz").is_err());
    }
}
