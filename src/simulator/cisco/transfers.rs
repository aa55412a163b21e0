//! Endpoints below `/simulator/` that Cisco does not have: a download, an upload and an echo, for tests of what lies
//! between. No body is held whole.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::channel::Channel;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::simulator::exchange::{BodyDigest, Exchange};
use crate::simulator::record::redaction;

/// The pattern's period. It is prime, so that a piece lost or repeated shows unless its size is a multiple of it.
const PERIOD: u8 = 251;

/// What goes out in one frame: 256 periods.
static PIECE: LazyLock<Bytes> = LazyLock::new(|| pattern(256 * u64::from(PERIOD)).collect());

/// The first `count` bytes that `GET /simulator/bytes/{count}` sends: the byte at `i` is `i % 251`.
pub fn pattern(count: u64) -> impl Iterator<Item = u8> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (0..PERIOD).cycle().take(count)
}

/// The SHA-256, in hexadecimal, of the first `count` bytes of the [`pattern`].
#[must_use]
pub fn pattern_sha256(mut count: u64) -> String {
    let mut hash = Sha256::new();
    while count > 0 {
        hash.update(next_piece(&mut count));
    }
    format!("{:x}", hash.finalize())
}

/// A query that may ask for chunked coding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coding {
    chunked: Option<String>,
}

/// Sends that many bytes of the pattern: with a content length, or chunked if the query is `chunked`.
pub(super) async fn bytes(Path(mut left): Path<u64>, Query(coding): Query<Coding>) -> Response {
    let headers = [(CONTENT_LENGTH, left.to_string())];
    let (mut sender, body) = Channel::<_, Infallible>::new(4);
    tokio::spawn(async move {
        // An error says that the client has left.
        while left > 0 && sender.send_data(next_piece(&mut left)).await.is_ok() {}
    });
    let response = ([(CONTENT_TYPE, "application/octet-stream")], Body::new(body));
    match coding.chunked {
        Some(_) => response.into_response(),
        None => (headers, response).into_response(),
    }
}

/// Discards a body and responds with its size and hash.
pub(super) async fn sink(Extension(digest): Extension<BodyDigest>) -> Json<BodyDigest> {
    Json(digest)
}

/// Responds with the request as it was received, except for credentials and tokens.
pub(super) async fn echo(
    Extension(exchange): Extension<Arc<Exchange>>,
    Extension(digest): Extension<BodyDigest>,
) -> Json<Value> {
    let request = &exchange.request;
    let mut headers = request.headers.clone();
    redaction::headers(&mut headers);
    Json(json!({
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": headers,
        "body": digest,
    }))
}

/// The pattern's next bytes, at most one piece.
fn next_piece(left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(PIECE.len());
    *left -= length as u64;
    PIECE.slice(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_repeats_after_251_bytes() {
        let bytes: Vec<u8> = pattern(600).collect();
        assert_eq!(bytes.len(), 600);
        assert_eq!((bytes[0], bytes[250], bytes[251], bytes[599]), (0, 250, 0, 97));
    }

    #[test]
    fn the_hash_is_the_patterns() {
        let whole: Vec<u8> = pattern(200_000).collect();
        assert_eq!(pattern_sha256(200_000), format!("{:x}", Sha256::digest(whole)));
    }
}
