//! Why a request got no answer from the upstream, and the answer that it gets from us.
//!
//! 503 means that nothing was executed and it is safe to come again; 502 and 504 mean that the
//! upstream may have executed the request.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::StatusCode;

use super::pull_error::PullError;
use crate::server::Answer;
use crate::token::Unavailable;
use crate::upstream::{ConnectError, ResolveError, SendError, TunnelError};

/// A request that was not relayed to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// Not allowed, or not possible, as this answer says.
    #[error("{}", .0.detail)]
    Refused(Box<Answer>),
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] Unavailable),
    /// The upstream refused the token, and the body is no longer at hand.
    #[error("the upstream refused the token")]
    NotReplayable,
    /// No connection to the upstream, or no valid response from it.
    #[error(transparent)]
    Upstream(#[from] SendError),
    /// The upstream switched protocols unasked.
    #[error("the upstream switched protocols")]
    Upgraded,
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

/// When a caller may try again after a failure that passes.
pub(super) const SOON: Duration = Duration::from_secs(1);

pub(super) const UNDONE: &str = "nothing was sent, and it is safe to send it again";
pub(super) const UNKNOWN: &str = "the upstream may have executed it";

impl From<Answer> for ProxyError {
    fn from(answer: Answer) -> Self {
        Self::Refused(Box::new(answer))
    }
}

impl ProxyError {
    /// Whether the upstream has surely executed nothing.
    pub(super) fn is_undone(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::NoToken(_)
                | Self::NotReplayable
                | Self::Upstream(SendError::NotSent(_))
                | Self::Timeout { is_sent: false }
                | Self::Stopping { is_sent: false }
        )
    }

    /// The answer that the caller gets; `upstream` is the upstream's name in it.
    pub(super) fn into_answer(self, upstream: &str) -> Answer {
        let bad_gateway = |error, what: &str| {
            Answer::new(
                StatusCode::BAD_GATEWAY,
                error,
                format!("{upstream}: {what}; {UNKNOWN}"),
            )
        };
        let timeout = |error, what: &str| {
            Answer::new(
                StatusCode::GATEWAY_TIMEOUT,
                error,
                format!("{upstream}: {what}; {UNKNOWN}"),
            )
        };
        let undone =
            |error, what: &str| Answer::unavailable(error, format!("{upstream}: {what}; {UNDONE}"), SOON);
        match self {
            Self::Refused(answer) => *answer,
            Self::NoToken(unavailable) => Answer::unavailable(
                "proxy_internal_response",
                format!("{upstream}: {unavailable}; {UNDONE}"),
                unavailable.retry_after,
            ),
            Self::NotReplayable => Answer::unavailable(
                "proxy_internal_response",
                format!(
                    "{upstream}: the token was just replaced, and this body is no longer at hand; it was not processed, send it again"
                ),
                SOON,
            ),
            Self::Upstream(SendError::NotSent(error)) => {
                let (kind, what) = connect_failure(&error);
                undone(kind, &what)
            }
            Self::Upstream(SendError::Broken(error)) => {
                let (kind, what) = exchange_failure(&error);
                bad_gateway(kind, &what)
            }
            Self::Upstream(SendError::InterimResponses) => bad_gateway(
                "http_protocol_error",
                "it sent one interim response (1xx) after the other, and no final one",
            ),
            Self::Upstream(SendError::TransferCoding) => bad_gateway(
                "http_response_transfer_coding",
                "its response has a transfer coding other than chunked",
            ),
            Self::Upgraded => bad_gateway(
                "http_upgrade_failed",
                "it switched protocols, which nobody asked for",
            ),
            Self::Body => Answer::new(
                StatusCode::BAD_REQUEST,
                "http_request_error",
                "the request's body broke off",
            ),
            Self::BodyStalled => Answer::new(
                StatusCode::REQUEST_TIMEOUT,
                "http_request_error",
                "the request's body stalled for longer than timeout.idle",
            ),
            Self::UploadStalled => timeout(
                "connection_write_timeout",
                "it read nothing of the request for timeout.idle",
            ),
            Self::Pull(error) => error.into_answer(upstream),
            Self::Timeout { is_sent: true } => {
                timeout("http_response_timeout", "it did not answer within timeout.head")
            }
            Self::Timeout { is_sent: false } => {
                undone("connection_timeout", "no connection within timeout.head")
            }
            Self::Stopping { is_sent: true } => timeout(
                "proxy_internal_response",
                "bondgate is stopping and cannot wait any longer",
            ),
            Self::Stopping { is_sent: false } => undone("proxy_internal_response", "bondgate is stopping"),
        }
    }
}

fn connect_failure(error: &ConnectError) -> (&'static str, String) {
    match error {
        ConnectError::Timeout => ("connection_timeout", error.to_string()),
        ConnectError::Tls(tls) => tls_failure(tls),
        ConnectError::Resolve(error @ ResolveError::TimedOut(_)) => ("dns_timeout", error.to_string()),
        ConnectError::Resolve(error @ ResolveError::Failed { source, .. }) => {
            ("dns_error", format!("{error} ({source})"))
        }
        ConnectError::Tunnel(error) => tunnel_failure(error),
        ConnectError::Io(system) => match system.kind() {
            io::ErrorKind::ConnectionRefused => {
                ("connection_refused", "the connection is refused".to_owned())
            }
            io::ErrorKind::TimedOut => ("connection_timeout", "the connection timed out".to_owned()),
            _ => (
                "destination_unavailable",
                format!("cannot connect ({})", deepest(system)),
            ),
        },
        ConnectError::Closed(error) => (
            "destination_unavailable",
            format!("cannot connect ({})", deepest(error)),
        ),
    }
}

fn tls_failure(error: &rustls::Error) -> (&'static str, String) {
    match error {
        _ if crate::tls::is_version_1(error) => (
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
    }
}

fn tunnel_failure(error: &TunnelError) -> (&'static str, String) {
    let reason = match error {
        TunnelError::Refused(407) => {
            "the outbound proxy refuses the credentials (407); correct them in proxy".to_owned()
        }
        TunnelError::Refused(status @ 400..500) => {
            format!(
                "the outbound proxy does not allow this upstream ({status}); ask its administrators to allow it"
            )
        }
        TunnelError::Refused(status) => format!("the outbound proxy cannot reach it ({status})"),
        TunnelError::Io(source) => return ("connection_terminated", format!("{error} ({source})")),
        TunnelError::Closed | TunnelError::NotHttp => return ("connection_terminated", error.to_string()),
    };
    ("connection_refused", reason)
}

fn exchange_failure(error: &hyper::Error) -> (&'static str, String) {
    if error.is_incomplete_message() {
        (
            "http_response_incomplete",
            "it closed the connection without a response".to_owned(),
        )
    } else if error.is_parse_too_large() {
        (
            "http_response_header_section_size",
            "the head of its response is over 64 KiB or 1,000 fields".to_owned(),
        )
    } else if error.is_parse() {
        (
            "http_protocol_error",
            format!("its response is not HTTP/1.1 ({error})"),
        )
    } else {
        (
            "connection_terminated",
            format!("the connection broke ({})", deepest(error)),
        )
    }
}

/// The text of the error that caused the others.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
