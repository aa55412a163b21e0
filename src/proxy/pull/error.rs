//! Why a request on a consuming route gets no message, and bondgate's response in that case.

use std::io::ErrorKind;

use http::StatusCode;

use super::super::forward::{ProxyError, RETRY_AFTER};
use crate::server::Answer;
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
    pub(in super::super) fn into_answer(self, upstream: &str) -> Answer {
        let reason = format!("{upstream}: {self}");
        let unavailable = |advice: &str, retry_after| {
            Answer::unavailable(
                "proxy_internal_response",
                format!("{reason}; {advice}"),
                retry_after,
            )
        };
        let failed = |status, error, advice: &str| Answer::new(status, error, format!("{reason}; {advice}"));
        match self {
            Self::Proxy(error) => error.into_answer(upstream),
            Self::Spool(SpoolError::Full { .. }) => unavailable(
                "nothing was pulled; let callers take what is held, or see `bondgate spool list`",
                RETRY_AFTER,
            ),
            Self::Spool(SpoolError::Paused { left, .. }) => unavailable(
                "read the whole response and close the connection in order; other callers get the message at once",
                left,
            ),
            Self::Spool(SpoolError::Unusable(error)) if error.kind() == ErrorKind::FileTooLarge => {
                unavailable(
                    "nothing was pulled; raise the file-size limit of bondgate's process (ulimit -f, LimitFSIZE=)",
                    RETRY_AFTER,
                )
            }
            Self::Spool(SpoolError::Unusable(_)) => unavailable(
                "nothing was pulled; free disk space, and make the directory writable",
                RETRY_AFTER,
            ),
            Self::Spool(SpoolError::Stopping) | Self::NoClientId(_) | Self::Waiting => {
                Answer::not_executed("proxy_internal_response", reason, RETRY_AFTER)
            }
            Self::Spool(SpoolError::Broken) => {
                Answer::may_have_been_executed(StatusCode::BAD_GATEWAY, "proxy_internal_error", reason)
            }
            Self::Continues => failed(
                StatusCode::GATEWAY_TIMEOUT,
                "http_response_timeout",
                "the pull goes on, and the next request gets what it brings",
            ),
            Self::Incomplete => failed(
                StatusCode::BAD_GATEWAY,
                "http_response_incomplete",
                "it may be lost, and is reported in bondgate's log with its time",
            ),
        }
    }
}
