//! A request's body on its way to the upstream. It streams, and is never complete in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::SetOnce;

use super::error::{ProxyError, UploadError};
use super::kept_body::BodyCopy;
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

/// What the sender of a request knows of its body.
#[derive(Default)]
pub(in crate::proxy) struct UploadState {
    /// The body is complete, or was dropped because the upstream does not want the rest, or ended early.
    end: SetOnce<Result<(), UploadError>>,
    /// Frames read by the upstream's connection.
    frames: AtomicU64,
    /// Whether the last poll returned a frame, so that the upstream has to read on.
    is_upstreams_turn: AtomicBool,
    /// Set while a byte of the request may have reached the upstream.
    pub(in crate::proxy) may_be_sent: AtomicBool,
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
        let body = Self::from_caller(Body::from(bytes), Duration::MAX, None);
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
                    if let (Some(copy), Some(data)) = (&mut body.copy, frame.data_ref())
                        && !copy.append(data)
                    {
                        body.copy = None;
                    }
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

impl UploadState {
    /// The first end counts.
    fn end(&self, end: Result<(), UploadError>) {
        let _ = self.end.set(end);
    }

    /// Resolves when the body has ended.
    pub(in crate::proxy) async fn ended(&self) {
        self.end.wait().await;
    }

    /// Resolves when the upstream has read nothing of the body for `idle`.
    pub(in crate::proxy) async fn stalled(&self, idle: Duration) {
        while !self.end.initialized() {
            let before = self.frames.load(Ordering::Relaxed);
            tokio::time::sleep(idle).await;
            let is_still = self.frames.load(Ordering::Relaxed) == before;
            let is_upstreams_turn = self.is_upstreams_turn.load(Ordering::Relaxed);
            if is_still && is_upstreams_turn && !self.end.initialized() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Whether a byte of the request may have reached the upstream.
    pub(in crate::proxy) fn is_sent(&self) -> bool {
        self.may_be_sent.load(Ordering::Acquire)
    }

    /// The error if the caller ended the body early.
    pub(in crate::proxy) fn upload_error(&self) -> Option<ProxyError> {
        self.end.get()?.err().map(ProxyError::Body)
    }
}
