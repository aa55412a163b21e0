//! Addresses as an operator writes them: where to listen, and which URL to go to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use super::section::Written;

/// Where a listener listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// `localhost:PORT`: 127.0.0.1, and ::1 where the machine has it.
    Localhost(u16),
    /// `HOST:PORT` with an address of this machine; port 0 takes any free one.
    Socket(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
    /// `systemd:NAME`: a socket that systemd hands over, by its `FileDescriptorName=`.
    Systemd(String),
}

impl ListenAddress {
    /// Whether only this machine's own processes can reach it.
    ///
    /// An inherited socket is judged when it is there, by the address that it is bound to.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Localhost(_) | Self::Unix(_) | Self::Systemd(_) => true,
            Self::Socket(address) => address.ip().to_canonical().is_loopback(),
        }
    }

    /// Whether the system picks the port.
    #[must_use]
    pub fn is_any_port(&self) -> bool {
        match self {
            Self::Localhost(port) => *port == 0,
            Self::Socket(address) => address.port() == 0,
            Self::Unix(_) | Self::Systemd(_) => false,
        }
    }

    /// Whether a call to an endpoint would come in here. Names other than `localhost` are not resolved.
    #[must_use]
    pub fn is_reached_by(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Localhost(port) => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .iter()
                .any(|ip| Self::Socket(SocketAddr::new(*ip, *port)).is_reached_by(endpoint)),
            Self::Socket(address) => {
                let ip = address.ip().to_canonical();
                let is_here = ip.is_loopback() || ip.is_unspecified();
                let is_host = match endpoint.host().parse::<IpAddr>() {
                    // A call to an unspecified address goes to this machine.
                    Ok(host) if host.to_canonical().is_unspecified() => is_here,
                    Ok(host) => {
                        let host = host.to_canonical();
                        host == ip || (ip.is_unspecified() && host.is_loopback())
                    }
                    Err(_) => endpoint.is_loopback() && is_here,
                };
                address.port() == endpoint.port() && is_host
            }
            Self::Unix(_) | Self::Systemd(_) => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!(
                    "{text:?} needs a full path; write it like \"unix:/run/bondgate/http.sock\""
                ))
            };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return if name.is_empty() {
                Err(format!(
                    "{text:?} names no socket; write it like \"systemd:http\""
                ))
            } else {
                Ok(Self::Systemd(name.to_owned()))
            };
        }
        if let Some(port) = text.strip_prefix("localhost:")
            && let Ok(port) = port.parse()
        {
            return Ok(Self::Localhost(port));
        }
        text.parse().map(Self::Socket).map_err(|_| {
            format!(
                "{text:?} is not an address to listen on; write it like \"localhost:8080\", \
                 \"10.0.0.5:8080\", \"[::1]:8080\", \"unix:/path\" or \"systemd:NAME\""
            )
        })
    }
}

impl Written for ListenAddress {
    const FORM: &'static str = "an address in quotes, like \"localhost:8080\"";
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

/// An upstream's origin with an optional base path, or a token endpoint: absolute, `https` unless
/// plain HTTP was asked for, no user information, no fragment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Endpoint {
    uri: Uri,
}

impl Endpoint {
    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&http::uri::Scheme::HTTPS)
    }

    /// The whole of it.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Host and port as they were written.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        self.uri
            .authority()
            .expect("an endpoint is parsed with an authority")
    }

    /// What goes into `Host`: the authority, without the dot that ends a name for the resolver alone.
    #[must_use]
    pub fn host_field(&self) -> String {
        let (host, authority) = (self.authority().host(), self.authority().as_str());
        match host.strip_suffix('.') {
            Some(name) => format!("{name}{}", &authority[host.len()..]),
            None => authority.to_owned(),
        }
    }

    /// The host name or address, IPv6 without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority()
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// The port, given or the scheme's own.
    #[must_use]
    pub fn port(&self) -> u16 {
        let own = if self.is_https() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(own)
    }

    /// The path, `/` at the least.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, where there is one.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Whether the host is this machine, by name or address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        if text.contains('#') {
            return wrong("has a fragment (#…); leave it out");
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return wrong("is not a URL; write it like \"https://host.example/path\"");
        };
        match uri.scheme_str() {
            Some("https" | "http") => {}
            _ => return wrong("needs a scheme; write it like \"https://host.example\""),
        }
        let Some(authority) = uri.authority() else {
            return wrong("names no host; write it like \"https://host.example\"");
        };
        if authority.as_str().contains('@') {
            // The text may hold a password: it is not repeated.
            return Err("a URL with user information (user@host) is not taken; leave it out".to_owned());
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
            return wrong("names no host or port; write it like \"https://host.example:443\"");
        }
        Ok(Self { uri })
    }
}

impl Written for Endpoint {
    const FORM: &'static str = "a URL in quotes, like \"https://host.example\"";
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
    /// Whether an address is in it; an IPv4-mapped one is judged as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => Ok(Self(unmapped(network.trunc()))),
            Err(_) => Err(format!(
                "{text:?} is no network; write it like \"10.20.0.0/16\", \"2001:db8::/32\" or \"10.0.0.5\""
            )),
        }
    }
}

/// IPv4 written as IPv6 is IPv4: callers' addresses are judged so.
fn unmapped(network: IpNet) -> IpNet {
    let mapped = network.network().to_canonical();
    match (mapped, network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if network.network().is_ipv6() => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

impl Written for Network {
    const FORM: &'static str = "a network in quotes, like \"10.20.0.0/16\"";
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_a_host_with_a_port_a_path_or_a_name() {
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
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let told = "https://user:hunter2@host".parse::<Endpoint>().unwrap_err();
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_mapped_address_is_judged_as_ipv4() {
        let network: Network = "10.20.3.4/16".parse().unwrap();
        assert!(network.contains("10.20.200.1".parse().unwrap()));
        assert!(network.contains("::ffff:10.20.0.1".parse().unwrap()));
        assert!(!network.contains("10.21.0.1".parse().unwrap()));
        assert!(
            "10.0.0.5"
                .parse::<Network>()
                .unwrap()
                .contains("10.0.0.5".parse().unwrap())
        );
        assert!("10.0.0".parse::<Network>().is_err());
        for mapped in ["::ffff:10.20.0.0/112", "::ffff:10.20.0.1"] {
            let network: Network = mapped.parse().unwrap();
            assert!(network.contains("10.20.0.1".parse().unwrap()), "{mapped}");
            assert!(!network.contains("10.21.0.1".parse().unwrap()), "{mapped}");
        }
        assert!(
            !"::/0"
                .parse::<Network>()
                .unwrap()
                .contains("10.0.0.1".parse().unwrap())
        );
    }
}
