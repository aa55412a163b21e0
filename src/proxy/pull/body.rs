//! The body of a response that comes from the spool, or could not be stored there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::spool::MessageBody;
use crate::upstream::ResponseBody;

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// The body of a stored message.
pub(super) fn stored(body: MessageBody) -> Body {
    match body.file {
        None => Body::from(body.rest),
        Some(_) => Body::new(StoredBody::new(body)),
    }
}

/// The body of a message that could not be stored: what came of it before, and what is still to come from the upstream.
/// If it breaks off, the reason is written to `broken_off`.
pub(super) fn passed_through(
    begun: MessageBody,
    rest: ResponseBody,
    broken_off: Arc<OnceLock<String>>,
) -> Body {
    let rest = stream::unfold(rest, move |mut rest| async move {
        // At the caller's pace, so without a deadline.
        let frame = rest.frame().await?;
        Some((frame.map_err(io::Error::other), rest))
    });
    let frames = BodyStream::new(StoredBody::new(begun)).chain(rest);
    Body::new(StreamBody::new(frames.inspect_err(move |error| {
        // Only the first reason counts.
        let _ = broken_off.set(error.to_string());
    })))
}

/// The next part of a response from the upstream, or why there is none.
pub(super) async fn next_frame(
    body: &mut ResponseBody,
    deadline: Instant,
) -> Option<Result<Frame<Bytes>, String>> {
    match tokio::time::timeout_at(deadline, body.frame()).await {
        Ok(frame) => Some(frame?.map_err(|error| error.to_string())),
        Err(_) => Some(Err("the response was not whole within timeout.pull".to_owned())),
    }
}

/// A body from the spool. It knows its length, so that its last byte is also known as its end.
struct StoredBody {
    pieces: BoxStream<'static, io::Result<Bytes>>,
    left: u64,
}

impl StoredBody {
    fn new(body: MessageBody) -> Self {
        Self {
            left: body.length(),
            pieces: pieces(body).boxed(),
        }
    }
}

impl http_body::Body for StoredBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = ready!(self.pieces.poll_next_unpin(cx));
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if self.left > 0 => {
                let reason = "the spool's file is shorter than its message";
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn pieces(body: MessageBody) -> impl Stream<Item = io::Result<Bytes>> {
    let file = body.file.map(|(file, length)| {
        let file = File::from_std(file).take(length);
        ReaderStream::with_capacity(file, PIECE)
    });
    let rest = (!body.rest.is_empty()).then_some(Ok(body.rest));
    stream::iter(file).flatten().chain(stream::iter(rest))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn the_body_of_a_file_that_is_too_short_fails_and_does_not_end() {
        for (length, is_whole) in [(100_000, true), (100_001, false)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'x'; 100_000]).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let body = stored(MessageBody {
                file: Some((file, length)),
                rest: Bytes::new(),
            });
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length));
            assert_eq!(body.collect().await.is_ok(), is_whole);
        }
    }
}
