//! Where connections lead, and how an error on the way is reported: by host, port and call.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use super::error::{BrokenKind, ConnectError, ConnectErrorKind as Kind, SendError};
use super::resolve_error::{ResolveError, ResolveFailure};
use super::tunnel::{ProxyLogin, TunnelError};
use crate::config::{Endpoint, ProxyRoute};
use crate::problems::{self, Problem, api, network, outbound_proxy};
use crate::tls::{self, HandshakeFailure};

/// The host that calls of one kind go to.
#[derive(Clone)]
pub(super) struct Destination {
    /// The kind of calls.
    call: &'static str,
    /// Host and port.
    to: String,
    host: String,
    /// Host and port of the outbound proxy.
    proxy: Option<String>,
    has_login: bool,
}

impl Destination {
    pub(super) fn new(call: &'static str, endpoint: &Endpoint, route: Option<&ProxyRoute>) -> Self {
        let proxy = route.and_then(|route| route.uri.authority());
        Self {
            call,
            to: format!("{}:{}", endpoint.authority().host(), endpoint.port()),
            host: endpoint.host().to_owned(),
            proxy: proxy.map(ToString::to_string),
            has_login: route.is_some_and(|route| route.authorization.is_some()),
        }
    }

    /// The name of the first hop has no known address.
    pub(super) fn unresolved(&self, error: &ResolveError) -> ConnectError {
        let (call, host) = (self.call, &self.host);
        if let Some(proxy) = &self.proxy {
            let kind = Kind::of(error.reason);
            return kind.error(
                outbound_proxy::unreachable(proxy, error),
                kind == Kind::DnsTimeout,
            );
        }
        let problem = match error.reason {
            ResolveFailure::Silent => network::resolver_silent(call, host),
            ResolveFailure::NotFound => network::name_not_found(call, host),
            ResolveFailure::Failed => network::resolver_failed(call, host),
        };
        let kind = Kind::of(error.reason);
        kind.error(problem, kind == Kind::DnsTimeout)
    }

    /// TCP to the first hop failed, or took too long without an error.
    pub(super) fn tcp_failed(&self, addresses: &[SocketAddr], error: Option<&io::Error>) -> ConnectError {
        use io::ErrorKind as Io;
        let (call, to) = (self.call, &self.to);
        let address = addresses
            .first()
            .map_or_else(String::new, |address| address.ip().to_string());
        let failure = error.map_or(Io::TimedOut, io::Error::kind);
        let (kind, reason) = match failure {
            Io::ConnectionRefused => (Kind::Refused, "it refuses the connection"),
            Io::TimedOut => (Kind::Timeout, "it does not respond"),
            Io::PermissionDenied => (Kind::Unreachable, "this machine's own rules forbid it"),
            Io::NetworkUnreachable | Io::HostUnreachable => {
                (Kind::Unreachable, "this machine has no route to it")
            }
            _ => (Kind::Unreachable, "the connection broke"),
        };
        let problem = match (&self.proxy, failure) {
            (_, Io::PermissionDenied) => {
                network::connection_forbidden(call, self.proxy.as_ref().unwrap_or(to))
            }
            (Some(proxy), _) => outbound_proxy::unreachable(proxy, reason),
            (None, Io::ConnectionRefused) => network::connection_refused(call, to, address),
            (None, Io::TimedOut) => network::connection_timed_out(call, to, address),
            (None, Io::NetworkUnreachable | Io::HostUnreachable) => {
                network::network_unreachable(call, to, address)
            }
            (None, _) => network::connection_reset(call, to),
        };
        kind.error(problem, false)
    }

