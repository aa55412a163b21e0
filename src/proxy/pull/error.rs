//! Why a request on a consuming route gets no message, and bondgate's response in that case.

use std::sync::Arc;

use http::StatusCode;

use super::super::forward::ProxyError;
use crate::problems::{Problem, request, spool};
use crate::server::{ProblemResponse, ProxyErrorType};
use crate::spool::SpoolError;

/// Why a request on a consuming route gets no message.
#[derive(Debug)]
pub(in super::super) enum PullError {
    /// The request was not relayed to its end.
    Proxy(ProxyError),
    /// The spool has no message, and nothing can be pulled.
    Spool(SpoolError),
    /// The client id, which is a part of the queue's name, cannot be read.
    NoClientId(Problem),
    /// The pull was sent, and had no response within `timeout.head`. It continues.
    Continues,
    /// Nothing was sent within `timeout.head`, as a rule because another request for the queue is in progress.
    Waiting(Problem),
    /// The response was not whole.
    Incomplete,
    /// The response is a page of another server.
    Page(Problem),
}

impl From<ProxyError> for PullError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

impl From<SpoolError> for PullError {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl PullError {
    /// The response to the caller; `upstream` is the upstream's name in it.
    pub(in super::super) fn into_response(self, upstream: &Arc<str>) -> ProblemResponse {
        let response = match self {
            Self::Proxy(error) => return error.into_response(upstream),
            Self::Spool(SpoolError::Paused {
                caller,
                failures,
                left,
            }) => ProblemResponse {
                retry_after: Some(left),
                ..not_executed(spool::caller_paused(caller, failures))
            },
            Self::NoClientId(problem)
            | Self::Waiting(problem)
            | Self::Spool(
                SpoolError::Full(problem) | SpoolError::Failed(problem) | SpoolError::Link(problem),
            ) => not_executed(problem),
            Self::Spool(SpoolError::Unusable(error)) => not_executed(spool::unusable(error)),
            Self::Spool(SpoolError::Stopping) => not_executed(request::stopping("")),
            Self::Spool(SpoolError::Broken) => ProblemResponse::may_have_been_executed(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::ProxyInternalError,
                request::bug("a bug in bondgate ended the pull"),
            ),
            Self::Continues => ProblemResponse::new(
                StatusCode::GATEWAY_TIMEOUT,
                ProxyErrorType::HttpResponseTimeout,
                spool::pull_continues(),
            ),
            Self::Page(problem) => ProblemResponse::may_have_been_executed(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::HttpProtocolError,
                problem,
            ),
            Self::Incomplete => ProblemResponse::new(
                StatusCode::BAD_GATEWAY,
                ProxyErrorType::HttpResponseIncomplete,
                spool::pull_incomplete(),
            ),
        };
        ProblemResponse {
            upstream: Some(upstream.clone()),
            ..response
        }
    }
}

fn not_executed(problem: Problem) -> ProblemResponse {
    ProblemResponse::not_executed(ProxyErrorType::ProxyInternalResponse, problem)
}
