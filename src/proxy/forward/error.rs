//! Why a request gets no response from the upstream, and bondgate's response in that case.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::problems::{Problem, api, request};
use crate::server::{ProblemResponse, ProxyErrorType};
use crate::token::Unavailable;
use crate::upstream::{BrokenKind, ConnectErrorKind, SendError};

/// A request that got no response from the upstream.
#[derive(Debug)]
pub(in crate::proxy) enum ProxyError {
    /// The request is refused.
    Refused(Box<ProblemResponse>),
    /// There is no token to send.
    NoToken(Unavailable),
    /// The upstream rejected the token, and the body is not available for a second attempt.
    NotReplayable,
    /// There is no connection to the upstream, or no valid response from it.
    Upstream(SendError),
    /// The upstream switched protocols.
    Upgraded,
    /// The caller's body ended early.
    Body(UploadError),
    /// The upstream stopped reading the body.
    UploadStalled,
    /// There was no response in time, or no connection.
    Timeout { is_sent: bool, limit: Duration },
    /// The stop's deadline came first.
    Stopping { is_sent: bool },
}

/// The caller's body ended early.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(in crate::proxy) enum UploadError {
    /// The caller's connection broke, or its framing is invalid.
    #[error("the request's body ended early")]
    Broken,
    /// The caller sent nothing for `timeout.idle`.
    #[error("the request's body stalled")]
    Stalled,
}

impl From<Unavailable> for ProxyError {
    fn from(unavailable: Unavailable) -> Self {
        Self::NoToken(unavailable)
    }
}

impl From<SendError> for ProxyError {
    fn from(error: SendError) -> Self {
        Self::Upstream(error)
    }
}

impl From<UploadError> for ProxyError {
    fn from(error: UploadError) -> Self {
        Self::Body(error)
    }
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

    /// Whether it says something about the API, and not about the request, the token or this daemon.
    pub(super) fn concerns_api(&self) -> bool {
        match self {
            Self::Upstream(_) | Self::Upgraded | Self::UploadStalled | Self::Timeout { .. } => true,
            Self::Refused(_)
            | Self::NoToken(_)
            | Self::NotReplayable
            | Self::Body(_)
            | Self::Stopping { .. } => false,
        }
    }

    /// The response to the caller; `upstream` is the upstream's name in it.
    pub(in crate::proxy) fn into_response(self, upstream: &Arc<str>) -> ProblemResponse {
        let (status, error) = self.classify();
        let problem = self.problem();
        let response = match self {
            Self::Refused(response) => return *response,
            Self::Body(_) => return ProblemResponse::new(status, error, problem),
            Self::NoToken(unavailable) => ProblemResponse {
                retry_after: Some(unavailable.retry_after),
                ..ProblemResponse::not_executed(error, problem)
            },
            _ if status == NOT_EXECUTED => ProblemResponse::not_executed(error, problem),
            _ => ProblemResponse::may_have_been_executed(status, error, problem),
        };
        ProblemResponse {
            upstream: Some(upstream.clone()),
            ..response
        }
    }

    /// What happened, and what to do.
    pub(in crate::proxy) fn problem(&self) -> Problem {
        match self {
            Self::Refused(response) => response.problem.clone(),
            Self::NoToken(unavailable) => unavailable.problem.clone(),
            Self::NotReplayable => request::body_not_kept(),
            Self::Upstream(SendError::NotSent(error)) => error.problem.clone(),
            Self::Upstream(SendError::Broken { problem, .. }) => problem.clone(),
            Self::Upgraded => request::protocol_switched(),
            Self::Body(UploadError::Broken) => request::body_cut(),
            Self::Body(UploadError::Stalled) => request::body_stalled(),
            Self::UploadStalled => request::upload_stalled(),
            Self::Timeout { is_sent: true, limit } => api::silent("the API", limit.as_secs()),
            Self::Timeout { is_sent: false, .. } => request::no_connection(),
            Self::Stopping { is_sent: true } => {
                request::stopping(" and cannot wait for the response any longer")
            }
            Self::Stopping { is_sent: false } => request::stopping(""),
        }
    }

    fn classify(&self) -> (StatusCode, ProxyErrorType) {
        use ProxyErrorType as Type;
        match self {
            Self::Refused(problem) => (problem.status, problem.error),
            Self::NoToken(_) | Self::NotReplayable | Self::Stopping { is_sent: false } => {
                (NOT_EXECUTED, Type::ProxyInternalResponse)
            }
            Self::Upstream(SendError::NotSent(error)) => (NOT_EXECUTED, connect_error_type(error.kind)),
            Self::Upstream(SendError::Broken { kind, .. }) => (StatusCode::BAD_GATEWAY, broken_type(*kind)),
            Self::Upgraded => (StatusCode::BAD_GATEWAY, Type::HttpUpgradeFailed),
            Self::Body(UploadError::Broken) => (StatusCode::BAD_REQUEST, Type::HttpRequestError),
            Self::Body(UploadError::Stalled) => (StatusCode::REQUEST_TIMEOUT, Type::HttpRequestError),
            Self::UploadStalled => (StatusCode::GATEWAY_TIMEOUT, Type::ConnectionWriteTimeout),
            Self::Timeout { is_sent: true, .. } => (StatusCode::GATEWAY_TIMEOUT, Type::HttpResponseTimeout),
            Self::Timeout { is_sent: false, .. } => (NOT_EXECUTED, Type::ConnectionTimeout),
            Self::Stopping { is_sent: true } => (StatusCode::GATEWAY_TIMEOUT, Type::ProxyInternalResponse),
        }
    }
}

fn connect_error_type(kind: ConnectErrorKind) -> ProxyErrorType {
    use ProxyErrorType as Type;
    match kind {
        ConnectErrorKind::DnsTimeout => Type::DnsTimeout,
        ConnectErrorKind::Dns => Type::DnsError,
        ConnectErrorKind::Timeout => Type::ConnectionTimeout,
        ConnectErrorKind::Refused => Type::ConnectionRefused,
        ConnectErrorKind::Unreachable => Type::DestinationUnavailable,
        ConnectErrorKind::ProxyTerminated => Type::ConnectionTerminated,
        ConnectErrorKind::Certificate => Type::TlsCertificateError,
        ConnectErrorKind::TlsAlert => Type::TlsAlertReceived,
        ConnectErrorKind::Tls => Type::TlsProtocolError,
    }
}

fn broken_type(kind: BrokenKind) -> ProxyErrorType {
    use ProxyErrorType as Type;
    match kind {
        BrokenKind::Closed => Type::HttpResponseIncomplete,
        BrokenKind::Terminated => Type::ConnectionTerminated,
        BrokenKind::HeadTooLarge => Type::HttpResponseHeaderSectionSize,
        BrokenKind::NotHttp => Type::HttpProtocolError,
        BrokenKind::TransferCoding => Type::HttpResponseTransferCoding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_a_failure_to_connect_as_responses_do() {
        use ConnectErrorKind as Kind;
        for kind in [
            Kind::DnsTimeout,
            Kind::Dns,
            Kind::Timeout,
            Kind::Refused,
            Kind::Unreachable,
            Kind::ProxyTerminated,
            Kind::Certificate,
            Kind::TlsAlert,
            Kind::Tls,
        ] {
            assert_eq!(connect_error_type(kind).to_string(), kind.name());
        }
    }
}
