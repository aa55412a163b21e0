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

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head;
use super::state::{Connection, Machine, Reading};
use super::tail::Tail;
use super::transport::Transport;
use crate::config::Limits;
use crate::platform::socket;
use crate::server::context::ServerContext;
use crate::server::delivery_observer::DeliveryObserver;
use crate::server::limits::{ConnectionPermit, IdleTimeout};
use crate::server::problem::ProblemResponse;
use crate::server::stopping::Stopping;

/// A caller's connection as hyper sees it.
pub(super) struct HeadFilter {
    // Dropped before the permit, which goes to another connection then.
    pub(super) stream: Box<dyn Transport>,
    pub(super) connection: Connection,
    pub(super) limits: Arc<Limits>,
    pub(super) stop: Stopping,
    /// Input that was not passed on.
    pub(super) input: BytesMut,
    /// The bytes at the start of `input` that are a valid head.
    pub(super) passable: usize,
    /// Whether hyper records the spelling of field names, which costs 2 % of a request.
    pub(super) records_spelling: bool,
    /// The bytes of `input` that were parsed as an incomplete head.
    pub(super) scanned: usize,
    pub(super) is_eof: bool,
    /// hyper waits for input, and has to be woken once it may read the next head.
    is_reader_waiting: bool,
    /// Fires at the deadline of the state, or before it.
    pub(super) timer: Pin<Box<Sleep>>,
    write_timeout: IdleTimeout,
    /// The unacknowledged bytes at the last pending flush. Fewer of them count as progress.
    unacknowledged: usize,
    /// Measures the rest of a request body after the response.
    body_timeout: IdleTimeout,
    /// The reason, when a write or flush has timed out.
    pub(super) stalled: Option<Stalled>,
    /// The observer of the message that is being delivered, and the end of that message.
    pub(super) observer: Option<Box<dyn DeliveryObserver>>,
    pub(super) tail: Tail,
    /// `None` for a connection beyond the limit.
    pub(super) permit: Option<Box<ConnectionPermit>>,
}

/// What made no progress for `limits.stall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    /// The caller reads nothing of its response.
    Response,
    /// The rest of a request body does not arrive, or is not read, after the response.
    RequestBody,
}

/// An input buffer of this size is released when it is emptied.
const LARGE_INPUT: usize = 4 << 10;
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
            connection: Machine::shared(limits.clone()),
            stop: context.stop.clone(),
            input: BytesMut::new(),
            passable: 0,
            records_spelling: false,
            scanned: 0,
            is_eof: false,
            is_reader_waiting: false,
            timer: Box::pin(tokio::time::sleep(limits.first_byte)),
            write_timeout: IdleTimeout::new(limits.stall),
            unacknowledged: 0,
            body_timeout: IdleTimeout::new(limits.stall),
            stalled: None,
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

    /// Whether a head waits for a hyper that records the spelling of its field names.
    pub(super) fn is_held_back(&self) -> bool {
        self.passable > 0 && !self.records_spelling && self.connection.lock().needs_recorded_spelling()
    }

    /// Passes bytes of the request body on; none at its end, or once it is malformed. Once `input` is empty, reads go
    /// straight into hyper's buffer.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            let start = out.filled().len();
            if !self.is_eof {
                ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
            }
            let read = &out.filled()[start..];
            self.is_eof = read.is_empty();
            let passed = self.connection.lock().body_received(read);
            self.input.extend_from_slice(&read[passed..]);
            out.set_filled(start + passed);
        } else {
            let at_hand = self.input.len().min(out.remaining());
            let passed = self.connection.lock().body_received(&self.input[..at_hand]);
            out.put_slice(&self.input[..passed]);
            self.input.advance(passed);
            if self.input.is_empty() && self.input.try_reclaim(LARGE_INPUT) {
                self.input = BytesMut::new();
            }
        }
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

    /// Confirms to the spool, when it asks, that the caller of a message is connected; an error if the connection was
    /// reset.
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

    fn stall(&mut self, stalled: Stalled) -> io::Error {
        self.stalled = Some(stalled);
        io::ErrorKind::TimedOut.into()
    }

    /// A write or flush that makes no progress for `limits.stall` fails. The spool's questions are answered in the
    /// meantime.
    fn after_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timeout.reset();
            return written;
        }
        if self.write_timeout.poll(cx).is_ready() {
            return Poll::Ready(Err(self.stall(Stalled::Response)));
        }
        self.answer_spool(cx)?;
        Poll::Pending
    }
}

impl AsyncRead for HeadFilter {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filter = self.get_mut();
        loop {
            if filter.is_held_back() {
                // The end, for this hyper: the next one records the spelling.
                return Poll::Ready(Ok(()));
            }
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
        let outstanding = filter.connection.lock().flushed(filter.observer.is_some());
        match outstanding {
            Some(Reading::Head) if std::mem::take(&mut filter.is_reader_waiting) => cx.waker().wake_by_ref(),
            Some(Reading::Body) if filter.body_timeout.poll(cx).is_ready() => {
                return Poll::Ready(Err(filter.stall(Stalled::RequestBody)));
            }
            Some(Reading::Nothing) => {
                if let Poll::Ready(gone) = filter.poll_gone(cx) {
                    return Poll::Ready(gone);
                }
            }
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    /// hyper calls this when everything is flushed; [`close`](Self::close) ends the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
