//! Why a request on a consuming route got no message, and the answer that it gets from us.

use std::io::ErrorKind;

use http::StatusCode;

use super::forward::RETRY_AFTER as SOON;
use crate::server::Answer;
use crate::spool::SpoolError;

/// There is no message to answer with.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// The spool has none, and nothing can be pulled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The client that a message would be pulled for is not known.
    #[error("the client's id cannot be had: {0}")]
    NoClient(String),
    /// The pull takes longer than its caller may wait.
    #[error("no message within timeout.head")]
    GoesOn,
    /// Another caller's pull took as long as this one may wait.
    #[error("another pull of this queue is under way")]
    Waits,
    /// The message was not whole.
    #[error("the message broke off")]
    Broken,
}

impl PullError {
    /// The answer that the caller gets; `upstream` is the upstream's name in it.
    pub(super) fn into_answer(self, upstream: &str) -> Answer {
        let undone = |mend: &str| {
            let detail = format!("{upstream}: {self}; {mend}");
            Answer::unavailable("proxy_internal_response", detail, SOON)
        };
        let unknown =
            |status, error, what: &str| Answer::new(status, error, format!("{upstream}: {self}; {what}"));
        match &self {
            Self::Spool(SpoolError::Full { .. }) => {
                undone("nothing was pulled; let callers take what is held, or see `bondgate spool list`")
            }
            Self::Spool(SpoolError::Paused { left, .. }) => {
                let detail = format!(
                    "{upstream}: {self}; read the whole response and close the connection in order; other callers get \
                     the message at once"
                );
                Answer::unavailable("proxy_internal_response", detail, *left)
            }
            Self::Spool(SpoolError::Unusable(error)) if error.kind() == ErrorKind::FileTooLarge => undone(
                "nothing was pulled; raise the file-size limit of bondgate's process (ulimit -f, LimitFSIZE=)",
            ),
            Self::Spool(SpoolError::Unusable(_)) => {
                undone("nothing was pulled; see that there is room, and that it is writable")
            }
            Self::Spool(SpoolError::Stopping) | Self::NoClient(_) | Self::Waits => {
                undone("nothing was sent, and it is safe to send it again")
            }
            Self::Spool(SpoolError::Broken) => unknown(
                StatusCode::BAD_GATEWAY,
                "proxy_internal_error",
                "the upstream may have executed it",
            ),
            Self::GoesOn => unknown(
                StatusCode::GATEWAY_TIMEOUT,
                "http_response_timeout",
                "the pull goes on, and what it brings answers the next one",
            ),
            Self::Broken => unknown(
                StatusCode::BAD_GATEWAY,
                "http_response_incomplete",
                "it may be lost, and is reported in bondgate's log with its time",
            ),
        }
    }
}
