//! The responses to requests that the connection refuses: for their head or body, for their caller's certificate, or
//! because a stop is at its deadline.

use http::StatusCode;

use crate::config::Limits;
use crate::server::problem::{ProblemResponse, ProxyErrorType};

/// 400.
pub(super) fn malformed(detail: impl Into<String>) -> ProblemResponse {
    ProblemResponse::invalid(StatusCode::BAD_REQUEST, detail)
}

/// 403.
pub(super) fn certificate_not_accepted() -> ProblemResponse {
    let detail = "the caller's certificate is no longer from tls.client_ca_file; connect with one that is";
    ProblemResponse::denied(StatusCode::FORBIDDEN, detail)
}

/// 405.
pub(super) fn method_not_relayed(detail: &str) -> ProblemResponse {
    ProblemResponse::denied(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// 408.
pub(super) fn head_too_slow(limits: &Limits) -> ProblemResponse {
    let limit = humantime::format_duration(limits.first_byte);
    let detail = format!("the request's head took longer than {limit} (limits.first_byte); send it at once");
    ProblemResponse::invalid(StatusCode::REQUEST_TIMEOUT, detail)
}

/// 413.
pub(super) fn body_too_long() -> ProblemResponse {
    let detail = "the request's body is over limits.body; send less, or raise it";
    ProblemResponse::invalid(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// 414.
pub(super) fn target_too_long(limits: &Limits) -> ProblemResponse {
    let detail = format!(
        "the request's target is over limits.target ({} bytes)",
        limits.target
    );
    ProblemResponse::invalid(StatusCode::URI_TOO_LONG, detail)
}

/// 417.
pub(super) fn unknown_expectation() -> ProblemResponse {
    let detail = "Expect is not \"100-continue\"; leave it out";
    ProblemResponse::invalid(StatusCode::EXPECTATION_FAILED, detail)
}

/// 431.
pub(super) fn too_large(limits: &Limits) -> ProblemResponse {
    let detail = format!(
        "the request's head is over limits.head ({} bytes) or limits.fields ({})",
        limits.head, limits.fields
    );
    ProblemResponse::invalid(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
}

/// 503.
pub(super) fn stopping() -> ProblemResponse {
    let reason = "bondgate is stopping, and the request's head was incomplete";
    ProblemResponse::not_executed(ProxyErrorType::ProxyInternalResponse, reason)
}
