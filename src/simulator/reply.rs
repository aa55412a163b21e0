//! Whole answers in the shapes that Cisco's services use, for every endpoint of the simulator.

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// Cisco's message with a status, which it writes as a string.
pub(super) fn message(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({"message": text, "status": status.as_str()}))
}

/// `value` as JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    json_text(status, value.to_string())
}

/// `text`, which is JSON already.
pub(super) fn json_text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    typed(status, "application/json;charset=UTF-8", text)
}

/// A line of plain text.
pub(super) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A gateway's error page.
pub(super) fn html(status: StatusCode) -> Response<Body> {
    let title = format!(
        "{} {}",
        status.as_str(),
        status.canonical_reason().unwrap_or("Error")
    );
    typed(
        status,
        "text/html",
        format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
             <hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"
        ),
    )
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
