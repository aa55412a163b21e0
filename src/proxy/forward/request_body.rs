//! A request's body on its way to the upstream. It streams, and is never complete in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::error::UploadError;
use super::kept_body::BodyCopy;
use super::upload_state::UploadState;
use crate::server::IdleTimeout;

/// Drops trailers, fails if nothing arrives for `timeout.idle`, and copies what passes for a second attempt.
pub(in crate::proxy) struct RequestBody {
    source: Body,
    /// What [`first_poll`](Self::first_poll) returned.
    first: Poll<Option<Result<Frame<Bytes>, axum::Error>>>,
    state: Arc<UploadState>,
    idle: IdleTimeout,
    copy: Option<BodyCopy>,
}

impl RequestBody {
    /// The body of a caller's request.
    pub(in crate::proxy) fn from_caller(source: Body, idle: Duration, copy: Option<BodyCopy>) -> Self {
        let body = Self {
            source,
            first: Poll::Pending,
            state: Arc::default(),
            idle: IdleTimeout::new(idle),
            copy,
        };
        if body.is_end_stream() {
            body.state.end(Ok(()));
        }
        body
    }

    /// A body that is complete in memory.
    pub(in crate::proxy) fn from_bytes(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        let body = Self::from_caller(Body::from(bytes), Duration::MAX, None);
        body.state.bytes.store(length, Ordering::Relaxed);
        body.state.end(Ok(()));
        body
    }

    pub(in crate::proxy) fn state(&self) -> Arc<UploadState> {
        self.state.clone()
    }

    /// The body as the upstream's connection takes it.
    pub(in crate::proxy) fn into_body(self) -> Body {
        if self.is_end_stream() {
            return Body::empty();
        }
        Body::new(self)
    }

    /// Polls the caller's body without waiting for it. On the first poll hyper's server sends `100 Continue`, which
    /// would otherwise wait for a connection to the upstream. The upstream's connection polls again, with its waker.
    pub(in crate::proxy) fn first_poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.first = Pin::new(&mut self.source).poll_frame(&mut cx);
    }

    /// The body has passed completely.
    fn complete(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.complete();
        }
        self.state.end(Ok(()));
    }

    /// Counts a piece of the caller's body, and copies it.
    fn record(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref() else { return };
        let length = data.len() as u64;
        self.state.bytes.fetch_add(length, Ordering::Relaxed);
        if self.copy.as_mut().is_some_and(|copy| !copy.append(data)) {
            self.copy = None;
        }
    }

    fn fail<T>(&self, error: UploadError) -> Poll<Option<Result<T, UploadError>>> {
        self.state.end(Err(error));
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let body = self.get_mut();
        loop {
            let polled = match std::mem::replace(&mut body.first, Poll::Pending) {
                Poll::Pending => Pin::new(&mut body.source).poll_frame(cx),
                first @ Poll::Ready(_) => first,
            };
            let turn = &body.state.is_upstreams_turn;
            turn.store(polled.is_ready(), Ordering::Relaxed);
            let Poll::Ready(frame) = polled else {
                ready!(body.idle.poll(cx));
                return body.fail(UploadError::Stalled);
            };
            body.idle.reset();
            match frame {
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    body.state.frames.fetch_add(1, Ordering::Relaxed);
                    body.record(&frame);
                    if body.is_end_stream() {
                        body.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(_)) => return body.fail(UploadError::Broken),
                None => {
                    body.complete();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_pending() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.first {
            Poll::Pending => self.source.size_hint(),
            Poll::Ready(_) => SizeHint::default(),
        }
    }
}

/// If the upstream does not want the rest, the wait for its response begins.
impl Drop for RequestBody {
    fn drop(&mut self) {
        self.state.end(Ok(()));
    }
}
