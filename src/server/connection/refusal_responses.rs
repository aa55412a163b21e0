//! The responses to requests that the connection refuses: for their head or body, for their caller's certificate, or
//! because a stop is at its deadline.

use std::fmt::Display;

use http::StatusCode;

use crate::config::Limits;
use crate::problems::request;
use crate::server::problem::{ProblemResponse, ProxyErrorType};

/// 400.
pub(super) fn malformed(reason: impl Display, fix: impl Display) -> ProblemResponse {
    ProblemResponse::invalid(StatusCode::BAD_REQUEST, request::malformed(reason, fix))
}

/// 403.
pub(super) fn certificate_not_accepted() -> ProblemResponse {
    ProblemResponse::denied(StatusCode::FORBIDDEN, request::client_certificate_refused())
}

/// 405.
pub(super) fn method_not_relayed(reason: &str, fix: &str) -> ProblemResponse {
    let problem = request::method_not_relayed(reason, fix);
    ProblemResponse::denied(StatusCode::METHOD_NOT_ALLOWED, problem)
}

/// 408.
pub(super) fn head_too_slow(limits: &Limits) -> ProblemResponse {
    let problem = request::head_timed_out(humantime::format_duration(limits.first_byte));
    ProblemResponse::invalid(StatusCode::REQUEST_TIMEOUT, problem)
}

/// 413.
pub(super) fn body_too_long() -> ProblemResponse {
    let problem = request::too_large("the request's body is over limits.body", "send less, or raise it");
    ProblemResponse::invalid(StatusCode::PAYLOAD_TOO_LARGE, problem)
}

/// 414.
pub(super) fn target_too_long(limits: &Limits) -> ProblemResponse {
    let reason = format!(
        "the request's target is over limits.target ({} bytes)",
        limits.target
    );
    let problem = request::too_large(reason, "send a shorter one, or raise it");
    ProblemResponse::invalid(StatusCode::URI_TOO_LONG, problem)
}

/// 417.
pub(super) fn unknown_expectation() -> ProblemResponse {
    let problem = request::malformed("Expect is not \"100-continue\"", "leave it out");
    ProblemResponse::invalid(StatusCode::EXPECTATION_FAILED, problem)
}

/// 431.
pub(super) fn too_large(limits: &Limits) -> ProblemResponse {
    let reason = format!(
        "the request's head is over limits.head ({} bytes) or limits.fields ({})",
        limits.head, limits.fields
    );
    let problem = request::too_large(reason, "send less, or raise them");
    ProblemResponse::invalid(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, problem)
}

/// 503.
pub(super) fn stopping() -> ProblemResponse {
    let problem = request::stopping(", and the request's head was incomplete");
    ProblemResponse::not_executed(ProxyErrorType::ProxyInternalResponse, problem)
}
