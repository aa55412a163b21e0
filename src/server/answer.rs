//! Answers that are bondgate's own and not the upstream's: whole, and plain about what happened.

use std::fmt::Display;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::spelling;

/// An answer of ours: `Proxy-Status` for machines (RFC 9209), problem+json for people (RFC 9457),
/// with Cisco's `message` member, since old tools show that one.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The error type of RFC 9209 §2.3.
    pub error: &'static str,
    /// What happened, and what to do.
    pub detail: String,
    /// When to come again.
    pub retry_after: Option<Duration>,
}

/// Marks a response as bondgate's own, for the access log; an extension of the response.
#[derive(Clone, Debug)]
pub struct OwnResponse {
    /// The error type of RFC 9209 §2.3.
    pub error: &'static str,
    /// What happened, and what to do.
    pub detail: String,
}

/// The field of RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// How a field's name is spelled that is not written in title case.
static AS_REGISTERED: LazyLock<Extensions> = LazyLock::new(|| spelling::extensions(["WWW-Authenticate"]));

/// Methods that may be tried in place of CONNECT and TRACE.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Answer {
    /// An answer; `error` is one of RFC 9209's types.
    pub fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            error,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// 503: the request was not executed, and is safe to send again after a while.
    pub fn not_executed(error: &'static str, reason: impl Display, retry_after: Duration) -> Self {
        let detail = format!("{reason}; nothing was sent, and it is safe to send it again");
        Self::unavailable(error, detail, retry_after)
    }

    /// 502 or 504: the upstream may have executed the request.
    pub fn may_have_been_executed(status: StatusCode, error: &'static str, reason: impl Display) -> Self {
        Self::new(
            status,
            error,
            format!("{reason}; the upstream may have executed it"),
        )
    }

    /// 503, with a detail of its own.
    pub fn unavailable(error: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error, detail)
        }
    }

    /// As a response for hyper to write.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let body = self.body();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers();
        if self.status == StatusCode::UNAUTHORIZED {
            *response.extensions_mut() = AS_REGISTERED.clone();
        }
        response.extensions_mut().insert(OwnResponse {
            error: self.error,
            detail: self.detail,
        });
        response
    }

    /// As bytes, for the gate to write where hyper is not there; `has_body` is false for HEAD.
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
            sf_string(&self.detail)
        );
        headers.insert(
            PROXY_STATUS,
            HeaderValue::try_from(status).expect("an error type and an sf-string are visible ASCII"),
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
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
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Refused"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "message": format!("bondgate: {}", self.detail),
        });
        let mut body = serde_json::to_vec(&body).unwrap_or_default();
        body.push(b'\n');
        body
    }
}

/// The inside of a string of RFC 8941 §3.3.3: visible ASCII, quotes and backslashes escaped.
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

    #[test]
    fn an_answer_as_bytes_is_a_whole_response() {
        let answer = Answer::unavailable(
            "proxy_internal_response",
            "say \"when\"\u{1f600}",
            Duration::from_millis(1500),
        );
        let text = String::from_utf8(answer.to_bytes(true)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains("Retry-After: 2\r\n"));
        assert!(head.contains(
            "Proxy-Status: bondgate; error=proxy_internal_response; details=\"say \\\"when\\\"?\"\r\n"
        ));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["status"], &body["title"]),
            (&503.into(), &"Service Unavailable".into())
        );
        assert!(body["message"].as_str().unwrap().contains("say"));
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_no_body() {
        let text = String::from_utf8(
            Answer::new(StatusCode::BAD_REQUEST, "http_request_error", "x").to_bytes(false),
        )
        .unwrap();
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"));
    }
}
