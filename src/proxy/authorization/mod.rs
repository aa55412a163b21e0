//! Decides whether a caller may send a request: by network and user, by Host and browser fields, by key, and by the
//! upstream's rules for method and path. Everything that is not allowed is refused.

mod browser;
mod host;
mod key;
mod network;
mod path;
#[cfg(test)]
mod tests;

use axum::body::Body;
use http::header::VIA;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use self::path::PathError;
use super::caller_identity::Caller;
use super::request_record::{RequestRecord, RouteOptions};
use crate::config::{self, CallerKeys, InputError, Rules};
use crate::problems::{Problem, request as problems};
use crate::server::{HostNames, Peer, ProblemResponse, ProxyErrorType};

pub(super) use self::path::PlainPath;
pub use self::path::{RuleError, validate_rules};

/// What one listener requires of its callers and their requests.
pub struct Authorization {
    listener: config::Listener,
    hosts: HostNames,
    keys: Option<CallerKeys>,
    upstream: String,
    rules: Rules,
    admin: String,
}

impl Authorization {
    /// The authorization of a listener for its upstream. `admin` is the admin listener's URL, which refusals name.
    pub fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        admin: &str,
    ) -> Result<Self, InputError> {
        Ok(Self {
            listener: listener.clone(),
            hosts: HostNames::new(listener.hosts.clone(), Some(upstream.url.host())),
            keys: listener.keys.as_ref().map(CallerKeys::load).transpose()?,
            upstream: upstream.name.clone(),
            rules: upstream.rules.clone(),
            admin: admin.to_owned(),
        })
    }

    /// Responds to a request that is not allowed. Records the caller, and the route options of an allowed request.
    pub(super) fn respond(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let no_peer = Peer::default();
        let peer = request.extensions().get().unwrap_or(&no_peer);
        let mut caller = Caller::identify(peer, request.headers(), &self.listener.trusted_proxies);
        let authorized = self.authorize(&mut caller, request);
        let mut record = RequestRecord::of(request).lock();
        record.caller = Some(caller);
        match authorized {
            Ok(options) => {
                record.options = Some(options);
                None
            }
            Err(problem) => Some(problem.into_response()),
        }
    }

    /// Authorizes a request and sets the caller's name from its key, or refuses it with a response that says why.
    fn authorize(
        &self,
        caller: &mut Caller,
        request: &Request<Body>,
    ) -> Result<RouteOptions, ProblemResponse> {
        network::check_address(&self.listener, caller)?;
        network::check_user(&self.listener, caller)?;
        host::check(&self.hosts, request)?;
        browser::check(&self.listener, &self.admin, request)?;
        self.check_required_header(request.headers())?;
        if let Some(keys) = &self.keys {
            caller.name = Some(key::authenticate(keys, request.headers())?);
        }
        check_loop(request.headers())?;
        self.match_rule(request.method(), request.uri().path())
    }

    fn check_required_header(&self, headers: &HeaderMap) -> Result<(), ProblemResponse> {
        match &self.listener.require_header {
            Some(name) if !headers.contains_key(name) => Err(forbidden(problems::header_missing(name))),
            _ => Ok(()),
        }
    }

    fn match_rule(&self, method: &Method, path: &str) -> Result<RouteOptions, ProblemResponse> {
        let path = PlainPath::parse(path).map_err(ambiguous)?;
        match path.match_rule(method, &self.rules) {
            Ok(rule) => Ok(RouteOptions {
                rule: rule.map(|rule| rule.path.text().clone()),
                is_fresh: rule.is_some_and(|rule| rule.fresh),
                is_consuming: rule.is_some_and(|rule| rule.consuming),
            }),
            Err(_) if path.has_encoded_slash => Err(ambiguous(PathError::EncodedSlash)),
            Err(methods) if methods.is_empty() => Err(forbidden(problems::path_refused(&self.upstream))),
            Err(methods) => {
                let methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
                let methods = methods.join(" and ");
                Err(forbidden(problems::method_refused(
                    &self.upstream,
                    methods,
                    method,
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
    Err(ProblemResponse::new(
        StatusCode::LOOP_DETECTED,
        ProxyErrorType::ProxyLoopDetected,
        problems::loops(),
    ))
}

pub(super) fn is_loop(headers: &HeaderMap) -> bool {
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
    ProblemResponse::invalid(
        StatusCode::BAD_REQUEST,
        problems::path_ambiguous(error, error.fix()),
    )
}

fn forbidden(problem: Problem) -> ProblemResponse {
    ProblemResponse::denied(StatusCode::FORBIDDEN, problem)
}
