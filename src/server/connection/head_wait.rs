//! Waits for the head of a request, or for what ends the wait: the deadline of the state, a stop, or a new connection that
//! needs the permit of an idle one.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::time::Instant;

use super::head;
use super::head_filter::HeadFilter;
use super::refusal_responses::{malformed, stopping};
use super::state::PARK_AFTER;
use crate::platform::socket;
use crate::server::stopping::Phase;

impl HeadFilter {
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
                    self.refuse(malformed("the request's head is incomplete", "send all of it"));
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
        let deadline = self.connection.lock().deadline;
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
}