    /// The outbound proxy opened no tunnel; `None` if it took too long.
    pub(super) fn tunnel_failed(&self, error: Option<&TunnelError>) -> ConnectError {
        let (to, proxy) = (&self.to, self.proxy.as_deref().unwrap_or_default());
        let is_final = error.is_some_and(|error| !error.is_transient());
        let (kind, problem) = match error {
            None => (Kind::Timeout, outbound_proxy::silent(proxy)),
            Some(TunnelError::Refused(407, ProxyLogin::Other(schemes))) => {
                (Kind::Refused, outbound_proxy::auth_ntlm_only(proxy, schemes))
            }
            Some(TunnelError::Refused(407, _)) if self.has_login => {
                (Kind::Refused, outbound_proxy::auth_refused(proxy))
            }
            Some(TunnelError::Refused(407, _)) => (Kind::Refused, outbound_proxy::auth_needed(proxy)),
            Some(TunnelError::Redirects(location)) => {
                (Kind::Refused, outbound_proxy::redirects(proxy, location))
            }
            Some(TunnelError::Refused(400 | 401 | 404 | 405 | 411 | 501, _)) => {
                (Kind::Refused, outbound_proxy::not_http(proxy))
            }
            Some(TunnelError::Refused(status @ (402..=407 | 409..=428 | 430..=499), _)) => {
                (Kind::Refused, outbound_proxy::host_forbidden(proxy, to, status))
            }
            Some(TunnelError::Refused(status, _)) => {
                (Kind::Refused, outbound_proxy::cannot_reach(proxy, to, status))
            }
            Some(TunnelError::NotHttp) => (Kind::ProxyTerminated, outbound_proxy::not_http(proxy)),
            Some(TunnelError::Closed | TunnelError::Io(_)) => {
                (Kind::ProxyTerminated, outbound_proxy::closed(proxy))
            }
        };
        kind.error(problem, is_final)
    }

    /// The TLS handshake failed; `None` if it took too long. `is_asked` if the server asked for a client certificate.
    pub(super) fn handshake_failed(&self, error: Option<&io::Error>, is_asked: bool) -> ConnectError {
        let (call, to) = (self.call, self.to.as_str());
        let Some(error) = error else {
            return Kind::Timeout.error(problems::tls::tls_silent(call, to), false);
        };
        let Some((failure, problem)) = tls::handshake_problem(error, call, to, is_asked) else {
            return Kind::Unreachable.error(network::connection_reset(call, to), false);
        };
        let kind = match failure {
            HandshakeFailure::Certificate => Kind::Certificate,
            HandshakeFailure::Alert => Kind::TlsAlert,
            HandshakeFailure::Protocol => Kind::Tls,
        };
        kind.error(problem, true)
    }

    /// The upstream closed the connection before a byte of the request was written.
    pub(super) fn closed(&self) -> ConnectError {
        Kind::Unreachable.error(network::connection_reset(self.call, &self.to), false)
    }

    /// The request may have been sent, and got no response.
    pub(super) fn broken(&self, kind: BrokenKind, error: &hyper::Error) -> SendError {
        // In TLS 1.3 a server refuses a client after the handshake.
        let alert = tls::handshake_problem(error, self.call, &self.to, true);
        if let Some((HandshakeFailure::Alert, problem)) = alert {
            return SendError::Broken { kind, problem };
        }
        let to = &self.to;
        let problem = match kind {
            BrokenKind::Closed => api::cut_short(to, "it sent no response"),
            BrokenKind::Terminated => api::cut_short(to, end_of_connection(error)),
            BrokenKind::HeadTooLarge => api::not_http(to, "the head is over 64 KiB or 1,000 fields"),
            BrokenKind::NotHttp | BrokenKind::TransferCoding => api::not_http(to, error),
        };
        SendError::Broken { kind, problem }
    }

    /// The response is no HTTP/1.1, for this reason.
    pub(super) fn not_http(&self, kind: BrokenKind, reason: &str) -> SendError {
        let problem = api::not_http(&self.to, reason);
        SendError::Broken { kind, problem }
    }
}

/// How a connection ended, in plain words.
pub(super) fn end_of_connection(error: &hyper::Error) -> &'static str {
    let cause = error.source().and_then(<dyn Error>::downcast_ref::<io::Error>);
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "it reset the connection",
        Some(io::ErrorKind::UnexpectedEof) => "it ended the connection without notice",
        Some(io::ErrorKind::TimedOut) => "the connection timed out",
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => "its chunks are invalid",
        _ => "the connection broke",
    }
}

impl Kind {
    fn of(reason: ResolveFailure) -> Self {
        match reason {
            ResolveFailure::Silent => Self::DnsTimeout,
            ResolveFailure::NotFound | ResolveFailure::Failed => Self::Dns,
        }
    }

    fn error(self, problem: Problem, is_final: bool) -> ConnectError {
        ConnectError {
            kind: self,
            problem,
            is_final,
        }
    }
}
