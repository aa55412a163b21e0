//! Addresses in a configuration: where to listen, which URL to call, which networks to allow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use ipnet::{IpNet, Ipv4Net};
use rustls::pki_types::ServerName;
use serde::Deserialize;

/// Where a listener listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// `localhost:PORT`: 127.0.0.1, and ::1 if the machine has it.
    Localhost(u16),
    /// `HOST:PORT` with an address of this machine; port 0 for any free one.
    Socket(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
    /// `systemd:NAME`: an inherited socket, by its `FileDescriptorName=`.
    Systemd(String),
}

impl ListenAddress {
    /// Whether only processes of this machine can reach it. `true` for an inherited socket, whose address is
    /// known only after binding.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback = |socket: &SocketAddr| socket.ip().to_canonical().is_loopback();
        self.sockets().iter().all(is_loopback)
    }

    /// Whether the system chooses the port.
    pub(crate) fn is_any_port(&self) -> bool {
        self.sockets().iter().any(|socket| socket.port() == 0)
    }

    /// Whether a call to an endpoint would arrive here. Resolves no name except `localhost`.
    pub(crate) fn is_reached_by(&self, endpoint: &Endpoint) -> bool {
        let host = endpoint.host().parse::<IpAddr>().map(|host| host.to_canonical());
        self.sockets().iter().any(|socket| {
            let ip = socket.ip().to_canonical();
            let is_here = ip.is_loopback() || ip.is_unspecified();
            let is_host = match host {
                // A call to an unspecified address reaches this machine.
                Ok(host) if host.is_unspecified() => is_here,
                Ok(host) => host == ip || (ip.is_unspecified() && host.is_loopback()),
                Err(_) => endpoint.is_loopback() && is_here,
            };
            is_host && socket.port() == endpoint.port()
        })
    }

    /// Whether two listeners cannot have these addresses: `localhost` and an unspecified address cover others.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        // `[::]` accepts IPv4 callers too.
        let covers = |one: IpAddr, other: IpAddr| {
            one == other || (one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
        };
        let collides = |one: &SocketAddr, other: &SocketAddr| {
            one.port() == other.port()
                && one.port() != 0
                && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
        };
        let others = other.sockets();
        let is_taken = |one: &SocketAddr| others.iter().any(|other| collides(one, other));
        (self == other && !self.is_any_port()) || self.sockets().iter().any(is_taken)
    }

    /// The socket addresses, if it has any.
    fn sockets(&self) -> Vec<SocketAddr> {
        match self {
            Self::Localhost(port) => vec![
                (Ipv4Addr::LOCALHOST, *port).into(),
                (Ipv6Addr::LOCALHOST, *port).into(),
            ],
            Self::Socket(socket) => vec![*socket],
            Self::Unix(_) | Self::Systemd(_) => Vec::new(),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = match text.split_once(':') {
            Some(("unix", path)) => Some(Self::Unix(path.into())).filter(|_| path.starts_with('/')),
            Some(("systemd", name)) => Some(Self::Systemd(name.to_owned())).filter(|_| !name.is_empty()),
            Some(("localhost", port)) => port.parse().ok().map(Self::Localhost),
            _ => text.parse().ok().map(Self::Socket),
        };
        address.ok_or_else(|| {
            format!(
                "{text:?} is not an address to listen on; write it like \"localhost:8080\", \"10.0.0.5:8080\", \
                 \"[::1]:8080\", \"unix:/path\" or \"systemd:NAME\""
            )
        })
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// The origin of an upstream with an optional base path, or a token endpoint: an absolute `http` or `https` URL
/// without user information and fragment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Endpoint {
    uri: Uri,
}

impl Endpoint {
    /// Whether it is `https`.
    pub(crate) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The whole URL.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Host and port as written.
    pub(crate) fn authority(&self) -> &Authority {
        let authority = self.uri.authority();
        authority.expect("an endpoint is parsed with an authority")
    }

    /// The value of `Host`: the authority without the final dot of an absolute name, which is for resolvers only.
    pub(crate) fn host_field(&self) -> String {
        let (host, authority) = (self.authority().host(), self.authority().as_str());
        match host.strip_suffix('.') {
            Some(name) => format!("{name}{}", &authority[host.len()..]),
            None => authority.to_owned(),
        }
    }

    /// The host name or address, IPv6 without its brackets.
    pub(crate) fn host(&self) -> &str {
        self.authority().host().trim_matches(['[', ']'])
    }

    /// The port, or the default of the scheme.
    pub(crate) fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }

    /// The path, at least `/`.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, if there is one.
    pub(crate) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Whether the host is this machine, by name or address.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        host.trim_end_matches('.').eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_endpoint = |uri: &Uri| {
            let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
            // TLS needs a name or a whole address: others read 127.1 as one.
            let is_host = |host: &str| ServerName::try_from(host.trim_matches(['[', ']'])).is_ok();
            let names_host = |authority: &Authority| names_host(authority) && is_host(authority.host());
            is_http && uri.authority().is_some_and(names_host) && !text.contains('#')
        };
        match text.parse() {
            Ok(uri) if is_endpoint(&uri) => Ok(Self { uri }),
            // The text may hold a password: it is not quoted.
            _ if text.contains('@') => {
                Err("is not a URL without user information (user@host); leave that out".to_owned())
            }
            _ => Err(format!(
                "{text:?} is not a URL; write it like \"https://host.example/path\", without #fragment"
            )),
        }
    }
}

