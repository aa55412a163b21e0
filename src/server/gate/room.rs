//! Where a thread reads to and gathers what it writes, so that a connection holds no more than what has come.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

thread_local! {
    /// Room for a head and a usual body at once.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; 32 << 10].into());
}

/// Up to here it costs the system less to write one piece than several.
const GATHERED: usize = 4 << 10;

/// What hyper writes of its own accord before a response.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether something was written with which a response begins.
pub(super) fn begins(first: &[u8], written: &Poll<io::Result<usize>>) -> bool {
    matches!(written, Poll::Ready(Ok(1..))) && first != CONTINUE
}

/// Reads some more behind what is there; 0 at the end. Nothing that is there takes no room.
pub(super) fn read(
    stream: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    ROOM.with_borrow_mut(|room| {
        let mut read = ReadBuf::new(room);
        ready!(stream.poll_read(cx, &mut read))?;
        if input.is_empty() {
            *input = BytesMut::new();
        }
        input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// Writes pieces, as one where they are small.
pub(super) fn write(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    if length > GATHERED {
        return stream.poll_write_vectored(cx, pieces);
    }
    ROOM.with_borrow_mut(|room| {
        let mut rest = &mut room[..length];
        for piece in pieces {
            rest.put_slice(piece);
        }
        stream.poll_write(cx, &room[..length])
    })
}
