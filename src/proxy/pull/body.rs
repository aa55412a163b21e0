//! The body of a response that comes from the spool, or could not be stored there.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::spool::{MessageBody, PullWriter};
use crate::upstream::ResponseBody;

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// The body of a stored message.
pub(super) fn stored(body: MessageBody) -> Body {
    match body.file {
        None => Body::from(body.rest),
        Some(_) => Body::from_stream(pieces(body)),
    }
}

/// The body of a message that could not be stored: what came of it before, and what is still to come from the upstream.
/// Dropped before its end, its message is reported as lost.
pub(super) fn passed_through(begun: MessageBody, rest: ResponseBody, writer: PullWriter) -> Body {
    let rest = stream::unfold((rest, writer), |(mut rest, writer)| async {
        let Some(frame) = rest.frame().await else {
            writer.passed_through();
            return None;
        };
        Some((frame.map_err(io::Error::other), (rest, writer)))
    });
    Body::new(StreamBody::new(pieces(begun).map_ok(Frame::data).chain(rest)))
}

fn pieces(body: MessageBody) -> impl Stream<Item = io::Result<Bytes>> {
    let file = body.file.map(|(file, length)| {
        let file = File::from_std(file).take(length);
        ReaderStream::with_capacity(file, PIECE)
    });
    let rest = (!body.rest.is_empty()).then_some(Ok(body.rest));
    stream::iter(file).flatten().chain(stream::iter(rest))
}
