//! The body of a response that comes from the spool, or could not be stored there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf, Take};

use crate::spool::{MessageBody, PullWriter};
use crate::upstream::ResponseBody;

/// A stored body, or what was stored of one and what is still to come from the upstream.
pub(super) struct SpooledBody {
    file: Option<Take<File>>,
    stored: Bytes,
    /// With its pull, whose message is reported as lost if this is dropped before its end.
    rest: Option<(ResponseBody, PullWriter)>,
}

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

impl SpooledBody {
    pub(super) fn new(body: MessageBody, rest: Option<(ResponseBody, PullWriter)>) -> Self {
        Self {
            file: body.file.map(|(file, length)| File::from_std(file).take(length)),
            stored: body.rest,
            rest,
        }
    }

    fn file_left(&self) -> u64 {
        self.file.as_ref().map_or(0, Take::limit)
    }

    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let size = usize::try_from(self.file_left()).unwrap_or(PIECE).min(PIECE);
        let Some(file) = &mut self.file else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        let mut piece = vec![0; size];
        let mut read = ReadBuf::new(&mut piece);
        ready!(Pin::new(file).poll_read(cx, &mut read))?;
        let length = read.filled().len();
        if length == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        piece.truncate(length);
        Poll::Ready(Ok(piece.into()))
    }
}

impl Body for SpooledBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        if body.file_left() > 0 {
            return body.poll_file(cx).map(|piece| Some(piece.map(Frame::data)));
        }
        if !body.stored.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut body.stored)))));
        }
        let Some((rest, _)) = &mut body.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        if frame.is_none()
            && let Some((_, writer)) = body.rest.take()
        {
            writer.passed_through();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.file_left() == 0 && self.stored.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(self.file_left() + self.stored.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}
