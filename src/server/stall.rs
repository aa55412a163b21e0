//! Ends what goes nowhere: a caller that takes nothing of its answer would hold its place for ever, and so
//! would the rest of a request's body that nobody reads behind an early answer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A socket whose writes fail once nothing could be written for so long.
pub(super) struct Watched<S> {
    socket: S,
    stall: Stall,
}

/// Measures how long something has gone nowhere; costs nothing before it does.
pub struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

/// The caller took nothing of its answer for `limits.stall`.
#[derive(Debug, thiserror::Error)]
#[error("the caller takes nothing of its answer")]
pub(super) struct Stalled;

impl<S> Watched<S> {
    pub(super) fn new(socket: S, limit: Duration) -> Self {
        Self {
            socket,
            stall: Stall::new(limit),
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall.reset();
            return written;
        }
        ready!(self.stall.poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Stalled)))
    }
}

impl Stall {
    /// One that waits for so long.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            is_running: false,
        }
    }

    /// It goes on.
    pub fn reset(&mut self) {
        self.is_running = false;
    }

    /// Resolves when it was polled for as long as the limit without a reset.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::ZERO)));
        if !self.is_running {
            self.is_running = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        timer.as_mut().poll(cx)
    }
}

/// Whether an error, or what it was made from, is [`Stalled`].
pub(super) fn is_stalled(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_stalled = |link: &(dyn std::error::Error + 'static)| {
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        matches!(wrapped, Some(wrapped) if wrapped.is::<Stalled>())
    };
    std::iter::successors(Some(error), |link| link.source()).any(is_stalled)
}

impl<S: AsFd> AsFd for Watched<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bytes);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_for_the_limit_is_a_write_error() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut watched = Watched::new(ours, LIMIT);
        watched.write_all(b"four").await.unwrap();
        let began = Instant::now();
        let error = watched.write_all(b"more").await.unwrap_err();
        assert!(began.elapsed() >= LIMIT);
        assert!(is_stalled(&error), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_a_byte_now_and_then_is_served_to_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut watched = Watched::new(ours, LIMIT);
        let slow = async {
            for _ in 0..20 {
                tokio::time::sleep(LIMIT * 9 / 10).await;
                theirs.read_u8().await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(watched.write_all(&[0; 24]), slow);
        written.unwrap();
    }
}
