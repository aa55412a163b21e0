//! What an answer leaves unread of its request's body. hyper reads ahead: when the answer comes, pieces of
//! the body may be with hyper that nobody has asked for, and hyper would end the connection over them
//! without a word in the answer. So what is at hand is read away, and the answer of a request whose body
//! is not at its end by then says that it is the connection's last.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What is known of the body of a connection's request at hand.
#[derive(Default)]
pub(super) struct Unread(Mutex<State>);

#[derive(Default)]
enum State {
    /// It was read to its end, or there was none.
    #[default]
    Ended,
    /// Somebody reads it.
    Reading,
    /// Whoever read it left this.
    Left(Incoming),
    /// The answer has begun: what is left from now on is nobody's.
    Settled,
}

impl Unread {
    /// Whether the body is read to its end at the moment of the answer, what was left of it read away if
    /// all of that is at hand. Once for each request, which is the connection's last one if it is not.
    pub(super) async fn settle(&self, is_at_hand: bool) -> bool {
        let left = {
            let mut state = self.state();
            match std::mem::take(&mut *state) {
                State::Ended => return true,
                State::Left(left) if is_at_hand => left,
                State::Reading | State::Left(_) | State::Settled => {
                    *state = State::Settled;
                    return false;
                }
            }
        };
        let mut left = std::pin::pin!(left);
        loop {
            match std::future::poll_fn(|cx| left.as_mut().poll_frame(cx)).await {
                Some(Ok(_)) => {}
                None => return true,
                Some(Err(_)) => return false,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body on its way to whoever reads it.
pub(super) struct Received {
    /// Nothing once it was read to its end.
    body: Option<Incoming>,
    unread: Arc<Unread>,
}

impl Received {
    /// A body that has not come to its end.
    pub(super) fn new(body: Incoming, unread: Arc<Unread>) -> Self {
        *unread.state() = State::Reading;
        let body = Some(body);
        Self { body, unread }
    }

    fn end(&mut self) {
        if self.body.take().is_some() {
            *self.unread.state() = State::Ended;
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            let mut state = self.unread.state();
            if matches!(*state, State::Reading) {
                *state = State::Left(body);
            }
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let is_over = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_over {
            self.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
