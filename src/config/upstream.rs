//! One upstream as the file says it: where it is, whose credentials it wants, what goes through.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::address::Endpoint;
use super::outbound::OutboundProxy;
use super::preset;
use super::rule::Rules;
use super::secret::SecretSource;
use super::section::{Section, Written};
use super::tree::Table;
use super::unit::{Size, Span};

/// A pair of an API and the credentials for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the file, for logs, metrics and listeners.
    pub name: String,
    /// The preset that filled what the file left out.
    pub preset: &'static str,
    /// The OAuth 2.0 client identifier's source.
    pub client_id: SecretSource,
    /// The OAuth 2.0 client secret's source.
    pub client_secret: SecretSource,
    /// Origin and optional base path of the API.
    pub url: Endpoint,
    /// The token endpoint.
    pub token_url: Endpoint,
    /// How the token request carries the credentials.
    pub client_auth: ClientAuth,
    /// The scope asked for; none where empty.
    pub scope: String,
    /// The requests let through.
    pub rules: Rules,
    /// Certificates trusted beside the system's, for both calls.
    pub ca_file: Option<PathBuf>,
    /// The way out, for both calls.
    pub proxy: OutboundProxy,
    /// Bounds on each step of a request.
    pub timeout: Timeouts,
    /// How long an idle connection is kept for the next request; not at all where zero.
    pub keep_alive: Duration,
    /// How old a connection may become that is kept for further requests; one in use is never cut.
    pub max_age: Duration,
    /// How many idle connections one worker keeps; no key, it goes by the descriptors that there are.
    pub pooled: usize,
    /// How long a request may wait for a token, at start or while a first fetch runs; shorter than
    /// [`head`](Timeouts::head).
    pub wait: Duration,
    /// Up to how many bytes of a request's body are kept for a replay after 401.
    pub replay: u64,
}

/// The shape of the token request; Cisco's pages number them in opposite order, so they have names.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Everything in the query, no body.
    Query,
    /// Everything in a form body (RFC 6749 §2.3.1, the alternative that keeps the secret out of URLs).
    Form,
    /// `grant_type` in body and query, credentials in the query.
    Mixed,
    /// HTTP Basic (RFC 6749 §2.3.1), `grant_type` in the body.
    Basic,
}

impl Written for ClientAuth {
    const FORM: &'static str = "form, query, mixed or basic, in quotes";
}

/// Bounds on each step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, proxy and TLS handshakes together. The default is longer than what they wait for below: a proxy for its own
    /// dead name server (5 s), TCP for its third retransmission of a SYN (7 s).
    pub connect: Duration,
    /// From the end of the request's body to the first byte of our answer.
    pub head: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
    /// How long a pull is awaited once it was sent, whether or not its caller still waits.
    pub pull: Duration,
}

const CREDENTIAL: &str =
    "write it as { file = \"/path\" }, or set BONDGATE_CLIENT_ID and BONDGATE_CLIENT_SECRET_FILE";

impl Upstream {
    /// Whether a token of the one is good for the other: the same client of the same API, by the same
    /// identity service.
    #[must_use]
    pub fn shares_tokens_with(&self, other: &Self) -> bool {
        let origin = |upstream: &Self| (upstream.url.is_https(), upstream.url.authority().clone());
        origin(self) == origin(other)
            && self.token_url == other.token_url
            && self.client_id == other.client_id
            && self.scope == other.scope
    }

    /// Whether the one's token is asked for as the other's is, too.
    #[must_use]
    pub fn fetches_like(&self, other: &Self) -> bool {
        self.shares_tokens_with(other)
            && self.client_secret == other.client_secret
            && self.client_auth == other.client_auth
            && self.proxy == other.proxy
            && self.timeout.connect == other.timeout.connect
    }

