//! A listener: where callers connect, and who may.

use std::path::PathBuf;

use http::HeaderName;
use serde::{Deserialize, Deserializer, de};

use super::address::{ListenAddress, Network};
use super::names::{HostPattern, WebOrigin};
use super::rule::Rules;
use super::secret::SecretSource;
use super::upstream::Upstream;

/// An address that callers connect to.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "ListenerTable")]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// The name of the upstream that it serves.
    pub upstream: String,
    /// Who may connect, and what they must present.
    pub access: Access,
    /// A path that bondgate itself answers with 200, for load balancers.
    pub health: Option<String>,
    /// The file mode of a unix socket.
    pub mode: u32,
    /// The group of a unix socket.
    pub group: Option<String>,
}

/// What a listener requires of its callers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Allowed caller networks; `None` for no check.
    pub allow: Option<Vec<Network>>,
    /// Accepted Host names, in addition to loopback names, IP literals and the upstream's name.
    pub hosts: Vec<HostPattern>,
    /// Allowed browser origins.
    pub origins: Vec<WebOrigin>,
    /// A field that each request must have, with any value.
    pub require_header: Option<HeaderName>,
    /// Caller keys: `name:key` lines.
    pub keys: Option<SecretSource>,
    /// Certificates, if the listener speaks TLS.
    pub tls: Option<ServerTls>,
    /// Networks whose `X-Forwarded-For` identifies the caller.
    pub trusted_proxies: Vec<Network>,
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

/// A `[[listener]]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerTable {
    address: ListenAddress,
    #[serde(default)]
    upstream: String,
    allow: Option<Vec<Network>>,
    hosts: Vec<HostPattern>,
    origins: Vec<WebOrigin>,
    #[serde(default, deserialize_with = "header_name")]
    require_header: Option<HeaderName>,
    keys: Option<SecretSource>,
    tls: Option<ServerTls>,
    trusted_proxies: Vec<Network>,
    health: Option<String>,
    #[serde(deserialize_with = "file_mode")]
    mode: u32,
    group: Option<String>,
    users: Vec<u32>,
}

impl Listener {
    /// Whether a web page could pull a message. Over plain HTTP to another machine, a browser sends a GET
    /// without its origin and without any sign that it is a browser.
    pub(crate) fn lets_pages_pull(&self, upstream: &Upstream) -> bool {
        let access = &self.access;
        let is_open = access.tls.is_none() && access.keys.is_none() && access.require_header.is_none();
        is_open && (matches!(upstream.rules, Rules::Any(_)) || upstream.rules.consume())
    }
}

impl Access {
    /// Whether callers from other machines are checked by network, key or certificate.
    pub(crate) fn is_gated(&self) -> bool {
        self.allow.is_some() || self.keys.is_some() || requires_certificate(self.tls.as_ref())
    }

    /// Whether a check is configured that only TCP has.
    pub(crate) fn is_of_tcp(&self) -> bool {
        self.tcp_keys().iter().any(|(_, is_set)| *is_set)
    }

    /// The keys that apply to TCP alone, and whether they are set.
    pub(super) fn tcp_keys(&self) -> [(&'static str, bool); 3] {
        [
            ("allow", self.allow.is_some()),
            ("trusted_proxies", !self.trusted_proxies.is_empty()),
            ("tls", self.tls.is_some()),
        ]
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

impl From<ListenerTable> for Listener {
    fn from(table: ListenerTable) -> Self {
        let access = Access {
            allow: table.allow,
            hosts: table.hosts,
            origins: table.origins,
            require_header: table.require_header,
            keys: table.keys,
            tls: table.tls,
            trusted_proxies: table.trusted_proxies,
            users: table.users,
        };
        Self {
            address: table.address,
            upstream: table.upstream,
            access,
            health: table.health,
            mode: table.mode,
            group: table.group,
        }
    }
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
