//! Endpoints below `/simulator/` that Cisco does not have: a download, an upload and an echo, for tests of the programs
//! between a client and Cisco. No body is held whole.

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Path, Query};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::simulator::exchange::{BodyDigest, InProgress};
use crate::simulator::record::redaction;

/// The pattern's period. It is prime, so that a piece lost or repeated shows unless its size is a multiple of it.
const PERIOD: u8 = 251;

/// The bytes of one frame: 256 periods.
static PIECE: LazyLock<Bytes> = LazyLock::new(|| pattern(256 * u64::from(PERIOD)).collect());

/// The first `count` bytes that `GET /simulator/bytes/{count}` sends: the byte at `i` is `i % 251`.
pub fn pattern(count: u64) -> impl Iterator<Item = u8> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (0..PERIOD).cycle().take(count)
}

/// The SHA-256, in hexadecimal, of the first `count` bytes of the [`pattern`].
#[must_use]
pub fn pattern_sha256(count: u64) -> String {
    let hash = pieces(count).fold(Sha256::new(), Sha256::chain_update);
    format!("{:x}", hash.finalize())
}

/// A query that may ask for chunked coding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coding {
    chunked: Option<String>,
}

/// Sends that many bytes of the pattern: with a content length, or chunked if the query is `chunked`.
pub(super) async fn bytes(Path(count): Path<u64>, Query(coding): Query<Coding>) -> impl IntoResponse {
    let body = Body::from_stream(stream::iter(pieces(count).map(Ok::<_, Infallible>)));
    let length = coding
        .chunked
        .is_none()
        .then(|| [(CONTENT_LENGTH, count.to_string())]);
    (length, [(CONTENT_TYPE, "application/octet-stream")], body)
}

/// Discards a body and responds with its size and hash.
pub(super) async fn sink(Extension(digest): Extension<BodyDigest>) -> Json<BodyDigest> {
    Json(digest)
}

/// Responds with the request as it was received, except for credentials and tokens.
pub(super) async fn echo(
    Extension(exchange): InProgress,
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

/// The first `count` bytes of the pattern, in pieces.
fn pieces(mut count: u64) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = usize::try_from(count).unwrap_or(usize::MAX).min(PIECE.len());
        count -= length as u64;
        (length > 0).then(|| PIECE.slice(..length))
    })
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
