//! Why a request got no answer from the upstream, and the answer that it gets from us.
//!
//! 503 means that nothing was executed and it is safe to come again; 502 and 504 mean that the
//! upstream may have executed the request.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use crate::server::{ProblemResponse, ProxyErrorType};
use crate::token::Unavailable;
use crate::upstream::{ConnectError, ResolveError, SendError, TunnelError};

/// A request that was not relayed to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ProxyError {
    /// Not allowed, or not possible, as this answer says.
    #[error("{}", .0.detail)]
    Refused(Box<ProblemResponse>),
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
    /// The stop's deadline came first.
    #[error("bondgate is stopping")]
    Stopping { is_sent: bool },
}

impl From<ProblemResponse> for ProxyError {
    fn from(problem: ProblemResponse) -> Self {
        Self::Refused(Box::new(problem))
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
                | Self::Upstream(SendError::NotSent(_))
                | Self::Timeout { is_sent: false }
                | Self::Stopping { is_sent: false }
        )
    }

    /// The response for the caller, which names the upstream.
    pub(in crate::proxy) fn into_problem(self, upstream: &str) -> ProblemResponse {
        let not_executed =
            |error, reason: &str| ProblemResponse::not_executed(error, format_args!("{upstream}: {reason}"));
        let may_have_been_executed = |status, error, reason: &str| {
            ProblemResponse::may_have_been_executed(status, error, format_args!("{upstream}: {reason}"))
        };
        let (bad_gateway, timeout) = (StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT);
        match self {
            Self::Refused(problem) => *problem,
            Self::NoToken(unavailable) => ProblemResponse {
                retry_after: Some(unavailable.retry_after),
                ..not_executed(ProxyErrorType::ProxyInternalResponse, &unavailable.to_string())
            },
            Self::NotReplayable => not_executed(
                ProxyErrorType::ProxyInternalResponse,
                "it rejected the token, and bondgate has not kept this body to send it again",
            ),
            Self::Upstream(SendError::NotSent(error)) => {
                let (kind, reason) = connect_failure(&error);
                not_executed(kind, &reason)
            }
            Self::Upstream(SendError::Broken(error)) => {
                let (kind, reason) = exchange_failure(&error);
                may_have_been_executed(bad_gateway, kind, &reason)
            }
            Self::Upstream(SendError::InterimResponses) => may_have_been_executed(
                bad_gateway,
                ProxyErrorType::HttpProtocolError,
                "it sent one interim response (1xx) after the other, and no final one",
            ),
            Self::Upstream(SendError::TransferCoding) => may_have_been_executed(
                bad_gateway,
                ProxyErrorType::HttpResponseTransferCoding,
                "its response has a transfer coding other than chunked",
            ),
            Self::Upgraded => may_have_been_executed(
                bad_gateway,
                ProxyErrorType::HttpUpgradeFailed,
                "it switched protocols without a request to",
            ),
            Self::Body => ProblemResponse::new(
                StatusCode::BAD_REQUEST,
                ProxyErrorType::HttpRequestError,
                "the request's body ended early",
            ),
            Self::BodyStalled => ProblemResponse::new(
                StatusCode::REQUEST_TIMEOUT,
                ProxyErrorType::HttpRequestError,
                "the request's body stalled for longer than timeout.idle",
            ),
            Self::UploadStalled => may_have_been_executed(
                timeout,
                ProxyErrorType::ConnectionWriteTimeout,
                "it read nothing of the request for timeout.idle",
            ),
            Self::Timeout { is_sent: true } => may_have_been_executed(
                timeout,
                ProxyErrorType::HttpResponseTimeout,
                "no response within timeout.head",
            ),
            Self::Timeout { is_sent: false } => not_executed(
                ProxyErrorType::ConnectionTimeout,
                "no connection within timeout.head",
            ),
            Self::Stopping { is_sent: true } => may_have_been_executed(
                timeout,
                ProxyErrorType::ProxyInternalResponse,
                "bondgate is stopping and cannot wait for its response any longer",
            ),
            Self::Stopping { is_sent: false } => {
                not_executed(ProxyErrorType::ProxyInternalResponse, "bondgate is stopping")
            }
        }
    }
}

fn connect_failure(error: &ConnectError) -> (ProxyErrorType, String) {
    match error {
        ConnectError::Timeout => (ProxyErrorType::ConnectionTimeout, error.to_string()),
        ConnectError::Tls(tls) => tls_failure(tls),
        ConnectError::Resolve(error @ ResolveError::TimedOut(_)) => {
            (ProxyErrorType::DnsTimeout, error.to_string())
        }
        ConnectError::Resolve(error @ ResolveError::Failed { source, .. }) => {
            (ProxyErrorType::DnsError, format!("{error} ({source})"))
        }
        ConnectError::Tunnel(error) => tunnel_failure(error),
        ConnectError::Io(system) => match system.kind() {
            io::ErrorKind::ConnectionRefused => (
                ProxyErrorType::ConnectionRefused,
                "the connection is refused".to_owned(),
            ),
            io::ErrorKind::TimedOut => (
                ProxyErrorType::ConnectionTimeout,
                "the connection timed out".to_owned(),
            ),
            _ => (
                ProxyErrorType::DestinationUnavailable,
                format!("cannot connect ({})", deepest(system)),
            ),
        },
        ConnectError::Closed(error) => (
            ProxyErrorType::DestinationUnavailable,
            format!("cannot connect ({})", deepest(error)),
        ),
    }
}

fn tls_failure(error: &rustls::Error) -> (ProxyErrorType, String) {
    match error {
        _ if crate::tls::is_version_1(error) => (
            ProxyErrorType::TlsCertificateError,
            format!(
                "its certificate is {}; its operator has to replace it by one of version 3",
                crate::tls::VERSION_1
            ),
        ),
        rustls::Error::InvalidCertificate(why) => (
            ProxyErrorType::TlsCertificateError,
            format!("its certificate is not trusted ({why:?}); a private CA goes into ca_file"),
        ),
        rustls::Error::AlertReceived(alert) => (
            ProxyErrorType::TlsAlertReceived,
            format!("it aborted the TLS handshake ({alert:?})"),
        ),
        other => (
            ProxyErrorType::TlsProtocolError,
            format!("the TLS handshake failed ({other})"),
        ),
    }
}

fn tunnel_failure(error: &TunnelError) -> (ProxyErrorType, String) {
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
        TunnelError::Io(source) => {
            return (
                ProxyErrorType::ConnectionTerminated,
                format!("{error} ({source})"),
            );
        }
        TunnelError::Closed | TunnelError::NotHttp => {
            return (ProxyErrorType::ConnectionTerminated, error.to_string());
        }
    };
    (ProxyErrorType::ConnectionRefused, reason)
}

fn exchange_failure(error: &hyper::Error) -> (ProxyErrorType, String) {
    if error.is_incomplete_message() {
        (
            ProxyErrorType::HttpResponseIncomplete,
            "it closed the connection without a response".to_owned(),
        )
    } else if error.is_parse_too_large() {
        (
            ProxyErrorType::HttpResponseHeaderSectionSize,
            "the head of its response is over 64 KiB or 1,000 fields".to_owned(),
        )
    } else if error.is_parse() {
        (
            ProxyErrorType::HttpProtocolError,
            format!("its response is not HTTP/1.1 ({error})"),
        )
    } else {
        (
            ProxyErrorType::ConnectionTerminated,
            format!("the connection broke ({})", deepest(error)),
        )
    }
}

/// The text of the error that caused the others.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
