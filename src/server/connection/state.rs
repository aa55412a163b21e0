//! The state machine of one connection. The head filter below hyper and the service above it share it.
//!
//! ```text
//! New ──> Head ──> Serving ──> Idle ──> Parked
//!                               └─────────┴──> Head, Serving …
//! every state ──> Closing
//! ```

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::head::Head;
use super::refusal_responses::head_too_slow;
use crate::config::Limits;
use crate::server::delivery_observer::DeliveryObserver;
use crate::server::problem::ProblemResponse;
use crate::server::stopping::Phase;

/// One connection's state. Clones share it; one task uses all of them.
pub(super) type Connection = Arc<Mutex<Machine>>;

pub(super) struct Machine {
    limits: Arc<Limits>,
    state: State,
    /// When the state times out.
    pub(super) deadline: Instant,
}

enum State {
    /// The connection is new, and nothing has arrived.
    New,
    /// A part of a request head has arrived.
    Head,
    /// A request is being served.
    Serving(Exchange),
    /// Between two requests; hyper's state is kept.
    Idle,
    /// Between two requests; hyper's state was dropped.
    Parked,
    /// The connection ends.
    Closing(Closing),
}

/// A request and its response.
struct Exchange {
    /// Its framing is the part of the request body that has not arrived.
    head: Head,
    /// The refusal of a body that is malformed or too long.
    refusal: Option<ProblemResponse>,
    response: ResponseProgress,
    /// The observer of a message, until its first byte is sent.
    observer: Option<Box<dyn DeliveryObserver>>,
    /// A part of the response was sent.
    is_begun: bool,
}

#[derive(PartialEq, PartialOrd)]
enum ResponseProgress {
    /// hyper does not have all of it.
    Awaited,
    /// hyper is done with the response body.
    Taken,
    /// Everything is written.
    Flushed,
}

/// How a connection ends.
pub(super) enum Closing {
    /// Shuts down and reads what the caller still sends, so that the caller can read the response.
    Orderly,
    /// Sends a response of bondgate's own before that.
    Respond(Box<FinalResponse>),
    /// Closes the socket in the middle of a response.
    Abort,
    /// Resets the connection.
    Reset,
}

/// A response of bondgate's own, the last one of its connection.
pub(super) struct FinalResponse {
    pub(super) problem: ProblemResponse,
    /// For HEAD.
    pub(super) is_bodiless: bool,
    /// It refuses a request that was not passed to the router. False if it replaces a response that could not be
    /// written.
    is_refusal: bool,
}

/// What hyper may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The next head.
    Head,
    /// The request body.
    Body,
    /// Nothing, until the response is written.
    Nothing,
    /// The end.
    End,
}

/// How long a connection idles before hyper's state is dropped.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);
/// How long a drain waits for the first byte on a new connection.
const LAST_CALL: Duration = Duration::from_secs(2);

// Transitions.
impl Machine {
    /// The state of a new connection.
    pub(super) fn shared(limits: Arc<Limits>) -> Connection {
        Arc::new(Mutex::new(Self {
            deadline: Instant::now() + limits.first_byte,
            state: State::New,
            limits,
        }))
    }

    fn enter(&mut self, state: State) {
        let limit = match state {
            State::New | State::Head => Some(self.limits.first_byte),
            State::Idle => Some(PARK_AFTER),
            State::Parked => Some(self.limits.keep_alive.saturating_sub(PARK_AFTER)),
            State::Serving(_) | State::Closing(_) => None,
        };
        if let Some(limit) = limit {
            self.deadline = Instant::now() + limit;
        }
        self.state = state;
    }

    /// A part of a head has arrived.
    pub(super) fn head_begun(&mut self) {
        if !matches!(self.state, State::Head) {
            self.enter(State::Head);
        }
    }

    /// A valid head is complete.
    pub(super) fn head_complete(&mut self, head: Head) {
        self.enter(State::Serving(Exchange {
            head,
            refusal: None,
            response: ResponseProgress::Awaited,
            observer: None,
            is_begun: false,
        }));
    }

    /// More input has arrived for the request body. Returns how many bytes of it hyper may read; none once the body is
    /// malformed or too long.
    pub(super) fn body_received(&mut self, bytes: &[u8]) -> usize {
        let State::Serving(exchange) = &mut self.state else {
            return 0;
        };
        exchange.head.framing.follow(bytes).unwrap_or_else(|refusal| {
            exchange.refusal = Some(refusal);
            0
        })
    }

    /// The router has responded. Returns whether the response is the last one of the connection: if it carries a
    /// message, if its request body was not read to its end (`is_body_read`), or during a stop.
    pub(super) fn response_ready(
        &mut self,
        observer: Option<Box<dyn DeliveryObserver>>,
        is_body_read: bool,
        phase: Phase,
    ) -> bool {
        let is_unread = !is_body_read || self.reading() == Reading::Body;
        let is_last = observer.is_some() || is_unread || phase >= Phase::LameDuck;
        if let State::Serving(exchange) = &mut self.state {
            exchange.observer = observer;
        }
        is_last
    }

    /// A part of the response is about to be sent. Returns the observer of a message, once.
    pub(super) fn response_begun(&mut self) -> Option<Box<dyn DeliveryObserver>> {
        let State::Serving(exchange) = &mut self.state else {
            return None;
        };
        let observer = exchange.observer.take();
        exchange.is_begun = observer.is_none();
        observer
    }

    /// hyper is done with the response body.
    pub(super) fn response_taken(&mut self) {
        if let State::Serving(exchange) = &mut self.state {
            exchange.response = ResponseProgress::Taken;
        }
    }

