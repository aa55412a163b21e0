//! Sends the end of a response together with the FIN, in one segment, after the caller has read everything before it.
//!
//! HAProxy resets its connection to a server when it has a whole response and has not seen the FIN yet, which happens
//! wherever the response and the FIN do not arrive at once. The reset looks like a failed delivery. So the last KiB is held
//! back until the rest is acknowledged and could be read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;

/// The end of a response, not sent yet.
#[derive(Default)]
pub(super) struct Tail {
    held: BytesMut,
    /// Something was sent before it.
    is_begun: bool,
}

/// What is held back. With the FIN and TLS it fits into one segment of any network.
const LENGTH: usize = 1 << 10;
/// How often to look for the acknowledgement of the rest: the system does not announce it.
pub(super) const POLL: Duration = Duration::from_millis(1);
/// How long to wait for the acknowledgement: some more than the 40 ms for which a system may delay it.
pub(super) const LONGEST: Duration = Duration::from_millis(60);
/// How long the caller has to read what its system has acknowledged.
pub(super) const READING: Duration = Duration::from_millis(5);

impl Tail {
    /// Whether the tail is the whole response.
    pub(super) fn is_all(&self) -> bool {
        !self.is_begun
    }

    /// Takes what is held.
    pub(super) fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }

    /// Takes bytes of the response, and writes all but the last KiB.
    pub(super) fn poll_write(
        &mut self,
        stream: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let held = self.held.len();
        let excess = (held + bytes.len()).saturating_sub(LENGTH);
        if excess == 0 {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let (first, second) = (excess.min(held), excess.saturating_sub(held));
        let pieces = [IoSlice::new(&self.held[..first]), IoSlice::new(&bytes[..second])];
        let written = ready!(stream.poll_write_vectored(cx, &pieces))?;
        if written == 0 {
            return Poll::Ready(Ok(0));
        }
        self.is_begun = true;
        let of_held = written.min(held);
        self.held.advance(of_held);
        if written > held {
            return Poll::Ready(Ok(written - held));
        }
        // As much comes in as went out.
        self.held.extend_from_slice(&bytes[..of_held]);
        Poll::Ready(Ok(of_held))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn all_but_the_last_kibibyte_is_written_whatever_the_pieces() {
        for length in [0, 1, 1024, 1025, 5000, 100_000] {
            for piece in [1, 7, 1000, 1024, 3000, 70_000] {
                let message: Vec<u8> = (0..=250).cycle().take(length).collect();
                let (mut ours, mut theirs) = tokio::io::duplex(777);
                let reader = tokio::spawn(async move {
                    let mut read = Vec::new();
                    theirs.read_to_end(&mut read).await.unwrap();
                    read
                });
                let mut tail = Tail::default();
                for mut bytes in message.chunks(piece) {
                    while !bytes.is_empty() {
                        let poll = |cx: &mut Context<'_>| tail.poll_write(Pin::new(&mut ours), cx, bytes);
                        let taken = std::future::poll_fn(poll).await.unwrap();
                        bytes = &bytes[taken..];
                    }
                }
                ours.shutdown().await.unwrap();
                drop(ours);
                assert_eq!(tail.is_all(), length <= LENGTH);
                let held = tail.take();
                assert_eq!(held.len(), length.min(LENGTH), "{length} in pieces of {piece}");
                let read = reader.await.unwrap();
                assert!(
                    [read, held.to_vec()].concat() == message,
                    "{length} in pieces of {piece}"
                );
            }
        }
    }
}
