//! Ends a connection: writes what is left to be written, follows the delivery of a message, and reads what the caller
//! still sends, so that it gets to read everything.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::listener::Wire;
use super::{Gate, Phase, tail};

/// Bounds on reading what a refused caller still sends, so that it gets to read the answer.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 1 << 20;

impl<S: Wire> Gate<S> {
    /// Writes a refusal, if there is one, and ends the connection so that the caller can still read what was sent: closing
    /// over unread input would reset it away.
    ///
    /// After a message the delivery is followed, until `hurry` resolves. Returns whether the caller took nothing more of
    /// the message for `limits.stall`.
    pub(in super::super) async fn close(mut self, hurry: impl Future<Output = ()>) -> bool {
        if self.delivery.is_pending() {
            let is_stalled = self.finish_delivery(hurry).await;
            self.delivery.record().await;
            return is_stalled;
        }
        self.delivery.record().await;
        let is_unread =
            self.refusal.is_some() || !self.input.is_empty() || matches!(self.phase, Phase::Body(_));
        let finished = async {
            if let Some(answer) = self.refusal.take() {
                self.stream.write_all(&answer.to_bytes(!self.is_to_head)).await?;
            }
            self.stream.shutdown().await
        };
        let Ok(Ok(())) = tokio::time::timeout(LINGER, finished).await else {
            return false;
        };
        if is_unread && !self.is_eof {
            let mut stream = self.stream.take(LINGER_BYTES as u64);
            let mut nowhere = tokio::io::sink();
            let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut stream, &mut nowhere)).await;
        }
        false
    }

    async fn finish_delivery(&mut self, hurry: impl Future<Output = ()>) -> bool {
        let is_whole = self.exchange.is_whole.load(Ordering::Acquire);
        if !is_whole || self.send_tail().await.is_err() {
            self.delivery.broken(&self.stream);
            return false;
        }
        // A caller that closed its side before it had the message cannot close it once more. Only while our side is open
        // does its system report that it left with a part of the message unread.
        let was_half_closed = self.is_eof;
        if !was_half_closed {
            self.stream.finish();
        }
        tokio::select! {
            () = self.follow_delivery(was_half_closed) => {}
            () = hurry => {}
        }
        self.delivery.end(&self.stream);
        if self.delivery.is_stalled() {
            self.stream.reset();
        } else if was_half_closed {
            self.stream.finish();
        }
        self.delivery.is_stalled()
    }

    /// Sends the end of a message, when the caller has had the time to read everything before it.
    async fn send_tail(&mut self) -> io::Result<()> {
        if !self.tail.is_all() {
            let mut left = tail::LONGEST;
            while self.delivery.is_pending() && self.stream.unacknowledged() > 0 && !left.is_zero() {
                self.track_for(tail::POLL).await;
                left = left.saturating_sub(tail::POLL);
            }
            self.track_for(tail::READING).await;
        }
        if !self.delivery.is_pending() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut tail = self.tail.take();
        if !self.is_eof {
            self.stream.cork();
        }
        std::future::poll_fn(|cx| {
            self.delivery.poll(cx, &self.stream);
            while !tail.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &tail))?;
                tail.advance(written);
            }
            Pin::new(&mut self.stream).poll_flush(cx)
        })
        .await?;
        self.delivery.written();
        Ok(())
    }

    /// Waits, and follows the delivery meanwhile. Ends early with the delivery, so that its outcome is recorded at once.
    async fn track_for(&mut self, time: Duration) {
        let mut timer = std::pin::pin!(tokio::time::sleep(time));
        std::future::poll_fn(|cx| {
            self.delivery.poll(cx, &self.stream);
            if !self.delivery.is_pending() {
                return Poll::Ready(());
            }
            timer.as_mut().poll(cx)
        })
        .await;
    }

    /// Resolves when it is known whether the message was delivered. What the caller sends meanwhile is discarded: the
    /// response said that it is the connection's last.
    async fn follow_delivery(&mut self, was_half_closed: bool) {
        std::future::poll_fn(|cx| {
            while self.delivery.is_pending() && !self.is_eof {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(_)) => self.input.clear(),
                    Poll::Ready(Err(_)) => self.is_eof = true,
                    Poll::Pending => break,
                }
            }
            self.delivery.poll(cx, &self.stream);
            if self.is_eof && !was_half_closed && !self.stream.is_reset() {
                self.delivery.closed(&self.stream);
            }
            if self.delivery.is_pending() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}
