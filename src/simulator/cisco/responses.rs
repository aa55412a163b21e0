//! Responses in the shapes of Cisco's services.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// A status and a JSON body: an error of the identity service.
pub(crate) type JsonError = (StatusCode, Json<Value>);

/// `body`, which is JSON already.
pub(crate) fn json(status: u16, body: impl Into<Body>) -> Response {
    let content_type = [(CONTENT_TYPE, "application/json;charset=UTF-8")];
    (code(status), content_type, body.into()).into_response()
}

/// The API's message with a status, which it writes as a string.
pub(crate) fn message(status: u16, text: &str) -> Response {
    let body = json!({"message": text, "status": status.to_string()});
    json(status, body.to_string())
}

/// An error of the identity service in Okta's shape.
pub(crate) fn okta_error(status: u16, error: &str, summary: &str) -> JsonError {
    let body = json!({
        "errorCode": error,
        "errorSummary": summary,
        "errorLink": error,
        "errorId": format!("oae{:022x}", fastrand::u64(..)),
        "errorCauses": [],
    });
    (code(status), Json(body))
}

/// The error page of a gateway.
pub(crate) fn html(status: u16) -> Response {
    let status = code(status);
    let page = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"
    );
    (status, [(CONTENT_TYPE, "text/html")], page).into_response()
}

pub(crate) fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
