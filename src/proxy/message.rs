//! Bodies of answers that come by way of the spool.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::spool;
use crate::upstream::{ResponseBody, ResponseBodyError};

/// A message's body, as long as was said.
pub(super) struct MessageBody {
    source: Source,
    left: u64,
}

enum Source {
    Whole(Bytes),
    File {
        file: tokio::fs::File,
        /// Where to go before the first read, and whether that was begun.
        seek: Option<(u64, bool)>,
    },
}

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

impl MessageBody {
    pub(super) fn open(body: spool::MessageBody) -> Self {
        match body {
            spool::MessageBody::Whole(bytes) => Self {
                left: bytes.len() as u64,
                source: Source::Whole(bytes),
            },
            spool::MessageBody::File { file, offset, length } => Self {
                left: length,
                source: Source::File {
                    file: tokio::fs::File::from_std(file),
                    seek: Some((offset, false)),
                },
            },
        }
    }

    /// Bytes that are to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let (file, seek) = match &mut self.source {
            Source::Whole(bytes) => return Poll::Ready(Ok(std::mem::take(bytes))),
            Source::File { file, seek } => (file, seek),
        };
        let mut file = Pin::new(file);
        if let Some((offset, is_begun)) = seek {
            if !*is_begun {
                file.as_mut().start_seek(SeekFrom::Start(*offset))?;
                *is_begun = true;
            }
            ready!(file.as_mut().poll_complete(cx))?;
            *seek = None;
        }
        let room = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; room];
        let mut read = ReadBuf::new(&mut piece);
        ready!(file.poll_read(cx, &mut read))?;
        let count = read.filled().len();
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        piece.truncate(count);
        Poll::Ready(Ok(piece.into()))
    }
}

impl http_body::Body for MessageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(body.poll_piece(cx));
        Poll::Ready(Some(piece.map(|piece| {
            body.left -= piece.len() as u64;
            Frame::data(piece)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer that the spool could not hold: what it had of it, and the rest as it comes.
pub(super) struct Resumed {
    begun: Bytes,
    rest: ResponseBody,
}

impl Resumed {
    pub(super) fn new(begun: Bytes, rest: ResponseBody) -> Self {
        Self { begun, rest }
    }
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let resumed = self.get_mut();
        if resumed.begun.is_empty() {
            return Pin::new(&mut resumed.rest).poll_frame(cx);
        }
        let begun = std::mem::take(&mut resumed.begun);
        Poll::Ready(Some(Ok(Frame::data(begun))))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.rest.is_end_stream()
    }
}
