//! The gate stands between a caller's socket and hyper: raw heads are judged here, and only proven
//! bytes go on.
//!
//! hyper sees one request at a time. What follows it on the connection stays here until the answer
//! is written and flushed, so that a refusal can be told behind the answers before it, and a half
//! closed caller still gets its answer: hyper never sees the end of input in an exchange.
//!
//! Between requests an idle connection is parked: hyper is told that input has ended, its state is
//! dropped, and the gate alone waits for the next head.

mod close;
mod exchange;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod head;
mod room;
mod tail;
mod target;
mod tracker;
mod wait;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

pub(super) use self::exchange::Exchange;
use self::framing::{BodyError, Framing};
use self::head::Examined;
use self::tail::Tail;
use self::tracker::DeliveryTracker;
use self::wait::{PARK_AFTER, Wait};
use super::answer::Answer;
use super::idle::{Registration, Successor};
use super::listener::Wire;
use crate::config::Limits;

/// A caller's connection as hyper may see it.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own: the state that excludes is `phase`.
pub(super) struct Gate<S> {
    stream: S,
    limits: Arc<Limits>,
    exchange: Arc<Exchange>,
    phase: Phase,
    /// What was read and not passed on.
    input: BytesMut,
    /// Bytes at the start of `input` that are a proven head.
    passable: usize,
    /// Bytes of `input` that were judged as a partial head.
    scanned: usize,
    timer: Pin<Box<Sleep>>,
    wait: Wait,
    refusal: Option<Box<Answer>>,
    is_to_head: bool,
    is_http_10: bool,
    is_eof: bool,
    is_parked: bool,
    /// Whether some of the response was written, interim ones apart.
    is_begun: bool,
    is_answer_flushed: bool,
    is_reader_waiting: bool,
    delivery: DeliveryTracker,
    /// Of the response whose delivery is tracked.
    tail: Tail,
    /// Among the connections that idle; in a box, since most of the time nothing in it is looked at.
    idle: Option<Box<Registration>>,
}

enum Phase {
    /// Waiting for a head.
    Between,
    /// In a request's body.
    Body(Framing),
    /// The request is read; its answer is under way.
    Answering,
}

/// What a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A request that may go to hyper.
    Request,
    /// Nothing more, or a refusal that [`Gate::close`] tells.
    End,
}

impl<S: Wire> Gate<S> {
    pub(super) fn new(stream: S, limits: Arc<Limits>, exchange: Arc<Exchange>) -> Self {
        Self {
            stream,
            exchange,
            phase: Phase::Between,
            input: BytesMut::new(),
            passable: 0,
            scanned: 0,
            timer: Box::pin(tokio::time::sleep(limits.first_byte)),
            wait: Wait::FirstByte,
            refusal: None,
            is_to_head: false,
            is_http_10: false,
            is_eof: false,
            is_parked: false,
            is_begun: false,
            is_answer_flushed: false,
            is_reader_waiting: false,
            delivery: DeliveryTracker::new(limits.stall),
            tail: Tail::default(),
            idle: None,
            limits,
        }
    }

    /// Lets the connection be closed for a newcomer while it idles.
    pub(super) fn with_registration(mut self, idle: Registration) -> Self {
        self.idle = Some(Box::new(idle));
        self
    }

    /// Who gets the connection's place, where it ended to make room.
    pub(super) fn take_successor(&mut self) -> Option<Successor> {
        self.idle.as_mut()?.take_successor()
    }

    /// Waits for a whole head that may go to hyper. Cancel safe.
    pub(super) async fn next(&mut self) -> Next {
        if self.is_parked {
            self.is_parked = false;
            self.input = BytesMut::new();
            self.arm(Wait::KeepAlive, self.limits.keep_alive.saturating_sub(PARK_AFTER));
        }
        std::future::poll_fn(|cx| self.poll_head(cx)).await
    }

    /// Whether hyper ended because the connection idles, and not because it is over.
    pub(super) fn is_parked(&self) -> bool {
        self.is_parked
    }

    /// Whether an answer has begun and not ended: what hyper leaves behind is a cut.
    pub(super) fn is_mid_answer(&self) -> bool {
        !matches!(self.phase, Phase::Between)
    }

