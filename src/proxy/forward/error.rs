//! Why a request got no answer from the upstream, and the answer that it gets from us.
//!
//! 503 means that nothing was executed and it is safe to come again; 502 and 504 mean that the
//! upstream may have executed the request.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::StatusCode;

use super::super::connect::{BoxError, TimedOut};
use super::super::pull_error::PullError;
use super::super::socket::Flooded;
use super::super::tunnel::TunnelError;
use crate::resolver::ResolveError;
use crate::server::Answer;
use crate::token::Unavailable;

/// A request that was not relayed to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ProxyError {
    /// Not allowed, or not possible, as this answer says.
    #[error("{}", .0.detail)]
    Refused(Box<Answer>),
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] Unavailable),
    /// The upstream refused the token, and the body is no longer at hand.
    #[error("the upstream refused the token")]
    NotReplayable,
    /// No connection to the upstream: nothing was sent.
    #[error("cannot connect to the upstream")]
    Connect(#[source] BoxError),
    /// The exchange broke off after it began.
    #[error("the exchange with the upstream broke off")]
    Exchange(#[source] hyper::Error),
    /// The upstream switched protocols unasked.
    #[error("the upstream switched protocols")]
    Upgraded,
    /// The upstream coded its answer as nobody asked for.
    #[error("the upstream's answer has a transfer coding other than chunked")]
    Coding,
    /// The caller's body broke off.
    #[error("the request's body broke off")]
    Body,
    /// The caller's body came to a halt.
    #[error("the request's body stalled")]
    BodyStalled,
    /// The upstream stopped reading the body.
    #[error("the upstream stopped reading")]
    UploadStalled,
    /// The upstream did not answer in time, or there was no connection to it in time.
    #[error("the upstream did not answer")]
    Timeout { is_sent: bool },
    /// There is no message to answer with.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The stop's deadline came first.
    #[error("bondgate is stopping")]
    Stopping { is_sent: bool },
}

/// When a caller may send a request again after a failure that passes.
pub(in crate::proxy) const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Answer> for ProxyError {
    fn from(answer: Answer) -> Self {
        Self::Refused(Box::new(answer))
    }
}

impl ProxyError {
    /// Whether the upstream has certainly not executed the request.
    pub(in crate::proxy) fn is_not_executed(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::NoToken(_)
                | Self::NotReplayable
                | Self::Connect(_)
                | Self::Timeout { is_sent: false }
                | Self::Stopping { is_sent: false }
        )
    }

    /// The response for the caller, which names the upstream.
    pub(in crate::proxy) fn into_answer(self, upstream: &str) -> Answer {
        let not_executed = |error, reason: &str| {
            Answer::not_executed(error, format_args!("{upstream}: {reason}"), RETRY_AFTER)
        };
        let may_have_been_executed = |status, error, reason: &str| {
            Answer::may_have_been_executed(status, error, format_args!("{upstream}: {reason}"))
        };
        let (bad_gateway, timeout) = (StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT);
        match self {
            Self::Refused(answer) => *answer,
            Self::NoToken(unavailable) => Answer::not_executed(
                "proxy_internal_response",
                format_args!("{upstream}: {unavailable}"),
                unavailable.retry_after,
            ),
            Self::NotReplayable => Answer::unavailable(
                "proxy_internal_response",
                format!(
                    "{upstream}: it refused the token, and this body is no longer available to send it with the new \
                     token; it was not executed, send it again"
                ),
                RETRY_AFTER,
            ),
            Self::Connect(error) => {
                let (kind, reason) = connect_failure(&*error);
                not_executed(kind, &reason)
            }
            Self::Exchange(error) => {
                let (kind, reason) = exchange_failure(&error);
                may_have_been_executed(bad_gateway, kind, &reason)
            }
            Self::Upgraded => may_have_been_executed(
                bad_gateway,
                "http_upgrade_failed",
                "it switched protocols without a request to",
            ),
            Self::Coding => may_have_been_executed(
                bad_gateway,
                "http_response_transfer_coding",
                "its response has a transfer coding other than chunked",
            ),
            Self::Body => Answer::new(
                StatusCode::BAD_REQUEST,
                "http_request_error",
                "the request's body ended early",
            ),
            Self::BodyStalled => Answer::new(
                StatusCode::REQUEST_TIMEOUT,
                "http_request_error",
                "the request's body stalled for longer than timeout.idle",
            ),
            Self::UploadStalled => may_have_been_executed(
                timeout,
                "connection_write_timeout",
                "it read nothing of the request for timeout.idle",
            ),
            Self::Pull(error) => error.into_answer(upstream),
            Self::Timeout { is_sent: true } => may_have_been_executed(
                timeout,
                "http_response_timeout",
                "no response within timeout.head",
            ),
            Self::Timeout { is_sent: false } => {
                not_executed("connection_timeout", "no connection within timeout.head")
            }
            Self::Stopping { is_sent: true } => may_have_been_executed(
                timeout,
                "proxy_internal_response",
                "bondgate is stopping and cannot wait for its response any longer",
            ),
            Self::Stopping { is_sent: false } => {
                not_executed("proxy_internal_response", "bondgate is stopping")
            }
        }
    }
}

