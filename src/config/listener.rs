//! One listener as the file says it: where callers come in, and which of them.

use std::fmt;
use std::path::PathBuf;

use http::HeaderName;
use serde::Deserialize;

use super::address::{ListenAddress, Network};
use super::secret::SecretSource;
use super::section::{Section, Written};

/// A place where callers come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: ListenAddress,
    /// The name of the upstream that it serves.
    pub upstream: String,
    /// Who may connect, and what proves it.
    pub access: Access,
    /// A path answered here with 200, for load balancers.
    pub health: Option<String>,
    /// The file mode of a unix socket.
    pub mode: u32,
    /// The group of a unix socket.
    pub group: Option<String>,
}

/// The status and metrics listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: ListenAddress,
    /// Networks let in; everybody that can connect where it is nothing.
    pub allow: Option<Vec<Network>>,
    /// Names answered beside loopback names and IP literals.
    pub hosts: Vec<HostPattern>,
    /// Certificates, where it speaks TLS.
    pub tls: Option<ServerTls>,
}

/// What a listener asks of its callers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Caller networks; everybody that can connect where it is nothing.
    pub allow: Option<Vec<Network>>,
    /// Names answered beside loopback names, IP literals and the upstream's name.
    pub hosts: Vec<HostPattern>,
    /// Browser origins let in.
    pub origins: Vec<String>,
    /// A field that must be there, with any value.
    pub require_header: Option<HeaderName>,
    /// Caller keys: `name:key` lines.
    pub keys: Option<SecretSource>,
    /// Certificates, where the listener speaks TLS.
    pub tls: Option<ServerTls>,
    /// Networks whose `X-Forwarded-For` names the caller.
    pub trusted_proxies: Vec<Network>,
    /// User ids let in at a unix socket; everybody whom the mode lets in where it is empty.
    pub users: Vec<u32>,
}

/// What a TLS listener shows and asks for.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Callers need a certificate from one of these.
    pub client_ca_file: Option<PathBuf>,
}

/// A host name, or every name below one: `*.svc.cluster.local`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether a host name, without port, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl Written for HostPattern {
    const FORM: &'static str = "a host name in quotes, like \"bondgate.internal\"";
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!(
                "{text:?} is not a host name; write it like \"bondgate.internal\" or \"*.internal\", without port"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Listener {
    pub(super) fn read(mut section: Section<'_>, upstreams: &[String]) -> Option<Self> {
        let address = section.or("address", "\"localhost:8080\"");
        let upstream = section
            .optional::<String>("upstream")
            .or_else(|| match upstreams {
                [one] => Some(one.clone()),
                [] => None,
                _ => {
                    section.fault(
                        "upstream",
                        format!("is missing; it is one of {}", upstreams.join(", ")),
                    );
                    None
                }
            });
        if let Some(name) = &upstream
            && !upstreams.contains(name)
        {
            section.fault(
                "upstream",
                format!("{name:?} is no upstream; there is {}", upstreams.join(", ")),
            );
        }
        let access = Access::read(&mut section, &address);
        let health = section.optional::<String>("health");
        if health.as_ref().is_some_and(|path| !path.starts_with('/')) {
            section.fault("health", "is not a path; write it like \"/healthz\"");
        }
        let mode = section.or::<String>("mode", "\"0660\"");
        let mode = u32::from_str_radix(&mode, 8).unwrap_or_else(|_| {
            section.fault(
                "mode",
                format!("{mode:?} is not a file mode; write it like \"0660\""),
            );
            0
        });
        let group = section.optional("group");
        let is_tcp = matches!(address, ListenAddress::Localhost(_) | ListenAddress::Socket(_));
        if is_tcp && !access.users.is_empty() {
            section.fault(
                "users",
                "is for unix sockets: over TCP nobody knows the caller's user; use keys or allow",
            );
        }
        section.finish();
        Some(Self {
            address,
            upstream: upstream?,
            access,
            health,
            mode,
            group,
        })
    }
}

impl Admin {
    /// Whether callers from other machines are judged by network or certificate.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.allow.is_some() || wants_certificate(self.tls.as_ref())
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let address = section.or("address", "\"localhost:9180\"");
        let allow = section.optional("allow");
        let hosts = section.or("hosts", "[]");
        let tls = ServerTls::optional(&mut section);
        let admin = Self {
            address,
            allow,
            hosts,
            tls,
        };
        judge_exposure(
            &section,
            &admin.address,
            admin.is_gated(),
            "allow = [\"10.0.0.0/8\"]",
        );
        section.finish();
        admin
    }
}

impl Access {
    /// Whether callers from other machines are judged by network, key or certificate.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.allow.is_some() || self.keys.is_some() || wants_certificate(self.tls.as_ref())
    }

    fn read(section: &mut Section<'_>, address: &ListenAddress) -> Self {
        let access = Self {
            allow: section.optional("allow"),
            hosts: section.or("hosts", "[]"),
            origins: section.or("origins", "[]"),
            require_header: section.optional("require_header").and_then(|name: String| {
                let parsed = HeaderName::try_from(&name);
                if parsed.is_err() {
                    section.fault(
                        "require_header",
                        format!("{name:?} is not a header name; write it like \"X-Bondgate\""),
                    );
                }
                parsed.ok()
            }),
            keys: section.secret("keys"),
            tls: ServerTls::optional(section),
            trusted_proxies: section.or("trusted_proxies", "[]"),
            users: section.or("users", "[]"),
        };
        if matches!(access.keys, Some(SecretSource::Inline(_))) {
            section.fault("keys", "stand in the configuration itself; write keys = { file = \"/path\" }, a file of name:key lines");
        }
        let gates = "allow = [\"10.0.0.0/8\"], keys = { file = \"/path\" }";
        judge_exposure(section, address, access.is_gated(), gates);
        access
    }
}

fn wants_certificate(tls: Option<&ServerTls>) -> bool {
    tls.is_some_and(|tls| tls.client_ca_file.is_some())
}

/// Loopback needs no gate beside the Host and browser checks; everything else does.
fn judge_exposure(section: &Section<'_>, address: &ListenAddress, is_gated: bool, gates: &str) {
    if !address.is_local() && !is_gated {
        section.fault(
            "address",
            format!(
                "{address} can be reached from other machines, and nothing says who may; set {gates} or \
                 tls.client_ca_file, or listen on localhost"
            ),
        );
    }
}

impl ServerTls {
    fn optional(section: &mut Section<'_>) -> Option<Self> {
        let is_written = section.has("tls");
        let tls = section.section("tls");
        if is_written { Self::read(tls) } else { None }
    }

    fn read(mut section: Section<'_>) -> Option<Self> {
        let certificate_file = section.required("certificate_file", "write the path of a PEM file");
        let key_file = section.secret_file("key_file", "write the path of a PEM file");
        let client_ca_file = section.optional("client_ca_file");
        section.finish();
        Some(Self {
            certificate_file: certificate_file?,
            key_file: key_file?,
            client_ca_file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_at_least_one_label() {
        let pattern = |text: &str| HostPattern::try_from(text.to_owned()).unwrap();
        assert!(pattern("Bondgate.Internal").matches("bondgate.INTERNAL"));
        assert!(pattern("*.local").matches("a.local") && pattern("*.local").matches("a.b.local"));
        assert!(!pattern("*.local").matches("local") && !pattern("*.local").matches(".local"));
        assert!(!pattern("*.local").matches("evil-local"));
        for wrong in ["", "*", "*.", "a:80", "http://a", "a*b"] {
            assert!(HostPattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
