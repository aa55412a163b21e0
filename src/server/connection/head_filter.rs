//! The head filter between a caller's connection and hyper: it validates each raw head, and passes only valid bytes on.
//!
//! hyper sees one request at a time. What follows it stays here until its response is written and flushed, so that a
//! refusal is sent after the responses before it. hyper never sees the end of input during a request, so a caller that
//! half-closes its connection gets its response.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::head;
use super::refusal::malformed;
use super::state::{Connection, PARK_AFTER, Reading};
use super::tail::Tail;
use super::transport::{Stalled, Transport};
use crate::config::Limits;
use crate::platform::socket;
use crate::server::context::ServerContext;
use crate::server::delivery::DeliveryObserver;
use crate::server::limits::{ConnectionPermit, IdleTimeout};
use crate::server::problem::{ProblemResponse, ProxyErrorType};
use crate::server::stopping::{Phase, Stopping};

/// A caller's connection as hyper sees it.
pub(super) struct HeadFilter {
    // Dropped before the permit, which goes to another connection then.
    pub(super) stream: Box<dyn Transport>,
    pub(super) connection: Connection,
    pub(super) limits: Arc<Limits>,
    stop: Stopping,
    /// Input that was not passed on.
    pub(super) input: BytesMut,
    /// The bytes at the start of `input` that are a valid head.
    passable: usize,
    /// The bytes of `input` that were parsed as an incomplete head.
    scanned: usize,
    pub(super) is_eof: bool,
    /// hyper waits for input, and has to be woken once it may read the next head.
    is_reader_waiting: bool,
    /// Fires at the deadline of the state, or before it.
    timer: Pin<Box<Sleep>>,
    write_timeout: IdleTimeout,
    /// The unacknowledged bytes when a flush of TLS was looked at last.
    unacknowledged: usize,
    /// Measures the rest of a request body after the response.
    body_timeout: IdleTimeout,
    /// The observer of the message that is being delivered, and the end of that message.
    pub(super) observer: Option<Box<dyn DeliveryObserver>>,
    pub(super) tail: Tail,
    /// `None` for a connection beyond the limit.
    permit: Option<Box<ConnectionPermit>>,
}

/// The interim response that hyper sends.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// Where a thread reads to, so that a connection allocates no more than it received.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 32 << 10].into());
}

impl HeadFilter {
    pub(super) fn new(
        stream: Box<dyn Transport>,
        context: &ServerContext,
        permit: Option<ConnectionPermit>,
    ) -> Self {
        let limits = context.limits.clone();
        Self {
            stream,
            connection: Connection::new(limits.clone()),
            stop: context.stop.clone(),
            input: BytesMut::new(),
            passable: 0,
            scanned: 0,
            is_eof: false,
            is_reader_waiting: false,
            timer: Box::pin(tokio::time::sleep(limits.first_byte)),
            write_timeout: IdleTimeout::new(limits.stall),
            unacknowledged: 0,
            body_timeout: IdleTimeout::new(limits.stall),
            observer: None,
            tail: Tail::default(),
            permit: permit.map(Box::new),
            limits,
        }
    }

