//! One listener's policy: who may send which requests.

use http::header::{HOST, VIA};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::caller::{Caller, is_in};
use super::key;
use super::path::{PathError, PlainPath};
use crate::config::{self, CallerKeys, KeysError, Network, Rules, WebOrigin};
use crate::server::{HostNames, Peer, ProblemResponse, ProxyErrorType, WebPage, web_page};

/// What one listener requires of its callers and their requests.
pub(super) struct Policy {
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

/// How the rule that matched an admitted request wants it sent; an extension of the request.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct RouteOptions {
    /// On a new connection of its own.
    pub(in crate::proxy) is_fresh: bool,
    /// Through the spool: its response takes a message off a queue.
    pub(in crate::proxy) is_consuming: bool,
}

impl Policy {
    pub(super) fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        admin: &str,
    ) -> Result<Self, KeysError> {
        Ok(Self {
            upstream: upstream.name.clone(),
            allow: listener.allow.clone(),
            trusted_proxies: listener.trusted_proxies.clone(),
            users: listener.users.clone(),
            hosts: HostNames::new(listener.hosts.clone(), Some(upstream.url.host())),
            origins: listener.origins.clone(),
            require_header: listener.require_header.clone(),
            scheme: if listener.tls.is_some() { "https" } else { "http" },
            keys: listener.keys.as_ref().map(CallerKeys::load).transpose()?,
            rules: upstream.rules.clone(),
            admin: admin.to_owned(),
        })
    }

    /// The caller of a request, not yet authenticated.
    pub(super) fn caller<B>(&self, request: &Request<B>) -> Caller {
        let peer = request.extensions().get::<Peer>();
        Caller::identify(
            peer.unwrap_or(&Peer::default()),
            request.headers(),
            &self.trusted_proxies,
        )
    }

    /// Admits a request and sets the caller's name from its key, or refuses it with a response that says why.
    pub(super) fn authorize<B>(
        &self,
        caller: &mut Caller,
        request: &Request<B>,
    ) -> Result<RouteOptions, ProblemResponse> {
        self.check_network(caller)?;
        self.check_user(caller)?;
        self.check_host(request)?;
        self.check_browser(request)?;
        self.check_required_header(request.headers())?;
        caller.name = self.authenticate(request.headers())?;
        check_loop(request.headers())?;
        self.match_rule(request.method(), request.uri().path())
    }

    fn check_network(&self, caller: &Caller) -> Result<(), ProblemResponse> {
        let Some(allow) = &self.allow else { return Ok(()) };
        match caller.address {
            Some(address) if is_in(allow, address) => Ok(()),
            Some(address) => Err(forbidden(format!(
                "the caller's address {address} is not in allow of this listener; if it should be, add it there"
            ))),
            None => Err(forbidden(
                "the caller's address is unknown: the trusted proxy did not send a valid one in X-Forwarded-For",
            )),
        }
    }

    fn check_user(&self, caller: &Caller) -> Result<(), ProblemResponse> {
        let user = caller.user;
        if self.users.is_empty() || user.is_some_and(|user| self.users.contains(&user)) {
            return Ok(());
        }
        let id = user.map_or_else(String::new, |user| format!(" {user}"));
        Err(forbidden(format!(
            "the caller's user id{id} is not in users of this listener; if it should be, add it there"
        )))
    }

    fn check_host<B>(&self, request: &Request<B>) -> Result<(), ProblemResponse> {
        if self.hosts.allow(request.uri(), request.headers()) {
            return Ok(());
        }
        let detail = format!(
            "the request's Host{} is not one of this listener's names; if it should be, add it to hosts of the listener",
            self.foreign_host(request)
        );
        Err(ProblemResponse::new(
            StatusCode::MISDIRECTED_REQUEST,
            ProxyErrorType::HttpRequestDenied,
            detail,
        ))
    }

    /// The request's host name that is not ours, in brackets, where it is valid and short.
    fn foreign_host<B>(&self, request: &Request<B>) -> String {
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

    fn check_browser<B>(&self, request: &Request<B>) -> Result<(), ProblemResponse> {
        let headers = request.headers();
        match web_page(headers, &self.origins) {
            None => Ok(()),
            Some(WebPage::Request) => Err(forbidden(
                "a web page sent this request, and this listener does not admit web pages; if it should, add the page's \
                 origin to origins of the listener",
            )),
            Some(WebPage::Navigation) => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                Err(forbidden(format!(
                    "this address is for programs, not for browsers: a click here could take a message off a queue. \
                     Try `curl -i {}://{}{}`; the status page is at {}",
                    self.scheme,
                    host.unwrap_or("localhost:8080"),
                    safe_for_a_shell(request.uri().path()),
                    self.admin,
                )))
            }
        }
    }

    fn check_required_header(&self, headers: &HeaderMap) -> Result<(), ProblemResponse> {
        match &self.require_header {
            Some(name) if !headers.contains_key(name) => Err(forbidden(format!(
                "this listener requires the header field {name}, with any value; configure the caller to send it"
            ))),
            _ => Ok(()),
        }
    }

    /// The name of the caller's key, where the listener requires keys.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Option<String>, ProblemResponse> {
        let Some(keys) = &self.keys else { return Ok(None) };
        if let Some(key) = key::find_key(keys, headers) {
            return Ok(Some(key.name().to_owned()));
        }
        let reason = if key::has_key(headers) {
            "the caller's key is not one of this listener's keys"
        } else {
            "this listener requires a caller key"
        };
        Err(ProblemResponse::new(
            StatusCode::UNAUTHORIZED,
            ProxyErrorType::HttpRequestDenied,
            format!(
                "{reason}; send name and key by HTTP Basic (curl -u NAME:KEY), or the key in X-Bondgate-Key"
            ),
        ))
    }

    fn match_rule(&self, method: &Method, path: &str) -> Result<RouteOptions, ProblemResponse> {
        let path = PlainPath::parse(path).map_err(ambiguous)?;
        match path.match_rule(method, &self.rules) {
            Ok(rule) => Ok(RouteOptions {
                is_fresh: rule.is_some_and(|rule| rule.fresh),
                is_consuming: rule.is_some_and(|rule| rule.consuming),
            }),
            Err(_) if path.has_encoded_slash() => Err(ambiguous(PathError::EncodedSlash)),
            Err(methods) if methods.is_empty() => Err(forbidden(format!(
                "no rule of upstream {} allows this path; if one should, add it to rules",
                self.upstream
            ))),
            Err(methods) => {
                let methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
                Err(forbidden(format!(
                    "the rules of upstream {} allow {} on this path, not {method}",
                    self.upstream,
                    methods.join(" and "),
                )))
            }
        }
    }
}

