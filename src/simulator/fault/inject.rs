//! The middleware that injects faults.
//!
//! Some kinds replace the response, before the request is executed or after. The others alter the real response, so
//! the request is always executed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http_body::Body as _;
use serde_json::Value;
use tokio::time::sleep;

use super::{Kind, Then, response, take};
use crate::simulator::cisco::endpoint::Endpoint;
use crate::simulator::cisco::responses;
use crate::simulator::exchange::{Exchange, InProgress, receive};

/// Injects the script's fault for this request, if there is one.
pub(crate) async fn inject(Extension(exchange): InProgress, request: Request, next: Next) -> Response {
    let script = || exchange.simulation.faults();
    let Some(fault) = take(&mut script(), exchange.request.endpoint, request.uri().path()) else {
        return next.run(request).await;
    };
    exchange.update(|seen| seen.fault = Some(fault.kind.name()));
    match fault.kind {
        Kind::Slow { ms } if fault.after_effect => {
            let response = next.run(request).await;
            sleep(Duration::from_millis(ms)).await;
            response
        }
        Kind::Slow { ms } => {
            sleep(Duration::from_millis(ms)).await;
            next.run(request).await
        }
        Kind::TruncatedJson => edit(next.run(request).await, |body| body.slice(..body.len() / 2)).await,
        Kind::NoAccessToken => edit(next.run(request).await, |body| with_token(body, None)).await,
        Kind::BadToken => {
            let token = Value::from("bad\r\ntoken: \u{7f}\u{fc}");
            edit(next.run(request).await, |body| with_token(body, Some(token))).await
        }
        Kind::Half { then } => {
            let response = next.run(request).await;
            exchange.responded(&response);
            exchange.connection.take_over(half(response).await, then).await
        }
        kind => {
            if fault.after_effect {
                drop(next.run(request).await);
            } else if !fault.early
                && let Err(response) = receive(&exchange, request.into_body()).await
            {
                return *response;
            }
            replacement(kind, &exchange).await
        }
    }
}

/// The response of the kinds that replace the real one.
async fn replacement(kind: Kind, exchange: &Exchange) -> Response {
    let connection = &exchange.connection;
    match kind {
        Kind::Reset => connection.take_over(Bytes::new(), Then::Reset).await,
        Kind::Close => connection.take_over(Bytes::new(), Then::Close).await,
        Kind::Raw { bytes } => connection.take_over(bytes, Then::Close).await,
        Kind::Status { code, headers, body } => response(code, &headers, &body)
            .unwrap_or_else(|error| responses::message(500, &error.to_string())),
        Kind::Html { status } => responses::html(status),
        Kind::Empty => Response::default(),
        Kind::RateLimited {
            retry_after,
            reset_in,
        } => {
            let retry_after = retry_after.map(|seconds| [(RETRY_AFTER, seconds.to_string())]);
            (retry_after, rate_limited(exchange.request.endpoint, reset_in)).into_response()
        }
        // Hang; the remaining kinds alter the response and are never passed here.
        _ => std::future::pending().await,
    }
}

fn rate_limited(endpoint: Endpoint, reset_in: u64) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let reset = now.as_secs().saturating_add(reset_in).to_string();
    let limits = [
        ("x-rate-limit-limit", "600"),
        ("x-rate-limit-remaining", "0"),
        ("x-rate-limit-reset", &reset),
    ];
    if endpoint == Endpoint::Token {
        let summary = "API call exceeded rate limit due to too many requests.";
        (limits, responses::okta_error(429, "E0000047", summary)).into_response()
    } else {
        (limits, responses::message(429, "Too many requests")).into_response()
    }
}

/// The same response with another body.
async fn edit(response: Response, edit: impl FnOnce(Bytes) -> Bytes) -> Response {
    let (mut parts, body) = collect(response).await;
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, edit(body).into())
}

/// A token response with another token or none; another body is left alone.
fn with_token(body: Bytes, token: Option<Value>) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&body) else {
        return body;
    };
    object.remove("access_token");
    object.extend(token.map(|token| ("access_token".to_owned(), token)));
    Value::Object(object).to_string().into()
}

/// The bytes of a response's head and of half its body. A body of unknown length is chunked.
async fn half(response: Response) -> Bytes {
    let size = response.body().size_hint().exact();
    let (mut parts, body) = collect(response).await;
    let half = &body[..body.len() / 2];
    let mut chunk_size = String::new();
    if size.is_some() || parts.headers.contains_key(CONTENT_LENGTH) {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    } else {
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(TRANSFER_ENCODING, chunked);
        chunk_size = format!("{:x}\r\n", half.len());
    }
    let lines = parts.headers.iter();
    let lines = lines.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    let lines = lines.collect::<Vec<_>>().concat();
    let head = format!("HTTP/1.1 {}\r\n{lines}\r\n{chunk_size}", parts.status);
    [head.as_bytes(), half].concat().into()
}

async fn collect(response: Response) -> (http::response::Parts, Bytes) {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await;
    (parts, body.unwrap_or_default())
}