    /// Drops everything that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.input = BytesMut::new();
    }

    /// Sends a refusal of the request whose head is at the start of `input`.
    pub(super) fn refuse(&mut self, problem: ProblemResponse) {
        let is_head = head::is_head(&self.input);
        self.connection.lock().refuse(problem, is_head);
    }

    /// Whether a request is in progress of whose response nothing was sent.
    pub(super) fn is_unanswered(&self) -> bool {
        self.connection.lock().is_unanswered() && !self.tail.is_begun()
    }

    /// Resolves when the connection serves a request, is parked, or ends.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.input.starts_with(b"\r\n") {
                // RFC 9112 §2.2: an empty line before a request is ignored.
                self.input.advance(2);
            }
            if !self.input.is_empty() && self.input != b"\r"[..] && self.parse_head() {
                return Poll::Ready(());
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => self.deregister(),
                Poll::Ready(Ok(0)) if !self.input.is_empty() => {
                    self.refuse(malformed("the request's head is incomplete"));
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.is_eof = true;
                    self.connection.lock().close();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.check_stop();
                    self.check_eviction(cx);
                    if self.connection.lock().is_waiting() {
                        ready!(self.poll_deadline(cx));
                        self.connection.lock().time_out();
                    }
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Parses the head at the start of `input`; whether it is complete or refused.
    fn parse_head(&mut self) -> bool {
        let head = match head::parse(&self.input, self.scanned, &self.limits) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.scanned = self.input.len();
                self.connection.lock().head_begun();
                return false;
            }
            Err(problem) => {
                self.refuse(problem);
                return true;
            }
        };
        self.scanned = 0;
        self.passable = head.length;
        if let Some(encoded) = &head.encoded {
            let rest = self.input.split_off(head.length);
            self.input = BytesMut::from(&encoded[..]);
            self.input.extend_from_slice(&rest);
            self.passable = encoded.len();
        }
        self.connection.lock().head_complete(head);
        true
    }

    /// Ends the wait for a head if a stop requires it.
    fn check_stop(&mut self) {
        match self.stop.phase() {
            Phase::Serving | Phase::LameDuck => {}
            // The runtime may not know yet that something has arrived.
            Phase::Draining if socket::unread(&self.stream.socket()) > 0 => {}
            Phase::Draining => self.connection.lock().drain(),
            Phase::Deadline if self.input.is_empty() => self.connection.lock().close(),
            Phase::Deadline => self.refuse(stopping()),
        }
    }

    /// Registers a connection that idles, and closes it if it was asked to close and nothing has arrived.
    fn check_eviction(&mut self, cx: &Context<'_>) {
        let Some(permit) = &mut self.permit else { return };
        let mut connection = self.connection.lock();
        let idle_for = if connection.is_parked() {
            PARK_AFTER
        } else if connection.is_idle() && (permit.is_registered() || permit.is_scarce()) {
            Duration::ZERO
        } else {
            return;
        };
        if !self.input.is_empty() {
            permit.deregister();
        } else if !permit.is_registered() {
            let now = Instant::now();
            permit.register(now.checked_sub(idle_for).unwrap_or(now), cx.waker());
        } else if permit.is_asked_to_close() {
            // The runtime may not know yet that something has arrived.
            if socket::unread(&self.stream.socket()) > 0 {
                permit.deregister();
            } else {
                connection.close();
            }
        }
    }

    fn deregister(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.deregister();
        }
    }

    /// Resolves at the deadline of the state. The timer is moved when it fires too early, which costs less than to move
    /// it with every request.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.connection.lock().deadline();
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Reads more into `input`; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_eof {
            return Poll::Ready(Ok(0));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.input.extend_from_slice(read.filled());
            self.is_eof = read.filled().is_empty();
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Passes bytes of the request body on; none at its end, or once it is malformed.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let at_hand = self.input.len().min(out.remaining());
        let passed = self.connection.lock().body_received(&self.input[..at_hand]);
        out.put_slice(&self.input[..passed]);
        self.input.advance(passed);
        self.body_timeout.reset();
        Poll::Ready(Ok(()))
    }

    /// Detects that the caller is gone while its response is awaited. What it sends meanwhile is kept, up to one head.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_eof && self.input.len() < self.limits.head {
            match self.poll_fill(cx) {
                Poll::Ready(filled) => filled?,
                Poll::Pending => break,
            };
        }
        self.answer_spool(cx)?;
        Poll::Pending
    }

    /// After a complete request: nothing is sent upstream for a caller that is gone already.
    fn check_caller(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_complete = self.passable == 0 && self.connection.lock().reading() == Reading::Nothing;
        match is_complete.then(|| self.poll_gone(cx)) {
            Some(Poll::Ready(gone)) => Poll::Ready(gone),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Answers the spool's questions whether the caller of a message is connected; an error if it is not.
    pub(super) fn answer_spool(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(observer) = &mut self.observer else {
            return Ok(());
        };
        loop {
            let is_asked = observer.poll_asked(cx).is_ready();
            // Checked after the question was received, so that the answer covers every reset before it.
            if socket::is_reset(&self.stream.socket()) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if !is_asked {
                return Ok(());
            }
            observer.is_connected();
        }
    }

    /// A write or flush that makes no progress for `limits.stall` fails. The spool is answered meanwhile.
    fn after_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timeout.reset();
            return written;
        }
        if self.write_timeout.poll(cx).is_ready() {
            return Poll::Ready(Err(Stalled::Response.into_error()));
        }
        self.answer_spool(cx)?;
        Poll::Pending
    }
}

fn stopping() -> ProblemResponse {
    let reason = "bondgate is stopping, and the request's head was incomplete";
    ProblemResponse::not_executed(ProxyErrorType::ProxyInternalResponse, reason)
}

impl AsyncRead for HeadFilter {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filter = self.get_mut();
        loop {
            if filter.passable > 0 {
                let count = filter.passable.min(out.remaining());
                out.put_slice(&filter.input[..count]);
                filter.input.advance(count);
                filter.passable -= count;
                return filter.check_caller(cx);
            }
            let reading = filter.connection.lock().next_input();
            match reading {
                Reading::Head => ready!(filter.poll_head(cx)),
                Reading::Body => {
                    ready!(filter.poll_body(cx, out))?;
                    return filter.check_caller(cx);
                }
                Reading::Nothing => {
                    filter.is_reader_waiting = true;
                    return filter.poll_gone(cx);
                }
                Reading::End => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for HeadFilter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let filter = self.get_mut();
        if filter.observer.is_none() && pieces.first().is_some_and(|first| **first != *CONTINUE) {
            filter.observer = filter.connection.lock().response_begun();
        }
        let stream = Pin::new(&mut filter.stream);
        let written = if filter.observer.is_some() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            filter
                .tail
                .poll_write(stream, cx, first.map_or(&[], |piece| piece))
        } else {
            stream.poll_write_vectored(cx, pieces)
        };
        filter.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when everything is written, and whenever it waits.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let filter = self.get_mut();
        let flushed = Pin::new(&mut filter.stream).poll_flush(cx);
        if flushed.is_pending() {
            let left = socket::unacknowledged(&filter.stream.socket());
            if std::mem::replace(&mut filter.unacknowledged, left) != left {
                filter.write_timeout.reset();
            }
        }
        ready!(filter.after_write(cx, flushed))?;
        let mut connection = filter.connection.lock();
        // After a message no other request is served.
        if filter.observer.is_none() && connection.flushed() {
            if std::mem::take(&mut filter.is_reader_waiting) {
                cx.waker().wake_by_ref();
            }
        } else if connection.is_body_outstanding() {
            if filter.body_timeout.poll(cx).is_ready() {
                return Poll::Ready(Err(Stalled::RequestBody.into_error()));
            }
        } else if connection.reading() == Reading::Nothing {
            drop(connection);
            if let Poll::Ready(gone) = filter.poll_gone(cx) {
                return Poll::Ready(gone);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