/// Whether an authority is a host with an optional port, without user information.
pub(super) fn names_host(authority: &Authority) -> bool {
    let host = authority.host();
    let has_port = authority.as_str().len() > host.len();
    !host.is_empty() && (!has_port || authority.port_u16().is_some()) && !authority.as_str().contains('@')
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// A network of callers: `10.20.0.0/16`, or one address.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address belongs to it; an IPv4-mapped address counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        {
            Ok(network) => Ok(Self(unmapped(network.trunc()))),
            Err(_) => Err(format!(
                "{text:?} is not a network; write it like \"10.20.0.0/16\", \"2001:db8::/32\" or \"10.0.0.5\""
            )),
        }
    }
}

/// An IPv4-mapped network as IPv4, as callers' addresses are compared.
fn unmapped(network: IpNet) -> IpNet {
    let mapped = network.network().to_canonical();
    match (mapped, network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if network.network().is_ipv6() => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_a_host_with_port_or_a_path_or_a_name() {
        let read = |text: &str| text.parse::<ListenAddress>().ok();
        assert_eq!(read("localhost:8080"), Some(ListenAddress::Localhost(8080)));
        assert_eq!(
            read("[::1]:80"),
            Some(ListenAddress::Socket("[::1]:80".parse().unwrap()))
        );
        assert_eq!(
            read("unix:/run/x.sock"),
            Some(ListenAddress::Unix("/run/x.sock".into()))
        );
        assert_eq!(read("systemd:http"), Some(ListenAddress::Systemd("http".into())));
        for wrong in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "host:99999",
            "unix:x",
            "systemd:",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_loopback_and_unix_addresses_are_local() {
        let local = |text: &str| text.parse::<ListenAddress>().unwrap().is_local();
        assert!(local("localhost:1") && local("127.0.0.9:1") && local("[::1]:1") && local("unix:/x"));
        assert!(local("[::ffff:127.0.0.1]:1"));
        assert!(!local("0.0.0.0:1") && !local("[::]:1") && !local("10.0.0.1:1"));
    }

    #[test]
    fn an_endpoint_is_a_plain_absolute_url() {
        let url: Endpoint = "https://sb.xylem.cisco.com/base".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path()),
            ("sb.xylem.cisco.com", 443, "/base")
        );
        for (url, host) in [
            ("https://sb.xylem.cisco.com/base", "sb.xylem.cisco.com"),
            ("https://sb.xylem.cisco.com./base", "sb.xylem.cisco.com"),
            ("https://sb.xylem.cisco.com.:8443", "sb.xylem.cisco.com:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(url.parse::<Endpoint>().unwrap().host_field(), host);
        }
        for wrong in [
            "",
            "/path",
            "sb.xylem.cisco.com",
            "ftp://host",
            "https://",
            "https://user:pw@host",
            "https://host/#x",
            "https://host:",
            "https://host:port",
            "https://host:99999",
            "https://ho st",
            "https://127.1",
            "https://0x7f.1:8443",
            "https://2130706433",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_does_not_quote_the_password_of_a_url() {
        let error = "https://user:hunter2@host".parse::<Endpoint>().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_mapped_address_is_treated_as_ipv4() {
        let network = |text: &str| Network::try_from(text.to_owned());
        let contains = |text: &str, address: &str| network(text).unwrap().contains(address.parse().unwrap());
        assert!(contains("10.20.3.4/16", "10.20.200.1"));
        assert!(contains("10.20.3.4/16", "::ffff:10.20.0.1"));
        assert!(!contains("10.20.3.4/16", "10.21.0.1"));
        assert!(contains("10.0.0.5", "10.0.0.5"));
        assert!(network("10.0.0").is_err());
        for mapped in ["::ffff:10.20.0.0/112", "::ffff:10.20.0.1"] {
            assert!(contains(mapped, "10.20.0.1"), "{mapped}");
            assert!(!contains(mapped, "10.21.0.1"), "{mapped}");
        }
        assert!(!contains("::/0", "10.0.0.1"));
    }
}
