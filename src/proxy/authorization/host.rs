//! Checks that a request is meant for its listener: its host is one of the listener's names.

use http::header::HOST;
use http::uri::Authority;
use http::{Request, StatusCode, Uri};

use crate::problems::request as problems;
use crate::server::{HostNames, ProblemResponse};

/// Refuses a request for another host (RFC 9110 §15.5.20), as a web page sends it that rebinds its own name.
pub(super) fn check<B>(hosts: &HostNames, request: &Request<B>) -> Result<(), ProblemResponse> {
    if hosts.allow(request.uri(), request.headers()) {
        return Ok(());
    }
    let problem = problems::host_refused(foreign_host(hosts, request));
    Err(ProblemResponse::denied(StatusCode::MISDIRECTED_REQUEST, problem))
}

/// The host name that is not the listener's, in brackets, if it is valid and short.
fn foreign_host<B>(hosts: &HostNames, request: &Request<B>) -> String {
    let headers = request.headers();
    let name = if hosts.allow(&Uri::default(), headers) {
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