/// A failure and each error below it, what `io::Error`s are wrapped around too: hyper-rustls wraps
/// twice, and `source` passes over that.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&link: &&'a (dyn StdError + 'static)| {
        match link.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => link.source(),
        }
    })
}

pub(in crate::proxy) fn find<'a, E: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a E> {
    chain(error).find_map(<dyn StdError>::downcast_ref)
}

fn deepest(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn connect_failure(error: &(dyn StdError + 'static)) -> (&'static str, String) {
    if find::<TimedOut>(error).is_some() {
        return (
            "connection_timeout",
            "no connection within timeout.connect".to_owned(),
        );
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return match tls {
            _ if crate::tls::is_version_1(tls) => (
                "tls_certificate_error",
                format!(
                    "its certificate is {}; whoever runs it has to replace it by one of version 3",
                    crate::tls::VERSION_1
                ),
            ),
            rustls::Error::InvalidCertificate(why) => (
                "tls_certificate_error",
                format!("its certificate is not trusted ({why:?}); a private CA goes into ca_file"),
            ),
            rustls::Error::AlertReceived(alert) => (
                "tls_alert_received",
                format!("it broke the TLS handshake off ({alert:?})"),
            ),
            other => (
                "tls_protocol_error",
                format!("the TLS handshake failed ({other})"),
            ),
        };
    }
    match find::<ResolveError>(error) {
        Some(error @ ResolveError::TimedOut(_)) => return ("dns_timeout", error.to_string()),
        Some(error @ ResolveError::Failed { source, .. }) => {
            return ("dns_error", format!("{error} ({source})"));
        }
        None => {}
    }
    if let Some(tunnel) = find::<TunnelError>(error) {
        return tunnel_failure(tunnel);
    }
    let system = chain(error).filter_map(<dyn StdError>::downcast_ref::<io::Error>);
    match system.last().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            ("connection_refused", "the connection is refused".to_owned())
        }
        Some(io::ErrorKind::TimedOut) => ("connection_timeout", "the connection timed out".to_owned()),
        _ => (
            "destination_unavailable",
            format!("cannot connect ({})", deepest(error)),
        ),
    }
}

fn tunnel_failure(error: &TunnelError) -> (&'static str, String) {
    let told = match error {
        TunnelError::Refused(407) => {
            "the outbound proxy wants other credentials (407); they stand in proxy".to_owned()
        }
        TunnelError::Refused(status @ 400..500) => {
            format!(
                "the outbound proxy does not let this upstream through ({status}); its administrators can"
            )
        }
        TunnelError::Refused(status) => format!("the outbound proxy cannot reach it ({status})"),
        TunnelError::Closed | TunnelError::Garbled | TunnelError::Io(_) => {
            let error: &(dyn StdError + 'static) = error;
            return ("connection_terminated", format!("{error} ({})", deepest(error)));
        }
    };
    ("connection_refused", told)
}

fn exchange_failure(error: &(dyn StdError + 'static)) -> (&'static str, String) {
    if find::<Flooded>(error).is_some() {
        return (
            "http_protocol_error",
            "it sent one interim answer (1xx) after the other, and no answer".to_owned(),
        );
    }
    match find::<hyper::Error>(error) {
        Some(http) if http.is_incomplete_message() => (
            "http_response_incomplete",
            "it closed the connection without an answer".to_owned(),
        ),
        Some(http) if http.is_parse_too_large() => (
            "http_response_header_section_size",
            "the head of its response is over 64 KiB or 1,000 fields".to_owned(),
        ),
        Some(http) if http.is_parse() => (
            "http_protocol_error",
            format!("its answer is not HTTP/1.1 ({http})"),
        ),
        _ => (
            "connection_terminated",
            format!("the connection broke ({})", deepest(error)),
        ),
    }
}
