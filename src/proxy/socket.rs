//! The socket below TLS, and how much comes by it before an answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket to an upstream.
pub(super) struct Socket {
    stream: TcpStream,
    head: Head,
}

/// Counts what comes while the head of an answer is waited for. Interim answers (1xx) are among it, of which no
/// server has a reason for more than some, and hyper passes over any number.
#[derive(Clone)]
pub(super) struct Head(Arc<AtomicU64>);

/// The upstream sends and sends, and no answer comes of it.
#[derive(Debug, thiserror::Error)]
#[error("more than {} KiB came before an answer", LONGEST >> 10)]
pub(super) struct Flooded;

/// What may come before an answer.
const LONGEST: u64 = 256 << 10;
/// The count where no head is waited for.
const NONE: u64 = u64::MAX;

/// The counter of a connection.
pub(super) fn head(stream: &MaybeHttpsStream<TokioIo<Socket>>) -> Head {
    let socket = match stream {
        MaybeHttpsStream::Http(plain) => plain,
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
    };
    socket.inner().head.clone()
}

impl Head {
    /// A request goes out.
    pub(super) fn begins(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The head is there.
    pub(super) fn ends(&self) {
        self.0.store(NONE, Ordering::Relaxed);
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let before = self.0.load(Ordering::Relaxed);
        if before == NONE {
            return Ok(());
        }
        let now = before + bytes as u64;
        self.0.store(now, Ordering::Relaxed);
        if now > LONGEST {
            Err(io::Error::other(Flooded))
        } else {
            Ok(())
        }
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        let head = Head(Arc::new(AtomicU64::new(NONE)));
        Self { stream, head }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut socket.stream).poll_read(cx, out))?;
        Poll::Ready(socket.head.count(out.filled().len() - before))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One piece costs the system less as what it is.
        if let [piece] = bytes {
            return Pin::new(&mut self.stream).poll_write(cx, piece);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
