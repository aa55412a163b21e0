//! A listener: where callers connect, and who may.

use std::path::PathBuf;

use http::HeaderName;
use serde::{Deserialize, Deserializer, de};

use super::address::{ListenAddress, Network};
use super::names::{HostPattern, WebOrigin};
use super::rule::Rules;
use super::secret::SecretSource;
use super::upstream::Upstream;

/// An address that callers connect to, and what it requires of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// The name of the upstream that it serves.
    #[serde(default)]
    pub upstream: String,
    /// Allowed caller networks; `None` for no check.
    pub allow: Option<Vec<Network>>,
    /// Accepted Host names, in addition to loopback names, IP literals and the upstream's name.
    pub hosts: Vec<HostPattern>,
    /// Allowed browser origins.
    pub origins: Vec<WebOrigin>,
    /// A field that each request must have, with any value.
    #[serde(default, deserialize_with = "header_name")]
    pub require_header: Option<HeaderName>,
    /// Caller keys: `name:key` lines.
    pub keys: Option<SecretSource>,
    /// Certificates, if the listener speaks TLS.
    pub tls: Option<ServerTls>,
    /// Networks whose `X-Forwarded-For` identifies the caller.
    pub trusted_proxies: Vec<Network>,
    /// A path to which bondgate itself responds with 200, for load balancers.
    pub health: Option<String>,
    /// The file mode of a unix socket.
    #[serde(deserialize_with = "file_mode")]
    pub mode: u32,
    /// The group of a unix socket.
    pub group: Option<String>,
    /// User ids allowed on a unix socket; empty for no check.
    pub users: Vec<u32>,
}

/// The status and metrics listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The address.
    pub address: ListenAddress,
    /// Allowed networks; `None` for no check.
    pub allow: Option<Vec<Network>>,
    /// Accepted Host names, in addition to loopback names and IP literals.
    pub hosts: Vec<HostPattern>,
    /// Certificates, if it speaks TLS.
    pub tls: Option<ServerTls>,
    /// Concurrent connections; not a key, see [`fit`](super::Config::fit).
    #[serde(skip)]
    pub connections: usize,
}

/// The certificates of a TLS listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The authorities of client certificates, PEM; callers must present one.
    pub client_ca_file: Option<PathBuf>,
}

impl Listener {
    /// Whether callers from other machines are checked by network, key or certificate.
    pub(crate) fn is_gated(&self) -> bool {
        self.allow.is_some() || self.keys.is_some() || requires_certificate(self.tls.as_ref())
    }

    /// What it requires of callers, by name; no secret.
    pub(crate) fn access_control(&self) -> Vec<String> {
        let count = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {one}s")),
        };
        let networks = self.allow.as_ref().map_or(0, Vec::len);
        let tls = self.tls.as_ref();
        let header = self.require_header.as_ref();
        let hosts = self.hosts.iter().map(HostPattern::count).sum();
        [
            count(networks, "allowed network"),
            self.keys.is_some().then(|| "caller keys".to_owned()),
            requires_certificate(tls).then(|| "client certificates".to_owned()),
            count(self.users.len(), "allowed user"),
            header.map(|name| format!("field {name}")),
            count(hosts, "further Host name"),
            count(self.origins.len(), "allowed origin"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The keys that apply to TCP alone, and whether they are set.
    pub(crate) fn tcp_keys(&self) -> [(&'static str, bool); 3] {
        [
            ("allow", self.allow.is_some()),
            ("trusted_proxies", !self.trusted_proxies.is_empty()),
            ("tls", self.tls.is_some()),
        ]
    }

    /// Whether a web page could pull a message. Over plain HTTP to another machine, a browser sends a GET
    /// without its origin and without any sign that it is a browser.
    pub(crate) fn lets_pages_pull(&self, upstream: &Upstream) -> bool {
        let is_open = self.tls.is_none() && self.keys.is_none() && self.require_header.is_none();
        is_open && (matches!(upstream.rules, Rules::Any(_)) || upstream.rules.consume())
    }
}

impl Admin {
    /// Whether callers from other machines are checked by network or certificate.
    pub(crate) fn is_gated(&self) -> bool {
        self.allow.is_some() || requires_certificate(self.tls.as_ref())
    }
}

fn requires_certificate(tls: Option<&ServerTls>) -> bool {
    tls.is_some_and(|tls| tls.client_ca_file.is_some())
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderName>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let parsed = HeaderName::try_from(&name).map_err(|_| {
        de::Error::custom(format!(
            "{name:?} is not a header name; write it like \"X-Bondgate\""
        ))
    });
    parsed.map(Some)
}

fn file_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let mode = String::deserialize(deserializer)?;
    u32::from_str_radix(&mode, 8)
        .map_err(|_| de::Error::custom(format!("{mode:?} is not a file mode; write it like \"0660\"")))
}
