//! Endpoints beneath `/simulator/` that Cisco does not have: bytes out, bytes in and an echo, for tests of what lies
//! between. Nothing is held whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::answer::broken_off;
use super::tap::RawHead;
use super::{redaction, reply};

/// The pattern's period. It is prime, so that a piece lost or doubled shows unless its size is a multiple of it.
const PERIOD: usize = 251;
/// How many periods go out in one piece.
const PERIODS: usize = 256;

/// The first `count` bytes that `GET /simulator/bytes/{count}` sends: the byte at `i` is `i % 251`.
pub fn pattern(count: u64) -> impl Iterator<Item = u8> {
    let period: [u8; PERIOD] = std::array::from_fn(|at| u8::try_from(at).unwrap_or_default());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    period.into_iter().cycle().take(count)
}

/// The SHA-256, in hexadecimal, of the first `count` bytes of the [`pattern`].
#[must_use]
pub fn pattern_sha256(mut count: u64) -> String {
    let piece = piece();
    let mut hash = Sha256::new();
    while count > 0 {
        let taken = usize::try_from(count).unwrap_or(usize::MAX).min(piece.len());
        hash.update(&piece[..taken]);
        count -= taken as u64;
    }
    format!("{:x}", hash.finalize())
}

/// Sends so many bytes of the pattern: with their count in front, or chunked if the query says `chunked`.
pub(super) async fn bytes(Path(count): Path<String>, RawQuery(query): RawQuery) -> Response<Body> {
    let Ok(left) = count.parse() else {
        return reply::message(
            StatusCode::BAD_REQUEST,
            "The count is no number: ask for /simulator/bytes/1000",
        );
    };
    let chunked = match query.as_deref() {
        None | Some("") => false,
        Some("chunked") => true,
        Some(_) => {
            return reply::message(
                StatusCode::BAD_REQUEST,
                "The query is unknown: leave it out, or ask for ?chunked",
            );
        }
    };
    let mut response = Response::new(Body::new(Pattern {
        piece: piece(),
        left,
        chunked,
    }));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Swallows a body and answers with its size and hash.
pub(super) async fn sink(body: Body) -> Response<Body> {
    match weighed(body).await {
        Ok((bytes, sha256)) => reply::json(StatusCode::OK, &json!({"bytes": bytes, "sha256": sha256})),
        Err(error) => broken_off(&error),
    }
}

/// Answers with the request as it was received, but for credentials and tokens.
pub(super) async fn echo(Extension(head): Extension<RawHead>, body: Body) -> Response<Body> {
    match weighed(body).await {
        Ok((bytes, sha256)) => reply::json(
            StatusCode::OK,
            &json!({
                "method": head.method,
                "target": head.target,
                "version": head.version,
                "headers": redaction::headers(&head.headers),
                "body": {"bytes": bytes, "sha256": sha256},
            }),
        ),
        Err(error) => broken_off(&error),
    }
}

async fn weighed(mut body: Body) -> Result<(u64, String), axum::Error> {
    let mut bytes = 0;
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            bytes += data.len() as u64;
            hash.update(data);
        }
    }
    Ok((bytes, format!("{:x}", hash.finalize())))
}

fn piece() -> Bytes {
    pattern((PERIOD * PERIODS) as u64).collect()
}

#[derive(Debug)]
struct Pattern {
    piece: Bytes,
    left: u64,
    chunked: bool,
}

impl HttpBody for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let taken = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(self.piece.len());
        self.left -= taken as u64;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..taken)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.left)
        }
    }
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