    pub(super) fn read<'a>(
        name: String,
        mut section: Section<'a>,
        presets: &'a [(&'static str, Table)],
    ) -> Option<Self> {
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            section.fault("", "is named with other characters than letters, digits, - and _");
        }
        let preset = chosen_preset(&mut section, presets);
        let client_id = section.identifier("client_id");
        let client_secret = section.secret("client_secret");
        if let Some(source) = &client_secret {
            warn_of_place(&section, "client_secret", source);
        }
        for key in ["client_id", "client_secret"] {
            if !section.has(key) {
                section.fault(key, format!("is missing; {CREDENTIAL}"));
            }
        }
        let upstream = Self::rest(name, preset, &mut section, client_id, client_secret);
        section.finish();
        upstream
    }

    fn rest(
        name: String,
        preset: Option<&'static str>,
        section: &mut Section<'_>,
        client_id: Option<SecretSource>,
        client_secret: Option<SecretSource>,
    ) -> Option<Self> {
        // A preset that is missing or misspelt is one fault, not one for each key that it would fill.
        if let Some(preset) = preset {
            for key in ["url", "token_url", "rules"] {
                if !section.has(key) {
                    section.fault(key, format!("is missing; the preset {preset:?} gives none"));
                }
            }
        }
        let url: Option<Endpoint> = section.optional("url");
        let token_url: Option<Endpoint> = section.optional("token_url");
        let client_auth = section.or("client_auth", "\"form\"");
        let scope = section.or("scope", "\"\"");
        let mut rules = section.optional("rules");
        if let (Some(Rules::Any(known)), Some(preset)) = (&mut rules, preset) {
            *known = preset::rules(preset);
        }
        let ca_file = section.optional("ca_file");
        let proxy = outbound_proxy(section);
        let timeout = Timeouts::read(section.section("timeout"));
        let keep_alive = section.or::<Span>("keep_alive", "\"18s\"").0;
        let max_age = section.or::<Span>("max_age", "\"5m\"").0;
        if max_age.is_zero() {
            section.fault(
                "max_age",
                "is 0, at which no connection could be used; leave it out for the default, or write keep_alive = \"0s\" \
                 for a connection of its own for each request",
            );
        }
        let wait = section.or::<Span>("wait", "\"2s\"").0;
        // Ended by timeout.head, a request would be told as one that may have been executed.
        let wait = wait.min(timeout.head * 9 / 10);
        let replay = section.or::<Size>("replay", "\"16MiB\"").0;
        let unsafe_plain_http = section.or("unsafe_plain_http", "false");
        for (key, endpoint) in [("url", &url), ("token_url", &token_url)] {
            if let Some(endpoint) = endpoint {
                judge_scheme(section, key, endpoint, unsafe_plain_http);
            }
        }
        if url.as_ref().is_some_and(|url| url.query().is_some()) {
            section.fault(
                "url",
                "has a query; leave it out: the caller's path and query are put behind it",
            );
        }
        Some(Self {
            name,
            preset: preset?,
            client_id: client_id?,
            client_secret: client_secret?,
            url: url?,
            token_url: token_url?,
            client_auth,
            scope,
            rules: rules?,
            ca_file,
            proxy,
            timeout,
            keep_alive,
            max_age,
            pooled: usize::MAX,
            wait,
            replay,
        })
    }
}

impl Timeouts {
    fn read(mut section: Section<'_>) -> Self {
        let timeouts = Self {
            connect: section.or::<Span>("connect", "\"8s\"").0,
            head: section.or::<Span>("head", "\"25s\"").0,
            idle: section.or::<Span>("idle", "\"60s\"").0,
            pull: section.or::<Span>("pull", "\"5m\"").0,
        };
        let named = [
            ("connect", timeouts.connect),
            ("head", timeouts.head),
            ("idle", timeouts.idle),
            ("pull", timeouts.pull),
        ];
        for (key, _) in named.iter().filter(|(_, limit)| limit.is_zero()) {
            section.fault(
                key,
                "is 0, which lets nothing through; leave it out for the default",
            );
        }
        section.finish();
        timeouts
    }
}

fn chosen_preset<'a>(
    section: &mut Section<'a>,
    presets: &'a [(&'static str, Table)],
) -> Option<&'static str> {
    let names = preset::NAMES.join(", ");
    let name: String = section.required("preset", &format!("it is one of {names}"))?;
    let found = presets.iter().find(|(known, _)| *known == name);
    if let Some((_, values)) = found {
        section.set_preset(values);
    } else {
        section.fault("preset", format!("{name:?} is no preset; it is one of {names}"));
    }
    found.map(|(known, _)| *known)
}