/// Refuses a request that has passed through bondgate before. Proxies in between may have changed the spelling of our
/// name in `Via` (RFC 9110 §7.6.3).
fn check_loop(headers: &HeaderMap) -> Result<(), ProblemResponse> {
    if !is_loop(headers) {
        return Ok(());
    }
    let detail = "the request has passed through bondgate before: an upstream's url leads back to bondgate";
    Err(ProblemResponse::new(
        StatusCode::LOOP_DETECTED,
        ProxyErrorType::ProxyLoopDetected,
        detail,
    ))
}

pub(in crate::proxy) fn is_loop(headers: &HeaderMap) -> bool {
    let is_ours = |hop: &[u8]| {
        let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words
            .nth(1)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"bondgate"))
    };
    let mut lines = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
    lines.any(|line| line.split(|byte| *byte == b',').any(is_ours))
}

fn ambiguous(error: PathError) -> ProblemResponse {
    ProblemResponse::new(
        StatusCode::BAD_REQUEST,
        ProxyErrorType::HttpRequestError,
        error.to_string(),
    )
}

fn forbidden(detail: impl Into<String>) -> ProblemResponse {
    ProblemResponse::new(StatusCode::FORBIDDEN, ProxyErrorType::HttpRequestDenied, detail)
}

/// The path, where it can be pasted into a shell as one word; else `/`.
fn safe_for_a_shell(path: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%=,:@+".contains(&byte);
    if path.bytes().all(is_plain) { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_via_is_a_loop_in_every_spelling() {
        for via in [
            "1.1 bondgate",
            "1.0 fred, 1.1 bondgate (x)",
            "1.0 fred,1.1 BondGate",
            "HTTP/1.1 bondgate",
            "1.1\tBONDGATE\t, 2 bob",
            "1.1   bondgate , 1.1 bob",
        ] {
            assert!(is_loop(&via_lines(&[via])), "{via}");
            assert!(is_loop(&via_lines(&["1.1 a", via])), "{via}");
        }
        let mut latin = HeaderMap::new();
        latin.append(
            VIA,
            HeaderValue::from_bytes(b"1.1 caf\xe9, 1.1 bondgate").unwrap(),
        );
        assert!(is_loop(&latin));
        for via in [
            "1.1 bondgate2",
            "bondgate",
            "1.1 a.bondgate",
            "1.1 x bondgate",
            "",
        ] {
            assert!(!is_loop(&via_lines(&[via])), "{via}");
        }
    }

    fn via_lines(lines: &[&'static str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (VIA, HeaderValue::from_static(line)))
            .collect()
    }
}