    /// Everything that hyper had is written. Returns what the filter waits for: the next head, the rest of a request
    /// body whose response is complete, or `Nothing` while the response to a complete request is not.
    pub(super) fn flushed(&mut self, is_message: bool) -> Option<Reading> {
        let State::Serving(exchange) = &mut self.state else {
            return None;
        };
        let is_response_complete = exchange.response >= ResponseProgress::Taken;
        if is_response_complete && !is_message {
            exchange.response = ResponseProgress::Flushed;
        }
        match (is_response_complete, exchange.head.framing.is_done()) {
            (true, false) => Some(Reading::Body),
            // After a message no other request is served.
            (true, true) if !is_message => Some(Reading::Head),
            (_, true) => Some(Reading::Nothing),
            (false, false) => None,
        }
    }

    /// hyper asks for input. After a complete request and response, the connection idles until a head arrives.
    pub(super) fn next_input(&mut self) -> Reading {
        let is_over = matches!(
            &self.state,
            State::Serving(exchange) if exchange.response == ResponseProgress::Flushed && exchange.head.framing.is_done()
        );
        if is_over {
            self.enter(State::Idle);
        }
        self.reading()
    }

    /// A drain has begun. It ends what idles, and nothing else: a caller that has begun a head, has just connected, or
    /// has had its response within the last second can expect to be served.
    pub(super) fn drain(&mut self) {
        match self.state {
            State::New => self.deadline = self.deadline.min(Instant::now() + LAST_CALL),
            State::Parked => self.close(),
            State::Head | State::Serving(_) | State::Idle | State::Closing(_) => {}
        }
    }

    /// The deadline of the state has passed.
    pub(super) fn time_out(&mut self) {
        match self.state {
            State::Head => self.refuse(head_too_slow(&self.limits), false),
            State::Idle => self.enter(State::Parked),
            State::New | State::Parked => self.close(),
            State::Serving(_) | State::Closing(_) => {}
        }
    }

    /// The request is refused, and the connection ends.
    pub(super) fn refuse(&mut self, problem: ProblemResponse, is_bodiless: bool) {
        self.respond(problem, is_bodiless, true);
    }

    /// The request is refused after hyper has read its head, and the connection ends.
    pub(super) fn refuse_request(&mut self, problem: ProblemResponse) {
        self.respond(problem, self.is_bodiless(), true);
    }

    /// The response could not be written; `problem` is sent in its place.
    pub(super) fn replace_response(&mut self, problem: ProblemResponse) {
        self.respond(problem, self.is_bodiless(), false);
    }

    fn respond(&mut self, problem: ProblemResponse, is_bodiless: bool, is_refusal: bool) {
        self.enter(State::Closing(Closing::Respond(Box::new(FinalResponse {
            problem,
            is_bodiless,
            is_refusal,
        }))));
    }

    /// The connection ends.
    pub(super) fn close(&mut self) {
        if !matches!(self.state, State::Closing(_)) {
            self.enter(State::Closing(Closing::Orderly));
        }
    }

    /// The connection breaks off. A response that only the end of the connection ends (HTTP/1.0) is reset, since it would
    /// seem complete.
    pub(super) fn abort(&mut self) {
        match &self.state {
            State::Serving(exchange) if exchange.head.is_http_10 => self.reset(),
            State::Serving(_) => self.enter(State::Closing(Closing::Abort)),
            _ => self.close(),
        }
    }

    /// The caller reads nothing more.
    pub(super) fn reset(&mut self) {
        self.enter(State::Closing(Closing::Reset));
    }

    /// Ends the connection; returns how.
    pub(super) fn end(&mut self) -> Closing {
        match std::mem::replace(&mut self.state, State::Closing(Closing::Orderly)) {
            State::Closing(closing) => closing,
            _ => Closing::Orderly,
        }
    }
}

// Questions.
impl Machine {
    pub(super) fn reading(&self) -> Reading {
        match &self.state {
            State::New | State::Head | State::Idle => Reading::Head,
            State::Serving(exchange) if exchange.head.framing.is_done() => Reading::Nothing,
            State::Serving(_) => Reading::Body,
            State::Parked | State::Closing(_) => Reading::End,
        }
    }

    /// Whether the connection waits for a head.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_parked() || self.reading() == Reading::Head
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving(_))
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked)
    }

    /// Whether a request is in progress and nothing of its response was sent.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(&self.state, State::Serving(exchange) if !exchange.is_begun)
    }

    /// Whether the response to the request has no body.
    fn is_bodiless(&self) -> bool {
        matches!(&self.state, State::Serving(exchange) if exchange.head.is_bodiless)
    }

    /// Whether a request is served whose field names are spelled as hyper writes them only if it recorded that.
    pub(super) fn needs_recorded_spelling(&self) -> bool {
        matches!(&self.state, State::Serving(exchange) if !exchange.head.is_title_case)
    }

    /// The response to a request whose body is malformed or too long.
    pub(super) fn body_refusal(&mut self) -> Option<ProblemResponse> {
        match &mut self.state {
            State::Serving(exchange) => exchange.refusal.take(),
            _ => None,
        }
    }

    /// The refusal that will be sent.
    pub(super) fn refusal(&self) -> Option<&ProblemResponse> {
        match &self.state {
            State::Closing(Closing::Respond(response)) if response.is_refusal => Some(&response.problem),
            _ => None,
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
impl Machine {
    /// Idles as after a response, or is parked.
    pub(super) fn idle_for_test(&mut self, is_parked: bool) {
        self.enter(if is_parked { State::Parked } else { State::Idle });
    }
}

#[cfg(test)]
mod tests;
