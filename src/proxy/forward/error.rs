//! Why a request gets no response from the upstream, and bondgate's response in that case.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use crate::server::{ProblemResponse, ProxyErrorType};
use crate::tls;
use crate::token::Unavailable;
use crate::upstream::{ConnectError, ResolveError, SendError, TunnelError};

/// A request that got no response from the upstream. The text follows the upstream's name.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ProxyError {
    /// The request is refused.
    #[error("{}", .0.detail)]
    Refused(Box<ProblemResponse>),
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] Unavailable),
    /// The upstream rejected the token, and the body is not available for a second attempt.
    #[error("it rejected the token, and bondgate has not kept this body to send it again")]
    NotReplayable,
    /// There is no connection to the upstream, or no valid response from it.
    #[error("{}", describe(.0).2)]
    Upstream(#[from] SendError),
    /// The upstream switched protocols.
    #[error("it switched protocols without a request to")]
    Upgraded,
    /// The caller's body ended early.
    #[error(transparent)]
    Body(#[from] UploadError),
    /// The upstream stopped reading the body.
    #[error("it read nothing of the request for timeout.idle")]
    UploadStalled,
    /// There was no response in time, or no connection.
    #[error("no {} within timeout.head", if *is_sent { "response" } else { "connection" })]
    Timeout { is_sent: bool },
    /// The stop's deadline came first.
    #[error("bondgate is stopping and cannot wait for its response any longer")]
    Stopping { is_sent: bool },
}

/// The caller's body ended early.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(in crate::proxy) enum UploadError {
    /// The caller's connection broke, or its framing is invalid.
    #[error("the request's body ended early")]
    Broken,
    /// The caller sent nothing for `timeout.idle`.
    #[error("the request's body stalled for longer than timeout.idle")]
    Stalled,
}

impl From<ProblemResponse> for ProxyError {
    fn from(problem: ProblemResponse) -> Self {
        Self::Refused(Box::new(problem))
    }
}

/// The status of an error by which the upstream has certainly not executed the request.
const NOT_EXECUTED: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

impl ProxyError {
    /// Whether the upstream has certainly not executed the request.
    pub(in crate::proxy) fn is_not_executed(&self) -> bool {
        matches!(self, Self::Refused(_)) || self.classify().0 == NOT_EXECUTED
    }

    /// The response to the caller; `upstream` is the upstream's name in it.
    pub(in crate::proxy) fn into_problem(self, upstream: &str) -> ProblemResponse {
        let (status, error) = self.classify();
        let reason = format!("{upstream}: {self}");
        match self {
            Self::Refused(problem) => *problem,
            Self::Body(early) => ProblemResponse::new(status, error, early.to_string()),
            Self::NoToken(unavailable) => ProblemResponse {
                retry_after: Some(unavailable.retry_after),
                ..ProblemResponse::not_executed(error, reason)
            },
            _ if status == NOT_EXECUTED => ProblemResponse::not_executed(error, reason),
            _ => ProblemResponse::may_have_been_executed(status, error, reason),
        }
    }

    fn classify(&self) -> (StatusCode, ProxyErrorType) {
        use ProxyErrorType as Type;
        match self {
            Self::Refused(problem) => (problem.status, problem.error),
            Self::NoToken(_) | Self::NotReplayable | Self::Stopping { is_sent: false } => {
                (NOT_EXECUTED, Type::ProxyInternalResponse)
            }
            Self::Upstream(error) => {
                let (status, error, _) = describe(error);
                (status, error)
            }
            Self::Upgraded => (StatusCode::BAD_GATEWAY, Type::HttpUpgradeFailed),
            Self::Body(UploadError::Broken) => (StatusCode::BAD_REQUEST, Type::HttpRequestError),
            Self::Body(UploadError::Stalled) => (StatusCode::REQUEST_TIMEOUT, Type::HttpRequestError),
            Self::UploadStalled => (StatusCode::GATEWAY_TIMEOUT, Type::ConnectionWriteTimeout),
            Self::Timeout { is_sent: true } => (StatusCode::GATEWAY_TIMEOUT, Type::HttpResponseTimeout),
            Self::Timeout { is_sent: false } => (NOT_EXECUTED, Type::ConnectionTimeout),
            Self::Stopping { is_sent: true } => (StatusCode::GATEWAY_TIMEOUT, Type::ProxyInternalResponse),
        }
    }
}

