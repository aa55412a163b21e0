//! Who may send what: the caller is judged by its socket, its key and its browser's traces, then the
//! request by the upstream's rules. Everything that is not allowed is refused.

use std::sync::Arc;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri};

use super::caller::{self, Caller};
use super::headers;
use super::path::{PathError, PlainPath};
use crate::config::{self, CallerKeys, KeysError, Network, Rules, WebOrigin};
use crate::server::{Answer, HostNames, Peer, WebPage, web_page};

/// What one listener requires of its callers; cheap to clone.
#[derive(Clone)]
pub struct Authorization(pub(super) Arc<AccessPolicy>);

impl Authorization {
    /// The policy of a listener for its upstream. `admin` is the admin listener's URL, which refusals name.
    pub fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        admin: &str,
    ) -> Result<Self, KeysError> {
        AccessPolicy::new(listener, upstream, admin).map(|policy| Self(Arc::new(policy)))
    }
}

/// What one listener asks of its callers.
pub(super) struct AccessPolicy {
    upstream: String,
    allow: Option<Vec<Network>>,
    trusted_proxies: Vec<Network>,
    users: Vec<u32>,
    hosts: HostNames,
    origins: Vec<WebOrigin>,
    require_header: Option<HeaderName>,
    scheme: &'static str,
    keys: Option<CallerKeys>,
    rules: Rules,
    admin: String,
}

/// How the rule that let a request through wants it sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admitted {
    /// On a connection of its own.
    pub(super) is_fresh: bool,
    /// By way of the spool: its answer takes a message off a queue.
    pub(super) is_consuming: bool,
}

impl AccessPolicy {
    pub(super) fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        admin: &str,
    ) -> Result<Self, KeysError> {
        let access = &listener.access;
        Ok(Self {
            upstream: upstream.name.clone(),
            allow: access.allow.clone(),
            trusted_proxies: access.trusted_proxies.clone(),
            users: access.users.clone(),
            hosts: HostNames::new(access.hosts.clone(), Some(upstream.url.host())),
            origins: access.origins.clone(),
            require_header: access.require_header.clone(),
            scheme: if access.tls.is_some() { "https" } else { "http" },
            keys: access.keys.as_ref().map(CallerKeys::load).transpose()?,
            rules: upstream.rules.clone(),
            admin: admin.to_owned(),
        })
    }

    /// Who sends a request, as far as its connection and trusted proxies say.
    pub(super) fn caller<B>(&self, peer: &Peer, request: &Request<B>) -> Caller {
        Caller {
            name: None,
            address: caller::address(peer, request.headers(), &self.trusted_proxies),
            user: peer.user,
            is_relayed: caller::is_relayed(peer, request.headers(), &self.trusted_proxies),
        }
    }

    /// Lets a caller's request in, and names the caller by its key; or says why not.
    pub(super) fn judge<B>(&self, caller: &mut Caller, request: &Request<B>) -> Result<Admitted, Answer> {
        let headers = request.headers();
        self.judge_place(caller)?;
        self.judge_page(request)?;
        caller.name = self.judge_key(headers)?;
        if headers::is_loop(headers) {
            let detail = "the request has been through bondgate before: an upstream's url leads back here";
            return Err(Answer::new(
                StatusCode::LOOP_DETECTED,
                "proxy_loop_detected",
                detail,
            ));
        }
        self.judge_request(request)
    }

    fn judge_place(&self, caller: &Caller) -> Result<(), Answer> {
        if let Some(allow) = &self.allow {
            let Some(address) = caller.address else {
                return Err(forbidden(
                    "the caller has no address that the listener's allow could name: X-Forwarded-For of the trusted \
                     proxy has none",
                ));
            };
            if !allow.iter().any(|network| network.contains(address)) {
                return Err(forbidden(format!(
                    "{address} is in none of the networks that the listener allows; add it to the listener's allow if \
                     it should be"
                )));
            }
        }
        let user = caller.user;
        if !self.users.is_empty() && !user.is_some_and(|user| self.users.contains(&user)) {
            let id = user.map_or_else(String::new, |user| format!(" ({user})"));
            return Err(forbidden(format!(
                "the caller's user id{id} is none of the listener's users; add it there if it should be"
            )));
        }
        Ok(())
    }

    fn judge_page<B>(&self, request: &Request<B>) -> Result<(), Answer> {
        let headers = request.headers();
        if !self.hosts.allow(request.uri(), headers) {
            let detail = format!(
                "the request's Host{} is not one of this listener's names; add it to the listener's hosts if it should be",
                self.misnamed(request)
            );
            return Err(Answer::new(
                StatusCode::MISDIRECTED_REQUEST,
                "http_request_denied",
                detail,
            ));
        }
        match web_page(headers, &self.origins) {
            None => {}
            Some(WebPage::Request) => {
                return Err(forbidden(
                    "this came from a web page, and pages are not let in; a page's origin can be listed in the listener's origins",
                ));
            }
            Some(WebPage::Navigation) => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                return Err(forbidden(format!(
                    "this address is for programs, not for browsers: a click here could take a message off a queue. \
                     Try `curl -i {}://{}{}`; the state of things is at {}",
                    self.scheme,
                    host.unwrap_or("localhost:8080"),
                    for_a_shell(request.uri().path()),
                    self.admin,
                )));
            }
        }
        match &self.require_header {
            Some(name) if !headers.contains_key(name) => Err(forbidden(format!(
                "this listener wants the header field {name}, with any value; let the caller send it"
            ))),
            _ => Ok(()),
        }
    }

    /// The name that a request calls us by and that is not ours, in brackets, where it is one and short.
    fn misnamed<B>(&self, request: &Request<B>) -> String {
        let headers = request.headers();
        let name = if self.hosts.allow(&Uri::default(), headers) {
            request.uri().authority().cloned()
        } else {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            host.and_then(|host| host.parse::<Authority>().ok())
        };
        match name {
            Some(name) if name.host().len() <= 100 => format!(" ({})", name.host()),
            _ => String::new(),
        }
    }

    fn judge_key(&self, headers: &HeaderMap) -> Result<Option<String>, Answer> {
        let Some(keys) = &self.keys else { return Ok(None) };
        if let Some(key) = caller::find_key(keys, headers) {
            return Ok(Some(key.name().to_owned()));
        }
        let begun = if caller::shows_key(headers) {
            "what was sent is none of this listener's keys; it"
        } else {
            "this listener"
        };
        Err(Answer::new(
            StatusCode::UNAUTHORIZED,
            "http_request_denied",
            format!(
                "{begun} wants a caller's name and key by HTTP Basic (curl -u NAME:KEY), or the key as X-Bondgate-Key"
            ),
        ))
    }

    fn judge_request<B>(&self, request: &Request<B>) -> Result<Admitted, Answer> {
        let path = PlainPath::parse(request.uri().path()).map_err(ambiguous)?;
        match path.admit(request.method(), &self.rules) {
            Ok(rule) => Ok(Admitted {
                is_fresh: rule.is_some_and(|rule| rule.fresh),
                is_consuming: rule.is_some_and(|rule| rule.consuming),
            }),
            Err(_) if path.has_encoded_slash() => Err(ambiguous(PathError::EncodedSlash)),
            Err(methods) if methods.is_empty() => Err(forbidden(format!(
                "no rule of upstream {} lets this path through; add one to its rules if it should be",
                self.upstream
            ))),
            Err(methods) => {
                let methods: Vec<&str> = methods.into_iter().map(http::Method::as_str).collect();
                Err(forbidden(format!(
                    "the rules of upstream {} let {} through on this path, and not {}",
                    self.upstream,
                    methods.join(" and "),
                    request.method()
                )))
            }
        }
    }
}

