//! Who may send what: the caller is judged by its socket, its key and its browser's traces, then the
//! request by the upstream's rules. Everything that is not allowed is refused.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::headers::{self, CALLER_KEY};
use super::path::{PathError, PlainPath};
use crate::config::{self, Network, Rules, SecretError};
use crate::server::{Answer, HostNames, Peer, WebPage, web_page};

/// What one listener asks of its callers.
pub(super) struct AccessPolicy {
    upstream: String,
    allow: Option<Vec<Network>>,
    trusted_proxies: Vec<Network>,
    users: Vec<u32>,
    hosts: HostNames,
    origins: Vec<String>,
    require_header: Option<HeaderName>,
    keys: Option<Vec<CallerKey>>,
    rules: Rules,
    admin: String,
}

/// A caller that was let in, as logs call it.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The name that goes with its key.
    pub(super) name: Option<String>,
    /// Its address, behind trusted proxies the one that they name.
    pub(super) address: Option<IpAddr>,
}

/// How the rule that let a request through wants it sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admitted {
    /// On a connection of its own.
    pub(super) is_fresh: bool,
    /// By way of the spool: its answer takes a message off a queue.
    pub(super) is_consuming: bool,
}

struct CallerKey {
    name: String,
    key: SecretString,
}

/// Caller keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The place cannot be read.
    #[error("the caller keys cannot be had")]
    Secret(#[from] SecretError),
    /// A line is no `name:key`.
    #[error("line {0} of the caller keys is not \"name:key\"")]
    Line(usize),
    /// There is none.
    #[error("the caller keys hold no line \"name:key\": nobody could come in")]
    None,
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
            keys: access
                .keys
                .as_ref()
                .map(|source| caller_keys(&source.load()?))
                .transpose()?,
            rules: upstream.rules.clone(),
            admin: admin.to_owned(),
        })
    }

    /// Lets a request in, or says why not.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<(Caller, Admitted), Answer> {
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>();
        let address = peer.and_then(|peer| self.address(peer, headers));
        self.judge_place(peer, address)?;
        self.judge_page(request)?;
        let name = self.judge_key(headers)?;
        if headers::is_loop(headers) {
            let detail = "the request has been through bondgate before: an upstream's url leads back here";
            return Err(Answer::new(
                StatusCode::LOOP_DETECTED,
                "proxy_loop_detected",
                detail,
            ));
        }
        let admitted = self.judge_request(request)?;
        Ok((Caller { name, address }, admitted))
    }

    /// The caller's address: the socket's, or the last one in `X-Forwarded-For` that no trusted
    /// proxy has.
    fn address(&self, peer: &Peer, headers: &HeaderMap) -> Option<IpAddr> {
        let direct = peer.address?.ip().to_canonical();
        let is_trusted = |address: &IpAddr| {
            self.trusted_proxies
                .iter()
                .any(|network| network.contains(*address))
        };
        if !is_trusted(&direct) {
            return Some(direct);
        }
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let named = lines
            .iter()
            .rev()
            .flat_map(|line| line.rsplit(','))
            .map(|hop| hop.trim().parse::<IpAddr>());
        // A hop that is no address ends the chain that can be believed.
        let mut last = direct;
        for hop in named {
            let Ok(hop) = hop else { break };
            last = hop.to_canonical();
            if !is_trusted(&last) {
                break;
            }
        }
        Some(last)
    }

    fn judge_place(&self, peer: Option<&Peer>, address: Option<IpAddr>) -> Result<(), Answer> {
        if let (Some(allow), Some(address)) = (&self.allow, address)
            && !allow.iter().any(|network| network.contains(address))
        {
            return Err(forbidden(format!(
                "{address} is in none of the networks that the listener allows"
            )));
        }
        let is_unix = peer.is_some_and(|peer| peer.address.is_none());
        let user = peer.and_then(|peer| peer.user);
        if is_unix && !self.users.is_empty() && !user.is_some_and(|user| self.users.contains(&user)) {
            return Err(forbidden("the caller's user id is none of the listener's users"));
        }
        Ok(())
    }

    fn judge_page<B>(&self, request: &Request<B>) -> Result<(), Answer> {
        let headers = request.headers();
        if !self.hosts.allow(request.uri(), headers) {
            let detail = "the request's Host is not one of this listener's names; add it to the listener's hosts if it should be";
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
                return Err(forbidden(format!(
                    "this address is for programs, not for browsers: a click here could take a message off a queue. \
                     Try `curl -i http://{}{}`; the state of things is at {}",
                    request
                        .headers()
                        .get(http::header::HOST)
                        .and_then(|host| host.to_str().ok())
                        .unwrap_or("localhost:8080"),
                    request.uri().path(),
                    self.admin,
                )));
            }
        }
        match &self.require_header {
            Some(name) if !headers.contains_key(name) => Err(forbidden(format!(
                "this listener wants the header field {name}, with any value"
            ))),
            _ => Ok(()),
        }
    }

    fn judge_key(&self, headers: &HeaderMap) -> Result<Option<String>, Answer> {
        let Some(keys) = &self.keys else { return Ok(None) };
        match find_key(keys, headers) {
            Some(key) => Ok(Some(key.name.clone())),
            None => Err(Answer::new(
                StatusCode::UNAUTHORIZED,
                "http_request_denied",
                "this listener wants a caller's name and key, by HTTP Basic or X-Bondgate-Key",
            )),
        }
    }

    fn judge_request<B>(&self, request: &Request<B>) -> Result<Admitted, Answer> {
        let path = PlainPath::parse(request.uri().path())
            .map_err(|error| Answer::new(StatusCode::BAD_REQUEST, "http_request_error", error.to_string()))?;
        match path.admit(request.method(), &self.rules) {
            Ok(rule) => Ok(Admitted {
                is_fresh: rule.is_some_and(|rule| rule.fresh),
                is_consuming: rule.is_some_and(|rule| rule.consuming),
            }),
            Err(_) if path.has_encoded_slash() => Err(ambiguous(PathError::EncodedSlash)),
            Err(methods) if methods.is_empty() => Err(forbidden(format!(
                "no rule of upstream {} lets this path through",
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

fn caller_keys(text: &SecretString) -> Result<Vec<CallerKey>, KeysError> {
    let mut keys = Vec::new();
    for (at, line) in text.expose_secret().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, key)) if !name.is_empty() && !key.is_empty() => {
                keys.push(CallerKey {
                    name: name.to_owned(),
                    key: SecretString::from(key.to_owned()),
                });
            }
            _ => return Err(KeysError::Line(at + 1)),
        }
    }
    if keys.is_empty() {
        Err(KeysError::None)
    } else {
        Ok(keys)
    }
}

/// Looks at every key, and at each to its end, so that time tells nothing.
fn find_key<'a>(keys: &'a [CallerKey], headers: &HeaderMap) -> Option<&'a CallerKey> {
    let basic = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then_some(())?;
        BASE64_STANDARD.decode(encoded.trim()).ok()
    });
    let bare = headers.get(CALLER_KEY).map(http::HeaderValue::as_bytes);
    let mut found = None;
    for key in keys {
        let pair = format!("{}:{}", key.name, key.key.expose_secret());
        let is_pair = basic
            .as_ref()
            .is_some_and(|given| given.ct_eq(pair.as_bytes()).into());
        let is_key = bare.is_some_and(|given| given.ct_eq(key.key.expose_secret().as_bytes()).into());
        if is_pair | is_key {
            found = Some(key);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
        let address = Some(format!("{from}:1").parse().unwrap());
        let peer = Peer {
            address,
            user: None,
            has_certificate: false,
        };
        let request = request.extension(peer).body(()).unwrap();
        policy
            .judge(&request)
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
        let policy = policy("allow = [\"10.1.0.0/16\"]\ntrusted_proxies = [\"10.9.0.0/16\"]");
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
        assert_eq!(ask("10.9.0.1", "10.1.2.3, junk"), 403);
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
    fn a_key_file_that_lets_nobody_in_is_an_error_without_its_text() {
        let keys = |text: &str| {
            caller_keys(&SecretString::from(text.to_owned()))
                .err()
                .map(|error| error.to_string())
        };
        assert!(keys("").unwrap().contains("nobody"));
        assert!(keys("a:b\nhunter2\n").unwrap().contains("line 2"));
        assert!(!keys("hunter2").unwrap().contains("hunter2"));
    }

    #[test]
    fn a_required_header_may_have_any_value() {
        let policy = policy("require_header = \"X-Bondgate\"");
        let ask = |fields: &[_]| status(&policy, "127.0.0.1", "GET", PULL, fields);
        assert_eq!(ask(&[("host", "localhost")]), 403);
        assert_eq!(ask(&[("host", "localhost"), ("x-bondgate", "")]), 200);
    }

    #[test]
    fn a_value_that_is_no_text_is_no_key() {
        let headers = HeaderMap::from_iter([(CALLER_KEY, HeaderValue::from_bytes(b"\xff").unwrap())]);
        let keys = caller_keys(&SecretString::from("a:b".to_owned())).unwrap();
        assert!(find_key(&keys, &headers).is_none());
    }
}
