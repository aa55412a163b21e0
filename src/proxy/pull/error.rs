//! Why a request on a consuming route gets no message, and bondgate's response in that case.

use http::StatusCode;

use super::super::forward::ProxyError;
use crate::server::{ProblemResponse, ProxyErrorType};
use crate::spool::SpoolError;

/// No message for a request on a consuming route.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum PullError {
    /// The request was not relayed to its end.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The spool has no message, and nothing can be pulled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The client id that names the queue is not known.
    #[error("the client id cannot be read: {0}")]
    NoClientId(String),
    /// The pull takes longer than `timeout.head`.
    #[error("no message within timeout.head")]
    Continues,
    /// Another request of the queue took longer than `timeout.head`.
    #[error("another pull of this queue is under way")]
    Waiting,
    /// The response was not whole.
    #[error("the message broke off")]
    Incomplete,
}

impl PullError {
    /// The response to the caller; `upstream` is the upstream's name in it.
    pub(in super::super) fn into_problem(self, upstream: &str) -> ProblemResponse {
        let reason = format!("{upstream}: {self}");
        let not_executed = |advice: &str| {
            ProblemResponse::not_executed(
                ProxyErrorType::ProxyInternalResponse,
                format_args!("{reason}; {advice}"),
            )
        };
        let failed =
            |status, error, advice: &str| ProblemResponse::new(status, error, format!("{reason}; {advice}"));
        match self {
            Self::Proxy(error) => error.into_problem(upstream),
            Self::Spool(SpoolError::Full { .. }) => {
                not_executed("let callers take the stored messages, or see `bondgate spool list`")
            }
            Self::Spool(SpoolError::Paused { left, .. }) => ProblemResponse {
                retry_after: Some(left),
                ..not_executed(
                    "read the whole response and close the connection in order; other callers get the message at once",
                )
            },
            Self::Spool(SpoolError::Unusable(_)) => not_executed(
                "free disk space, raise a file-size limit of bondgate's process (ulimit -f, LimitFSIZE=), and make the \
                 directory writable",
            ),
            Self::Spool(SpoolError::Stopping) | Self::NoClientId(_) | Self::Waiting => {
                ProblemResponse::not_executed(ProxyErrorType::ProxyInternalResponse, reason)
            }
            Self::Spool(SpoolError::Broken) => ProblemResponse::may_have_been_executed(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::ProxyInternalError,
                reason,
            ),
            Self::Continues => failed(
                StatusCode::GATEWAY_TIMEOUT,
                ProxyErrorType::HttpResponseTimeout,
                "the pull goes on, and the next request gets what it brings",
            ),
            Self::Incomplete => failed(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::HttpResponseIncomplete,
                "it may be lost, and is reported in bondgate's log with its time",
            ),
        }
    }
}
