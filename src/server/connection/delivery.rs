//! Decides whether a message was delivered, by how its connection ends.
//!
//! After the last byte of a message and the FIN:
//!
//! | event | the message is |
//! |---|---|
//! | the caller closes the connection in order, every byte acknowledged | delivered |
//! | every byte acknowledged, and silence for `spool.settle` | delivered |
//! | every byte acknowledged by a trusted proxy, or sent before that proxy reset the connection | delivered |
//! | the connection is reset | not delivered |
//! | the caller reads nothing for `limits.stall` | not delivered, and the connection is reset |
//!
//! An acknowledgement comes from the caller's system and not from the caller, so it proves nothing by itself.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::head_filter::{HeadFilter, Stalled};
use super::transport::Transport;
use crate::platform::socket;
use crate::server::delivery_observer::DeliveryObserver;

/// How often to look for acknowledgements, which the system does not announce.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(100);
/// The same, before the tail of a message is sent.
const TAIL_POLL: Duration = Duration::from_millis(1);
/// How long the tail waits for acknowledgements: more than the 40 ms for which a system may delay one.
const TAIL_WAIT: Duration = Duration::from_millis(60);
/// How long the caller has to read what its system has acknowledged, before the tail is sent.
const READING: Duration = Duration::from_millis(5);

impl HeadFilter {
    /// Sends the tail of a message with the FIN, follows the delivery to its end, and records the outcome. When `cut_off`
    /// resolves, a message that is acknowledged counts as delivered.
    pub(super) async fn deliver(&mut self, cut_off: impl Future<Output = ()>) -> Result<(), Stalled> {
        // A caller that closed its side before it had the message cannot close it again, so our side stays open: only
        // then does its system reset the connection if the caller exits with a part of the message unread.
        let was_half_closed = self.is_eof;
        let stall = self.limits.stall;
        let sent = match self.pause_before_tail().await {
            Ok(()) => tokio::time::timeout(stall, self.send_tail()).await,
            Err(error) => Ok(Err(error)),
        };
        let outcome = match sent {
            Err(_) => Err(Stalled::Response),
            Ok(Err(_)) => Ok(false),
            Ok(Ok(())) => {
                if !was_half_closed {
                    socket::finish(&self.stream.socket());
                }
                self.follow(std::pin::pin!(cut_off)).await
            }
        };
        if outcome.is_err() {
            socket::reset_on_close(&self.stream.socket());
        } else if was_half_closed {
            socket::finish(&self.stream.socket());
        }
        if let Some(observer) = self.observer.take() {
            observer.record(outcome == Ok(true)).await;
        }
        outcome.map(drop)
    }

    /// Gives the caller the time to read everything before the tail of a message.
    async fn pause_before_tail(&mut self) -> io::Result<()> {
        if !self.tail.is_begun() {
            return Ok(());
        }
        let mut left = TAIL_WAIT;
        while socket::unacknowledged(&self.stream.socket()) > 0 && !left.is_zero() {
            self.wait(TAIL_POLL).await?;
            left = left.saturating_sub(TAIL_POLL);
        }
        self.wait(READING).await
    }

    async fn send_tail(&mut self) -> io::Result<()> {
        if !self.is_eof {
            socket::cork(&self.stream.socket());
        }
        let mut tail = self.tail.take();
        self.wait_for(|mut stream, cx| {
            while !tail.is_empty() {
                let written = ready!(stream.as_mut().poll_write(cx, &tail))?;
                tail.advance(written);
            }
            stream.as_mut().poll_flush(cx)
        })
        .await
    }

    async fn wait(&mut self, time: Duration) -> io::Result<()> {
        let mut timer = std::pin::pin!(tokio::time::sleep(time));
        self.wait_for(|_, cx| timer.as_mut().poll(cx).map(Ok)).await
    }

    /// Polls until it is ready, and replies to the spool's questions in the meantime.
    async fn wait_for(
        &mut self,
        mut poll: impl FnMut(Pin<&mut dyn Transport>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            self.answer_spool(cx)?;
            poll(Pin::new(&mut *self.stream), cx)
        })
        .await
    }

    /// Follows a message that was sent to its end; returns whether it was delivered. What the caller sends meanwhile is
    /// discarded: the response was the last one of its connection.
    async fn follow(&mut self, mut cut_off: Pin<&mut impl Future<Output = ()>>) -> Result<bool, Stalled> {
        let (stream, is_eof) = (&mut *self.stream, &mut self.is_eof);
        let Some(observer) = self.observer.as_deref_mut() else {
            return Ok(false);
        };
        let mut scratch = [0; 512];
        let (mut unacknowledged, mut since) = (usize::MAX, Instant::now());
        let (mut is_closed, mut is_cut_short) = (false, false);
        loop {
            if socket::is_reset(&stream.socket()) {
                return Ok(is_delivered_in_spite_of_reset(stream, observer));
            }
            let now = Instant::now();
            let left = socket::unacknowledged(&stream.socket());
            if left < unacknowledged {
                (unacknowledged, since) = (left, now);
            }
            let due = match left {
                0 if is_closed || is_cut_short || observer.is_relayed() => return Ok(true),
                0 if now - since >= observer.settle() => return Ok(true),
                0 => since + observer.settle(),
                _ if is_cut_short => return Ok(false),
                _ if now - since >= self.limits.stall => return Err(Stalled::Response),
                _ => now + ACKNOWLEDGEMENT_POLL,
            };
            tokio::select! {
                biased;
                () = &mut cut_off => is_cut_short = true,
                read = stream.read(&mut scratch), if !*is_eof => match read {
                    Ok(0) => (is_closed, *is_eof) = (true, true),
                    Ok(_) => {}
                    // A TLS connection that ends without close_notify is closed all the same. Its last acknowledgement may
                    // have come with the end.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        (is_closed, *is_eof) = (true, true);
                    }
                    Err(_) => return Ok(is_delivered_in_spite_of_reset(stream, observer)),
                },
                () = std::future::poll_fn(|cx| observer.poll_asked(cx)) => {
                    // Checked after the question was received, so that the answer covers every reset before it.
                    if socket::is_reset(&stream.socket()) {
                        return Ok(is_delivered_in_spite_of_reset(stream, observer));
                    }
                    observer.is_connected();
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }
}

/// A proxy may reset a connection that it has read to its end before its system has acknowledged the last segments, and
/// the system ignores the acknowledgement that a reset carries. So, behind a trusted proxy, what was sent by then counts
/// as acknowledged.
fn is_delivered_in_spite_of_reset(stream: &dyn Transport, observer: &dyn DeliveryObserver) -> bool {
    observer.is_relayed() && socket::unsent(&stream.socket()) == 0
}