fn ambiguous(error: PathError) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, "http_request_error", error.to_string())
}

fn forbidden(detail: impl Into<String>) -> Answer {
    Answer::new(StatusCode::FORBIDDEN, "http_request_denied", detail)
}

/// The path for a line that a person may paste into a shell; nothing of one that a shell could read as
/// more than a path.
fn for_a_shell(path: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%=,:@+".contains(&byte);
    if path.bytes().all(is_plain) { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::config::Config;

    const UPSTREAM: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n[[listener]]\n";
    const PULL: &str = "/sb-partner-oauth-proxy-api/rest/v1/pull/call";

    fn policy(listener: &str) -> AccessPolicy {
        let config = Config::parse(&format!("{UPSTREAM}{listener}"), "f", []).unwrap();
        AccessPolicy::new(
            &config.listeners[0],
            &config.upstreams[0],
            "http://localhost:9180/",
        )
        .unwrap()
    }

    fn status(policy: &AccessPolicy, from: &str, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let address = Some(SocketAddr::new(from.parse().unwrap(), 1));
        let peer = Peer {
            address,
            user: None,
            has_certificate: false,
        };
        let request = request.body(()).unwrap();
        policy
            .judge(&mut policy.caller(&peer, &request), &request)
            .map_or_else(|answer| answer.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_plain_caller_gets_through_by_the_rules_alone() {
        let policy = policy("");
        let ask = |method: &str, path: &str| {
            status(&policy, "127.0.0.1", method, path, &[("host", "localhost:8080")])
        };
        assert_eq!(ask("GET", PULL), 200);
        assert_eq!(ask("POST", PULL), 200);
        assert_eq!(ask("DELETE", PULL), 403);
        assert_eq!(ask("GET", "/admin"), 403);
        assert_eq!(ask("GET", &format!("/{PULL}")), 400);
        assert_eq!(
            ask("GET", "/sb-partner-oauth-proxy-api/rest/%2e%2e/%2e%2e/admin"),
            400
        );
    }

    #[test]
    fn a_web_page_and_a_foreign_host_do_not_get_through() {
        let policy = policy("");
        let ask = |fields: &[_]| status(&policy, "127.0.0.1", "GET", PULL, fields);
        assert_eq!(ask(&[("host", "evil.example")]), 421);
        assert_eq!(ask(&[("host", "0.0.0.0:8080")]), 421);
        assert_eq!(
            ask(&[("host", "localhost"), ("origin", "https://evil.example")]),
            403
        );
        assert_eq!(ask(&[("host", "localhost"), ("sec-fetch-mode", "navigate")]), 403);
        assert_eq!(ask(&[("host", "stage.sbnprd.xylem.cisco.com")]), 200);
        assert_eq!(ask(&[("host", "localhost"), ("via", "1.1 bondgate")]), 508);
    }

    #[test]
    fn only_allowed_networks_get_through_and_a_trusted_proxy_names_its_caller() {
        let policy = policy("allow = [\"10.1.0.0/16\", \"10.9.0.1\"]\ntrusted_proxies = [\"10.9.0.0/16\"]");
        let ask = |from, forwarded| {
            status(
                &policy,
                from,
                "GET",
                PULL,
                &[("host", "10.0.0.1"), ("x-forwarded-for", forwarded)],
            )
        };
        assert_eq!(ask("10.1.2.3", "1.1.1.1"), 200);
        assert_eq!(ask("127.0.0.1", "10.1.2.3"), 403);
        assert_eq!(ask("10.9.0.1", "10.1.2.3"), 200);
        assert_eq!(ask("10.9.0.1", "10.1.2.3, 10.9.0.7"), 200);
        assert_eq!(ask("10.9.0.1", "10.1.2.3, 1.1.1.1"), 403);
        // Taken for the proxy, it would come in by the proxy's own network.
        assert_eq!(ask("10.9.0.1", "unknown"), 403);
        assert_eq!(ask("::ffff:10.9.0.1", "::ffff:10.1.2.3"), 200);
    }

    #[test]
    fn a_key_opens_by_basic_or_by_its_own_field() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# callers\nsnow:k1\nmid:k:2\n").unwrap();
        let policy = policy(&format!("keys = {{ file = \"{}\" }}", file.path().display()));
        let ask = |name, value: &str| {
            status(
                &policy,
                "127.0.0.1",
                "GET",
                PULL,
                &[("host", "localhost"), (name, value)],
            )
        };
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        assert_eq!(ask("authorization", &basic("snow:k1")), 200);
        assert_eq!(
            ask(
                "authorization",
                &basic("mid:k:2").to_lowercase().replace("basic", "BASIC")
            ),
            401
        );
        assert_eq!(
            ask("authorization", &basic("mid:k:2").replace("Basic", "basic")),
            200
        );
        assert_eq!(ask("x-bondgate-key", "k1"), 200);
        for (name, value) in [
            ("authorization", basic("snow:k:2")),
            ("authorization", "Bearer k1".into()),
            ("x-bondgate-key", "k".into()),
            ("accept", "*/*".into()),
        ] {
            assert_eq!(ask(name, &value), 401, "{name}: {value}");
        }
    }

    #[test]
    fn a_required_header_may_have_any_value() {
        let policy = policy("require_header = \"X-Bondgate\"");
        let ask = |fields: &[_]| status(&policy, "127.0.0.1", "GET", PULL, fields);
        assert_eq!(ask(&[("host", "localhost")]), 403);
        assert_eq!(ask(&[("host", "localhost"), ("x-bondgate", "")]), 200);
    }

    #[test]
    fn a_navigation_is_answered_with_a_line_that_a_shell_reads_as_one_command() {
        let told = |listener: &str, path: &str| {
            let request = Request::get(path)
                .header("host", "localhost:8443")
                .header("sec-fetch-mode", "navigate");
            let answer = policy(listener).judge(&mut Caller::default(), &request.body(()).unwrap());
            answer.err().unwrap().detail
        };
        let line = |told: &str| told.split('`').nth(1).unwrap().to_owned();
        assert_eq!(
            line(&told("", PULL)),
            format!("curl -i http://localhost:8443{PULL}")
        );
        assert!(told("", PULL).ends_with("the state of things is at http://localhost:9180/"));
        let tls = "tls = { certificate_file = \"/c\", key_file = \"/k\" }";
        assert!(line(&told(tls, "/a,b=c%20d")).ends_with("https://localhost:8443/a,b=c%20d"));
        for path in [
            "/a;id", "/$(id)", "/a&id", "/a|id", "/'id'", "/a`id`", "/a>b", "/*", "/a\\b",
        ] {
            let Ok(uri) = path.parse::<http::Uri>() else {
                continue;
            };
            assert_eq!(
                line(&told("", &uri.to_string())),
                "curl -i http://localhost:8443/",
                "{path}"
            );
        }
    }
}
