//! A response body with something that lives as long as it: a permit, or a record of how much was sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Observes a body, and is dropped with it.
pub(super) trait BodyObserver: Send + Unpin + 'static {
    /// This many bytes are sent; `is_end` where they are the last. Also called with 0 bytes at the end.
    fn sent(&mut self, bytes: usize, is_end: bool);
}

/// A body that is observed.
pub(super) struct ObservedBody<O> {
    body: Body,
    observer: O,
}

impl<O: BodyObserver> ObservedBody<O> {
    pub(super) fn wrap(body: Body, observer: O) -> Body {
        Body::new(Self { body, observer })
    }
}

impl<O: BodyObserver> http_body::Body for ObservedBody<O> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.observer.sent(bytes, this.body.is_end_stream());
            }
            Poll::Ready(None) => this.observer.sent(0, true),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
