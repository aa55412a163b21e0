//! Holds the end of a response back, so that it can be sent in one segment with the FIN after the caller has read
//! everything before it.
//!
//! HAProxy resets its connection to a server when it has a complete response and has not seen the FIN, which happens
//! wherever the two do not arrive at once. The reset looks like a failed delivery.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;

/// The end of a response, not sent yet.
#[derive(Default)]
pub(super) struct Tail {
    held: BytesMut,
    is_begun: bool,
}

/// The bytes that are held back. With the FIN and TLS they fit into one segment of every network.
const LENGTH: usize = 1 << 10;

impl Tail {
    /// Whether a part of the response was sent before the tail.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Takes the bytes that are held.
    pub(super) fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }

    /// Takes bytes of the response, and writes all but the last KiB.
    pub(super) fn poll_write(
        &mut self,
        stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
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
        // Take as many bytes as were sent.
        self.held.extend_from_slice(&bytes[..of_held]);
        Poll::Ready(Ok(of_held))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn all_but_the_last_kibibyte_is_written_for_all_sizes_of_writes() {
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
                assert_eq!(tail.is_begun(), length > LENGTH);
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