    /// Whether there is a request of whose response nothing was written.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_mid_answer() && !self.is_begun && self.tail.is_all()
    }

    /// Has [`close`](Self::close) send this in the place of a response that hyper could not write.
    pub(super) fn respond_instead(&mut self, answer: Answer) {
        // What is held back of a message is not sent, so that it was not delivered.
        self.delivery.broken(&self.stream);
        self.tail = Tail::default();
        self.refusal = Some(Box::new(answer));
    }

    /// The answer that [`close`](Self::close) will tell.
    pub(super) fn refusal(&self) -> Option<&Answer> {
        self.refusal.as_deref()
    }

    /// Ends a connection in the middle of an answer, so that the caller can tell: where only the
    /// end of the connection ends the answer (HTTP/1.0), a plain end would look whole.
    pub(super) async fn cut(mut self) {
        self.delivery.record().await;
        if self.is_http_10 {
            self.stream.reset();
        }
    }

    /// Ends a connection at once, with what is not written yet.
    pub(super) async fn reset(mut self) {
        self.delivery.record().await;
        self.stream.reset();
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            while self.input.starts_with(b"\r\n") {
                // RFC 9112 §2.2: an empty line before a request is ignored.
                self.input.advance(2);
            }
            if !self.input.is_empty() && self.input != b"\r"[..] {
                match head::examine(&self.input, self.scanned, &self.limits) {
                    Examined::Complete(head) => {
                        self.admit(&head);
                        return Poll::Ready(Next::Request);
                    }
                    Examined::Partial => {
                        self.scanned = self.input.len();
                        if self.wait != Wait::Head {
                            self.arm(Wait::Head, self.limits.first_byte);
                        }
                    }
                    Examined::Refused(answer) => return Poll::Ready(self.refuse(*answer)),
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) if self.input.is_empty() => return Poll::Ready(Next::End),
                Poll::Ready(Ok(0)) => {
                    let answer = head::malformed("the request's head breaks off");
                    return Poll::Ready(self.refuse(answer));
                }
                Poll::Ready(Ok(_)) => self.stop_idling(),
                Poll::Ready(Err(_)) => {
                    self.is_eof = true;
                    return Poll::Ready(Next::End);
                }
                Poll::Pending => {
                    if let Some(next) = self.heed_stop() {
                        return Poll::Ready(next);
                    }
                    if self.makes_room(cx) {
                        return Poll::Ready(Next::End);
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    return Poll::Ready(self.time_is_up());
                }
            }
        }
    }

    fn admit(&mut self, head: &head::Head) {
        self.passable = head.length;
        if let Some(encoded) = &head.encoded {
            let rest = self.input.split_off(head.length);
            self.input = BytesMut::from(&encoded[..]);
            self.input.extend_from_slice(&rest);
            self.passable = encoded.len();
        }
        self.scanned = 0;
        self.is_http_10 = head.is_http_10;
        self.is_begun = false;
        self.is_answer_flushed = false;
        self.is_to_head = self.input.starts_with(b"HEAD ");
        self.exchange.answered.store(false, Ordering::Release);
        let is_body_open = !head.framing.is_done();
        self.exchange.is_body_open.store(is_body_open, Ordering::Release);
        self.phase = if is_body_open {
            Phase::Body(head.framing.clone())
        } else {
            Phase::Answering
        };
    }

    /// Has [`close`](Self::close) tell a refusal of the request whose head is here.
    pub(super) fn refuse(&mut self, answer: Answer) -> Next {
        self.is_to_head = self.input.starts_with(b"HEAD ");
        self.refusal = Some(Box::new(answer));
        Next::End
    }

    /// Reads some more into `input`; 0 at the end. An idle connection holds no buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_eof {
            return Poll::Ready(Ok(0));
        }
        let filled = ready!(room::read(Pin::new(&mut self.stream), cx, &mut self.input));
        let count = match filled {
            Ok(count) => count,
            Err(error) => {
                // A TLS connection that ends without close_notify is closed all the same.
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    self.delivery.closed(&self.stream);
                }
                self.delivery.broken(&self.stream);
                return Poll::Ready(Err(error));
            }
        };
        self.is_eof = count == 0;
        Poll::Ready(Ok(count))
    }

    /// Passes on what of the body is proven; nothing is passed at its end, or where it is refused.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let Phase::Body(framing) = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let ready = usize::try_from(framing.readable())
            .unwrap_or(usize::MAX)
            .min(out.remaining())
            .min(self.input.len());
        let followed = framing.follow(&self.input[..ready]);
        if let Ok(taken) = followed {
            out.put_slice(&self.input[..taken]);
            self.input.advance(taken);
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
        }
        self.exchange.pieces.fetch_add(1, Ordering::Relaxed);
        match followed {
            Ok(_) if framing.is_done() => {
                self.phase = Phase::Answering;
                self.exchange.is_body_open.store(false, Ordering::Release);
            }
            Ok(_) => {}
            Err(error) => {
                let fault = if error == BodyError::Malformed { 1 } else { 2 };
                self.exchange.fault.store(fault, Ordering::Release);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// While the answer is under way only the caller's going is of interest; what it sends is kept
    /// for later, up to one head.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_eof && self.input.len() < self.limits.head {
            match self.poll_fill(cx) {
                Poll::Ready(filled) => filled?,
                Poll::Pending => break,
            };
        }
        self.delivery.poll(cx, &self.stream);
        Poll::Pending
    }

    /// Whether the caller of a request that has just been passed on is still there: one that is gone already gets
    /// nothing sent upstream.
    fn look_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let has_passed_all = self.passable == 0 && matches!(self.phase, Phase::Answering);
        match has_passed_all.then(|| self.poll_watch(cx)) {
            Some(Poll::Ready(Err(gone))) => Poll::Ready(Err(gone)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The delivery of the response that is about to be written may be observed. Such a response is the connection's
    /// last, and its [`Tail`] is held back until [`close`](Self::close).
    fn before_write(&mut self) {
        if let Some(observer) = self.exchange.take_observer() {
            self.delivery.begin(observer);
        }
    }

    /// Who asks whether the caller is there hears of it while the caller reads slowly, too.
    fn after_write<T>(&mut self, written: &Poll<T>, cx: &mut Context<'_>) {
        if written.is_pending() {
            self.delivery.poll(cx, &self.stream);
        }
    }

    fn take_turn(&mut self) {
        if matches!(self.phase, Phase::Answering) && self.is_answer_flushed {
            self.phase = Phase::Between;
            self.arm(Wait::Park, PARK_AFTER);
        }
    }
}

impl<S: Wire> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            if gate.passable > 0 {
                let count = gate.passable.min(out.remaining());
                out.put_slice(&gate.input[..count]);
                gate.input.advance(count);
                gate.passable -= count;
                return gate.look_once(cx);
            }
            gate.take_turn();
            match gate.phase {
                Phase::Between => match ready!(gate.poll_head(cx)) {
                    Next::Request => {}
                    Next::End => return Poll::Ready(Ok(())),
                },
                Phase::Body(_) => {
                    ready!(gate.poll_body(cx, out))?;
                    return gate.look_once(cx);
                }
                Phase::Answering => {
                    let watched = gate.poll_watch(cx);
                    gate.is_reader_waiting = watched.is_pending();
                    return watched;
                }
            }
        }
    }
}

