//! `NO_PROXY`: the hosts that are reached without the outbound proxy of the environment.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::Endpoint;

/// What one entry exempts.
#[derive(Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpNet),
    /// A name and every name below it.
    Domain(String),
}

/// Whether an endpoint is exempt by a list of entries: `*`, names, addresses and networks, each with an optional port,
/// separated by commas or blanks.
pub(super) fn is_exempt(list: &str, to: &Endpoint) -> bool {
    let host = to.host().trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    entries(list).filter_map(parse).any(|(hosts, port)| {
        let is_host = match hosts {
            Hosts::All => true,
            Hosts::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Hosts::Domain(name) => {
                let below = host.strip_suffix(name.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
        };
        is_host && port.is_none_or(|port| port == to.port())
    })
}

/// The entries that mean nothing here.
pub(super) fn ignored(list: &str) -> impl Iterator<Item = &str> {
    entries(list).filter(|entry| parse(entry).is_none())
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    let parts = list.split(|separator: char| separator == ',' || separator.is_whitespace());
    parts.filter(|entry| !entry.is_empty())
}

fn parse(entry: &str) -> Option<(Hosts, Option<u16>)> {
    // An address in IPv6 has colons, and no port unless it is in brackets.
    if let Some(network) = network(entry) {
        return Some((Hosts::Network(network), None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (entry, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let hosts = match network(bare) {
        Some(network) => Hosts::Network(network),
        None if host == "*" => Hosts::All,
        None => Hosts::Domain(domain(host)?),
    };
    Some((hosts, port))
}

fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The name of `name`, `.name` and `*.name`.
fn domain(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text).trim_matches('.');
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (!is_number && name.bytes().all(is_name)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_exempts_a_name_a_network_or_all_with_an_optional_port() {
        let exempt = |list: &str, url: &str| is_exempt(list, &url.parse().unwrap());
        for list in [
            "*",
            "*:8443",
            "api.corp.example",
            "corp.example",
            ".corp.example",
            "*.corp.example",
            "API.Corp.Example.",
            "other, api.corp.example:8443",
            "other api.corp.example",
            "*.corp.example:8443",
        ] {
            assert!(exempt(list, "https://api.corp.example:8443"), "{list}");
        }
        for list in [
            "",
            "api.corp.example:443",
            "pi.corp.example",
            "example.com",
            "10.0.0.0/8",
            "*:443",
        ] {
            assert!(!exempt(list, "https://api.corp.example:8443"), "{list}");
        }
        for list in [
            "10.1.2.3",
            "10.0.0.0/8",
            "10.1.2.3:443",
            "10.0.0.0/8:443",
            "[10.1.2.3]",
        ] {
            assert!(exempt(list, "https://10.1.2.3"), "{list}");
        }
        for list in ["::1", "[::1]", "[::1]:443", "::/0"] {
            assert!(exempt(list, "https://[::1]"), "{list}");
        }
        assert!(!exempt("[::1]:8443", "https://[::1]") && !exempt("10.1.2.3:80", "https://10.1.2.3"));
        assert!(exempt("localhost", "https://localhost.:8443"));
    }

    #[test]
    fn an_entry_that_means_nothing_here_is_named() {
        let ignored: Vec<_> =
            ignored("10.0.*, a.corp,http://b.corp <local>,c*.corp, d.corp:port 192.168.").collect();
        assert_eq!(
            ignored,
            [
                "10.0.*",
                "http://b.corp",
                "<local>",
                "c*.corp",
                "d.corp:port",
                "192.168."
            ]
        );
    }
}