/// A secret is best in a file: it can be replaced while bondgate runs, and nobody comes across it.
fn warn_of_place(section: &Section<'_>, key: &'static str, source: &SecretSource) {
    let variable = match source {
        SecretSource::File(_) | SecretSource::Credential(_) => return,
        SecretSource::Inline(_) => section.variable(key),
        SecretSource::Environment(name) => Some(name.clone()),
    };
    let Some(variable) = variable else {
        let what = format!(
            "stands in the configuration itself; keep it in a file of its own: {key} = {{ file = \"/path\" }}"
        );
        return section.warn(key, &what);
    };
    let mend = match variable.as_str() {
        "BONDGATE_CLIENT_SECRET" => "BONDGATE_CLIENT_SECRET_FILE=/path".to_owned(),
        name => {
            let upstream = section.name().to_uppercase().replace('-', "_");
            let mend = format!(
                "BONDGATE__UPSTREAM__{upstream}__{}__FILE=/path",
                key.to_uppercase()
            );
            format!("{mend} in place of {name}")
        }
    };
    section.warn(
        key,
        &format!(
            "stands in the environment ({variable}), which whoever looks at the process or its container's settings \
             sees and which cannot change while bondgate runs; keep it in a file: {mend}"
        ),
    );
}

fn outbound_proxy(section: &mut Section<'_>) -> OutboundProxy {
    use secrecy::ExposeSecret;

    match section.secret("proxy") {
        None => OutboundProxy::Direct,
        Some(SecretSource::Inline(text)) if text.expose_secret() == "environment" => {
            OutboundProxy::Environment
        }
        Some(SecretSource::Inline(text)) if !text.expose_secret().starts_with("http://") => {
            section.fault("proxy", "is not a proxy; write \"http://host:port\", \"http://user:password@host:port\", \"environment\", or { file = \"/path\" }");
            OutboundProxy::Direct
        }
        Some(source) => {
            let holds_password = match &source {
                SecretSource::Inline(text) => text.expose_secret().contains('@'),
                _ => true,
            };
            if holds_password {
                warn_of_place(section, "proxy", &source);
            }
            OutboundProxy::Url(source)
        }
    }
}

fn judge_scheme(section: &Section<'_>, key: &str, endpoint: &Endpoint, unsafe_plain_http: bool) {
    if endpoint.is_https() {
        return;
    }
    if !unsafe_plain_http {
        section.fault(
            key,
            "is plain http, which would show the credentials to the network; write https",
        );
    } else if !endpoint.is_loopback() {
        section.fault(
            key,
            "is plain http to another machine; unsafe_plain_http allows loopback addresses only",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_secret_that_is_in_no_file_is_warned_about_with_the_way_into_one() {
        let warned = |client_secret: &str, set: &[(&str, &str)]| {
            let text = format!(
                "[upstream.sb-stage]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n{client_secret}\n"
            );
            let set = set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let config = Config::parse(&text, "f", set).unwrap();
            config.warnings.join("\n")
        };
        let file = "client_secret = { file = \"/s\" }";
        for (client_secret, set, told) in [
            (
                "client_secret = \"hunter2\"",
                &[][..],
                "client_secret = { file = \"/path\" }",
            ),
            (
                "",
                &[("BONDGATE_CLIENT_SECRET", "hunter2")],
                "in a file: BONDGATE_CLIENT_SECRET_FILE=/path",
            ),
            (
                "client_secret = { env = \"SECRET\" }",
                &[],
                "BONDGATE__UPSTREAM__SB_STAGE__CLIENT_SECRET__FILE=/path in place of SECRET",
            ),
            (
                file,
                &[("BONDGATE_PROXY", "http://user:hunter2@proxy:3128")],
                "BONDGATE__UPSTREAM__SB_STAGE__PROXY__FILE=/path in place of BONDGATE_PROXY",
            ),
        ] {
            let warnings = warned(client_secret, set);
            assert!(
                warnings.contains(told) && !warnings.contains("hunter2"),
                "{told}: {warnings}"
            );
        }
        for (client_secret, set) in [
            (file, &[][..]),
            (file, &[("BONDGATE_PROXY", "http://proxy:3128")]),
            ("", &[("BONDGATE_CLIENT_SECRET_FILE", "/s")]),
        ] {
            assert!(
                !warned(client_secret, set).contains("in a file"),
                "{client_secret} {set:?}"
            );
        }
    }
}