impl<S: Wire> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        gate.before_write();
        let stream = Pin::new(&mut gate.stream);
        let written = if gate.delivery.is_pending() {
            gate.tail.poll_write(stream, cx, bytes)
        } else {
            let written = stream.poll_write(cx, bytes);
            gate.is_begun |= room::begins(bytes, &written);
            written
        };
        gate.after_write(&written, cx);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        gate.before_write();
        let stream = Pin::new(&mut gate.stream);
        let written = if gate.delivery.is_pending() {
            let first = bytes.iter().find(|piece| !piece.is_empty());
            gate.tail.poll_write(stream, cx, first.map_or(&[], |piece| piece))
        } else {
            let written = room::write(stream, cx, bytes);
            gate.is_begun |= bytes.first().is_some_and(|first| room::begins(first, &written));
            written
        };
        gate.after_write(&written, cx);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when all that it had is written, and whenever it waits for the answer: after the answer's body
    /// ended, the answer is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if !self.is_answer_flushed && self.exchange.answered.load(Ordering::Acquire) {
            self.is_answer_flushed = true;
            // After a message nothing more is read as a request: the connection is about to be closed.
            if self.is_reader_waiting && !self.delivery.is_pending() {
                // hyper does not read again unasked after a read that was pending. So the next head is waited for
                // here, and hyper is asked to read once there is something.
                self.is_reader_waiting = false;
                self.take_turn();
                if self.poll_head(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
        } else if matches!(self.phase, Phase::Answering)
            && let Poll::Ready(gone) = self.poll_watch(cx)
        {
            return Poll::Ready(gone);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
