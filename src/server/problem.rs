//! Responses of bondgate's own, not of the upstream. Each is complete and states what happened.

use std::fmt::{self, Display};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::problems::Problem;
use crate::spelling;

/// A response of bondgate's own: `Proxy-Status` for programs (RFC 9209), a problem document for people (RFC 9457) with
/// Cisco's `message` member, which old tools display. As an extension, it marks its response for the access log.
#[derive(Clone, Debug)]
pub struct ProblemResponse {
    /// The status.
    pub status: StatusCode,
    /// The error type in `Proxy-Status`.
    pub error: ProxyErrorType,
    /// What happened, and what to do.
    pub problem: Problem,
    /// The name of the upstream that the problem concerns.
    pub upstream: Option<Arc<str>>,
    /// When the caller may try again.
    pub retry_after: Option<Duration>,
    /// The caller is on another host, so that the response names no file, client id or proxy.
    pub is_for_other_host: bool,
    /// Whether the request was executed, at the end of the text.
    pub execution: &'static str,
}

/// A proxy error type of RFC 9209 §2.3, displayed as it is registered (`dns_error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "RFC 9209 defines them")]
pub enum ProxyErrorType {
    ConnectionLimitReached,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    ConnectionWriteTimeout,
    DestinationUnavailable,
    DnsError,
    DnsTimeout,
    HttpProtocolError,
    HttpRequestDenied,
    HttpRequestError,
    HttpResponseHeaderSectionSize,
    HttpResponseIncomplete,
    HttpResponseTimeout,
    HttpResponseTransferCoding,
    HttpUpgradeFailed,
    ProxyInternalError,
    ProxyInternalResponse,
    ProxyLoopDetected,
    TlsAlertReceived,
    TlsCertificateError,
    TlsProtocolError,
}

impl Display for ProxyErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The field of RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// When a caller may repeat a request after a failure that usually passes soon.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The spelling of field names that are not in title case.
static REGISTERED_SPELLING: LazyLock<Extensions> =
    LazyLock::new(|| spelling::extensions(["WWW-Authenticate"]));

/// The methods that are relayed.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl ProblemResponse {
    /// A response without `Retry-After`.
    #[must_use]
    pub fn new(status: StatusCode, error: ProxyErrorType, problem: Problem) -> Self {
        Self {
            status,
            error,
            problem,
            upstream: None,
            retry_after: None,
            is_for_other_host: false,
            execution: "",
        }
    }

    /// The request is invalid.
    #[must_use]
    pub fn invalid(status: StatusCode, problem: Problem) -> Self {
        Self::new(status, ProxyErrorType::HttpRequestError, problem)
    }

    /// The request is not allowed.
    #[must_use]
    pub fn denied(status: StatusCode, problem: Problem) -> Self {
        Self::new(status, ProxyErrorType::HttpRequestDenied, problem)
    }

    /// 503: the request was not executed, and is safe to send again, by default after a second.
    #[must_use]
    pub fn not_executed(error: ProxyErrorType, problem: Problem) -> Self {
        Self {
            retry_after: Some(RETRY_SOON),
            execution: "; the request was not executed, and it is safe to send it again",
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error, problem)
        }
    }

    /// 502 or 504: the upstream may have executed the request.
    #[must_use]
    pub fn may_have_been_executed(status: StatusCode, error: ProxyErrorType, problem: Problem) -> Self {
        Self {
            execution: "; the upstream may have executed the request: check that before you send it again",
            ..Self::new(status, error, problem)
        }
    }

    /// What happened, what to do, and whether the request was executed.
    #[must_use]
    pub fn detail(&self) -> String {
        let text = self.problem.for_caller(!self.is_for_other_host).to_string();
        match &self.upstream {
            Some(name) => format!("{name}: {text}{}", self.execution),
            None => text + self.execution,
        }
    }

    /// The response for hyper to write.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let body = self.body();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers();
        if self.status == StatusCode::UNAUTHORIZED {
            *response.extensions_mut() = REGISTERED_SPELLING.clone();
        }
        response.extensions_mut().insert(self);
        response
    }

    /// The response as bytes, for a connection that hyper does not serve; `has_body` is false for HEAD.
    #[must_use]
    pub fn to_bytes(&self, has_body: bool) -> Vec<u8> {
        let body = self.body();
        let reason = self.status.canonical_reason().unwrap_or("Refused");
        let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_u16()).into_bytes();
        let mut headers = self.headers();
        headers.insert(CONTENT_LENGTH, body.len().into());
        headers.insert("connection", HeaderValue::from_static("close"));
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
            headers.insert("date", date);
        }
        for (name, value) in &headers {
            bytes.extend_from_slice(spelling::title_case(name.as_str()).as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if has_body {
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let status = format!(
            "bondgate; error={}; details=\"{}\"",
            self.error,
            sf_string(&self.detail())
        );
        headers.insert(
            PROXY_STATUS,
            HeaderValue::try_from(status).expect("an error type and an sf-string are printable ASCII"),
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"bondgate\", charset=\"UTF-8\""),
                );
            }
            _ => {}
        }
        headers
    }

    fn body(&self) -> Vec<u8> {
        let detail = self.detail();
        let body = serde_json::json!({
            "type": format!("urn:bondgate:problem:{}", self.problem.code()),
            "title": self.status.canonical_reason().unwrap_or("Refused"),
            "status": self.status.as_u16(),
            "message": format!("bondgate: {detail}"),
            "detail": detail,
        });
        let mut body = serde_json::to_vec(&body).unwrap_or_default();
        body.push(b'\n');
        body
    }
}

/// The content of a structured-field string (RFC 8941 §3.3.3): printable ASCII, with quotes and backslashes escaped.
fn sf_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(300) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::request::malformed;

    #[test]
    fn an_error_type_is_displayed_as_it_is_registered() {
        for (error, registered) in [
            (ProxyErrorType::DnsError, "dns_error"),
            (ProxyErrorType::TlsCertificateError, "tls_certificate_error"),
            (
                ProxyErrorType::HttpResponseHeaderSectionSize,
                "http_response_header_section_size",
            ),
        ] {
            assert_eq!(error.to_string(), registered);
        }
    }

    #[test]
    fn a_problem_response_as_bytes_is_complete() {
        let problem = ProblemResponse {
            retry_after: Some(Duration::from_millis(1500)),
            ..ProblemResponse::not_executed(
                ProxyErrorType::ProxyInternalResponse,
                malformed("say \"when\"\u{1f600}", "do"),
            )
        };
        let text = String::from_utf8(problem.to_bytes(true)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains("Retry-After: 2\r\n"));
        assert!(head.contains(
            "Proxy-Status: bondgate; error=proxy_internal_response; details=\"say \\\"when\\\"?; do; the request was"
        ));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["status"], &body["title"]),
            (&503.into(), &"Service Unavailable".into())
        );
        assert!(body["message"].as_str().unwrap().contains("say"));
        assert_eq!(body["type"], "urn:bondgate:problem:request-malformed");
    }

    #[test]
    fn a_problem_response_to_head_has_the_length_and_no_body() {
        let problem = ProblemResponse::invalid(StatusCode::BAD_REQUEST, malformed("x", "y"));
        let text = String::from_utf8(problem.to_bytes(false)).unwrap();
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"));
    }
}
