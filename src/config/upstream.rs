//! An upstream: an API, its credentials and its rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

use super::address::{Endpoint, ListenAddress};
use super::outbound_proxy::OutboundProxy;
use super::presets::{self, TokenRejection};
use super::rule::Rules;
use super::secret::SecretSource;
use super::secret_check::is_placeholder;
use super::source::KeyPath;
use super::units;
use crate::problems::{Problem, configuration, files};

/// An API and the credentials for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The name of its table, for logs, metrics and listeners.
    #[serde(skip)]
    pub name: String,
    /// The preset that sets what the file leaves out.
    #[serde(deserialize_with = "presets::name")]
    pub preset: String,
    /// How the API rejects a token; set by the preset.
    #[serde(skip)]
    pub token_rejection: TokenRejection,
    /// The source of the OAuth 2.0 client identifier.
    pub client_id: SecretSource,
    /// The source of the OAuth 2.0 client secret.
    pub client_secret: SecretSource,
    /// Origin and optional base path of the API.
    pub url: Endpoint,
    /// The token endpoint.
    pub token_url: Endpoint,
    /// How the token request carries the credentials.
    pub client_auth: ClientAuth,
    /// The requested scope; empty for none.
    pub scope: String,
    /// The allowed requests.
    pub rules: Rules,
    /// A path whose GET changes nothing, for `bondgate check --live`.
    #[serde(default, deserialize_with = "check_path")]
    pub check_path: Option<String>,
    /// Certificates trusted in addition to the system's, for both calls.
    pub ca_file: Option<PathBuf>,
    /// The outbound proxy, for both calls.
    #[serde(default)]
    pub proxy: OutboundProxy,
    /// The limits on each step of a request.
    pub timeout: Timeouts,
    /// How long an idle connection is kept for the next request; zero for not at all.
    #[serde(deserialize_with = "units::quantity")]
    pub keep_alive: Duration,
    /// The age at which a connection is not reused; one in use is not interrupted.
    #[serde(deserialize_with = "units::positive")]
    pub max_age: Duration,
    /// The most idle connections of one worker; not a key, see [`fit`](super::Config::fit).
    #[serde(skip)]
    pub pooled: usize,
    /// How long a request may wait for a token; shorter than [`head`](Timeouts::head).
    #[serde(deserialize_with = "units::quantity")]
    pub wait: Duration,
    /// The most bytes of a request body that are kept for a replay after a 401.
    #[serde(deserialize_with = "units::quantity")]
    pub replay: u64,
    /// Whether a request without `X-Correlation-ID` gets one.
    pub correlation_id: bool,
    /// Whether plain HTTP to loopback addresses is allowed.
    pub(super) unsafe_plain_http: bool,
}

fn check_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let path = String::deserialize(deserializer)?;
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(path));
    }
    Err(de::Error::custom(
        "is not a path; write one that begins with a slash, like \"/status\"",
    ))
}

/// The form of the token request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Everything in the query, no body.
    Query,
    /// Everything in a form body (RFC 6749 §2.3.1), which keeps the secret out of URLs.
    Form,
    /// `grant_type` in body and query, credentials in the query.
    Mixed,
    /// HTTP Basic (RFC 6749 §2.3.1), `grant_type` in the body.
    Basic,
}

/// The limits on each step of a request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TCP, proxy and TLS handshakes together. The default is longer than the waits below it: 5 s of a proxy for
    /// a dead name server, 7 s of TCP for the third retransmission of a SYN.
    #[serde(deserialize_with = "units::positive")]
    pub connect: Duration,
    /// From the end of the request body to the first byte of our response.
    #[serde(deserialize_with = "units::positive")]
    pub head: Duration,
    /// Between two pieces of a body, in either direction.
    #[serde(deserialize_with = "units::positive")]
    pub idle: Duration,
    /// How long the response to a pull is awaited, even if its caller has gone.
    #[serde(deserialize_with = "units::positive")]
    pub pull: Duration,
}

impl Upstream {
    /// Whether a token of one is valid for the other: same client, same API, same identity service.
    pub(crate) fn shares_tokens_with(&self, other: &Self) -> bool {
        let origin = |upstream: &Self| (upstream.url.is_https(), upstream.url.authority().clone());
        origin(self) == origin(other)
            && self.token_url == other.token_url
            && self.client_id == other.client_id
            && self.scope == other.scope
    }

    /// Whether both request the same token in the same way.
    pub(crate) fn fetches_like(&self, other: &Self) -> bool {
        self.shares_tokens_with(other)
            && self.client_secret == other.client_secret
            && self.client_auth == other.client_auth
            && self.proxy == other.proxy
            && self.timeout.connect == other.timeout.connect
    }

    /// The faults of endpoints that lead back to bondgate itself, where it listens on `address`.
    pub(crate) fn loops(&self, address: &ListenAddress) -> impl Iterator<Item = (KeyPath, Problem)> {
        let endpoints = self.endpoints().into_iter();
        let own = endpoints.filter(|(_, endpoint)| address.is_reached_by(endpoint));
        own.map(move |(key, _)| {
            let key = KeyPath::upstream(&self.name).key(key);
            (key, configuration::upstream_is_bondgate(address))
        })
    }

    /// Refuses a placeholder of the documentation, unless the identity service is on this machine, as a simulator is.
    pub(crate) fn check_credential(&self, key: &str, secret: &SecretString) -> Result<(), Problem> {
        if is_placeholder(secret) && !self.token_url.is_loopback() {
            let source = match key {
                "client_id" => &self.client_id,
                _ => &self.client_secret,
            };
            return Err(files::placeholder(key, source.place()));
        }
        Ok(())
    }

    /// The endpoints, with their keys.
    pub(super) fn endpoints(&self) -> [(&'static str, &Endpoint); 2] {
        [("url", &self.url), ("token_url", &self.token_url)]
    }

    /// Sets what depends on several keys.
    pub(super) fn complete(&mut self) {
        if let Some((_, preset)) = presets::find(&self.preset) {
            self.token_rejection = preset.token_rejection;
            if let Rules::Any(known) = &mut self.rules {
                *known = preset.rules();
            }
        }
        // If timeout.head ended the wait, the response would be 504 and not 503.
        self.wait = self.wait.min(self.timeout.head * 9 / 10);
    }
}

/// Deserializes `[upstream.NAME]` tables.
pub(super) fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Upstream>, D::Error> {
    let tables = BTreeMap::<String, Upstream>::deserialize(deserializer)?;
    if tables.is_empty() {
        let what = "is empty; write [upstream.cisco] with preset, client_id and client_secret";
        return Err(de::Error::custom(what));
    }
    let upstreams = tables
        .into_iter()
        .map(|(name, upstream)| Upstream { name, ..upstream });
    Ok(upstreams.collect())
}
