//! The responses to requests that are refused before hyper sees them.

use http::StatusCode;

use crate::config::Limits;
use crate::server::problem::ProblemResponse;

/// 400.
pub(super) fn malformed(detail: impl Into<String>) -> ProblemResponse {
    ProblemResponse::invalid(StatusCode::BAD_REQUEST, detail)
}

/// 403.
pub(super) fn certificate_not_accepted() -> ProblemResponse {
    let detail = "the caller's certificate is no longer from tls.client_ca_file; connect with one that is";
    ProblemResponse::denied(StatusCode::FORBIDDEN, detail)
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

/// 431.
pub(super) fn too_large(limits: &Limits) -> ProblemResponse {
    let detail = format!(
        "the request's head is over limits.head ({} bytes) or limits.fields ({})",
        limits.head, limits.fields
    );
    ProblemResponse::invalid(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
}