/// A send error, with the fix where it is known.
fn describe(error: &SendError) -> (StatusCode, ProxyErrorType, String) {
    use ProxyErrorType as Type;
    let (error, reason) = match error {
        SendError::NotSent(error) => {
            let (error, reason) = describe_connect(error);
            return (NOT_EXECUTED, error, reason);
        }
        SendError::InterimResponses => (
            Type::HttpProtocolError,
            "it sent one interim response (1xx) after the other, and no final one".to_owned(),
        ),
        SendError::TransferCoding => (
            Type::HttpResponseTransferCoding,
            "its response has a transfer coding other than chunked".to_owned(),
        ),
        SendError::Broken(error) if error.is_incomplete_message() => (
            Type::HttpResponseIncomplete,
            "it closed the connection without a response".to_owned(),
        ),
        SendError::Broken(error) if error.is_parse_too_large() => (
            Type::HttpResponseHeaderSectionSize,
            "the head of its response is over 64 KiB or 1,000 fields".to_owned(),
        ),
        SendError::Broken(error) if error.is_parse() => (
            Type::HttpProtocolError,
            format!("its response is not HTTP/1.1 ({error})"),
        ),
        SendError::Broken(error) => (
            Type::ConnectionTerminated,
            format!("the connection broke ({})", root_cause(error)),
        ),
    };
    (StatusCode::BAD_GATEWAY, error, reason)
}

fn describe_connect(error: &ConnectError) -> (ProxyErrorType, String) {
    use ProxyErrorType as Type;
    match error {
        ConnectError::Timeout => (Type::ConnectionTimeout, error.to_string()),
        ConnectError::Resolve(error @ ResolveError::TimedOut(_)) => (Type::DnsTimeout, error.to_string()),
        ConnectError::Resolve(error @ ResolveError::Failed { source, .. }) => {
            (Type::DnsError, format!("{error} ({source})"))
        }
        ConnectError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            (Type::ConnectionRefused, "the connection is refused".to_owned())
        }
        ConnectError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            (Type::ConnectionTimeout, "the connection timed out".to_owned())
        }
        ConnectError::Io(_) | ConnectError::Closed(_) => (
            Type::DestinationUnavailable,
            format!("cannot connect ({})", root_cause(error)),
        ),
        ConnectError::Tunnel(error @ TunnelError::Io(source)) => {
            (Type::ConnectionTerminated, format!("{error} ({source})"))
        }
        ConnectError::Tunnel(error @ (TunnelError::Closed | TunnelError::NotHttp)) => {
            (Type::ConnectionTerminated, error.to_string())
        }
        ConnectError::Tunnel(error @ TunnelError::Refused(status)) => {
            let advice = match status {
                407 => "it rejects the credentials in proxy; correct them",
                400..500 => "it does not allow this upstream; ask its administrators to allow it",
                _ => "it cannot reach the upstream",
            };
            (Type::ConnectionRefused, format!("{error}: {advice}"))
        }
        ConnectError::Tls(error) if tls::is_version_1(error) => (
            Type::TlsCertificateError,
            format!(
                "its certificate is {}; its operator has to replace it by one of version 3",
                tls::VERSION_1
            ),
        ),
        ConnectError::Tls(rustls::Error::InvalidCertificate(why)) => (
            Type::TlsCertificateError,
            format!("its certificate is not trusted ({why:?}); a private CA goes into ca_file"),
        ),
        ConnectError::Tls(rustls::Error::AlertReceived(alert)) => (
            Type::TlsAlertReceived,
            format!("it aborted the TLS handshake ({alert:?})"),
        ),
        ConnectError::Tls(error) => (
            Type::TlsProtocolError,
            format!("the TLS handshake failed ({error})"),
        ),
    }
}

/// The error that caused the others.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
