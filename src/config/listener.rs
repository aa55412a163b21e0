//! One listener as the file says it: where callers come in, and which of them.

use std::path::PathBuf;

use http::HeaderName;

use super::address::{ListenAddress, Network};
use super::name::{HostPattern, WebOrigin, is_plain_path};
use super::rule::Rules;
use super::secret::SecretSource;
use super::section::Section;
use super::upstream::Upstream;

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
    /// Connections at once; no key, it goes by the descriptors that there are.
    pub connections: usize,
}

/// What a listener asks of its callers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Caller networks; everybody that can connect where it is nothing.
    pub allow: Option<Vec<Network>>,
    /// Names answered beside loopback names, IP literals and the upstream's name.
    pub hosts: Vec<HostPattern>,
    /// Browser origins let in.
    pub origins: Vec<WebOrigin>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Callers need a certificate from one of these.
    pub client_ca_file: Option<PathBuf>,
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
        if health.as_ref().is_some_and(|path| !is_plain_path(path)) {
            section.fault("health", "is not a plain path; write it like \"/healthz\"");
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
        judge_unix(&section, &address, &access.of_tcp());
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

impl Listener {
    /// Whether a page that asks for something in a network could pull a message. Over plain HTTP to an address or
    /// name there a browser says neither where a GET comes from nor that it is a browser.
    #[must_use]
    pub fn lets_pages_pull(&self, upstream: &Upstream) -> bool {
        let access = &self.access;
        let is_open = access.tls.is_none() && access.keys.is_none() && access.require_header.is_none();
        is_open && (matches!(upstream.rules, Rules::Any(_)) || upstream.rules.consume())
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
            connections: 64,
        };
        judge_exposure(
            &section,
            &admin.address,
            admin.is_gated(),
            "allow = [\"10.0.0.0/8\"]",
        );
        let of_tcp = [("allow", admin.allow.is_some()), ("tls", admin.tls.is_some())];
        judge_unix(&section, &admin.address, &of_tcp);
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

    /// Whether callers are judged by something that only TCP has.
    #[must_use]
    pub fn is_of_tcp(&self) -> bool {
        self.of_tcp().iter().any(|(_, is_set)| *is_set)
    }

    fn of_tcp(&self) -> [(&'static str, bool); 3] {
        [
            ("allow", self.allow.is_some()),
            ("trusted_proxies", !self.trusted_proxies.is_empty()),
            ("tls", self.tls.is_some()),
        ]
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

/// What would have no effect is refused: somebody may believe that it keeps callers out.
fn judge_unix(section: &Section<'_>, address: &ListenAddress, of_tcp: &[(&str, bool)]) {
    let is_unix = matches!(address, ListenAddress::Unix(_));
    for (key, _) in of_tcp.iter().filter(|(_, is_set)| is_unix && *is_set) {
        section.fault(
            key,
            "is for TCP: at a unix socket its mode, group and users say who gets in; leave it out",
        );
    }
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
