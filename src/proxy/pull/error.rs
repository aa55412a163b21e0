//! Why a request on a consuming route gets no message, and bondgate's response in that case.

use http::StatusCode;

use super::super::forward::ProxyError;
use crate::server::{ProblemResponse, ProxyErrorType};
use crate::spool::SpoolError;

/// Why a request on a consuming route gets no message.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum PullError {
    /// The request was not relayed to its end.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The spool has no message, and nothing can be pulled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The client id, which is a part of the queue's name, cannot be read.
    #[error("the client id cannot be read: {0}")]
    NoClientId(String),
    /// The pull was sent, and had no response within `timeout.head`. It continues.
    #[error("no message within timeout.head")]
    Continues,
    /// Nothing was sent within `timeout.head`, as a rule because another request for the queue is in progress.
    #[error("another pull of this queue is under way")]
    Waiting,
    /// The response was not whole.
    #[error("the response to the pull is incomplete")]
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
            Self::Spool(SpoolError::Link(_) | SpoolError::Stopping) | Self::NoClientId(_) | Self::Waiting => {
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
                "the pull continues, and the next request gets its message",
            ),
            Self::Incomplete => failed(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::HttpResponseIncomplete,
                "its message may be lost, and bondgate's log reports it with the time of the pull",
            ),
        }
    }
}
