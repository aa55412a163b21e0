//! A request's body on its way to the upstream. It streams, and is never complete in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::SetOnce;

use crate::proxy::error::ProxyError;
use crate::proxy::replay::{Kept, Whole};
use crate::server::Stall;

/// Drops trailers, fails if nothing arrives for `timeout.idle`, and copies what passes into the replay buffer.
pub(in crate::proxy) struct RequestBody {
    source: Body,
    /// What [`first_poll`](Self::first_poll) returned: a frame, or the end.
    first: Option<Option<Result<Frame<Bytes>, axum::Error>>>,
    state: Arc<UploadState>,
    idle: Stall,
    kept: Option<Kept>,
}

/// What the sender of a request knows of its body.
#[derive(Default)]
pub(in crate::proxy) struct UploadState {
    end: SetOnce<UploadEnd>,
    /// Frames read by the upstream's connection.
    frames: AtomicU64,
    /// Whether the last poll returned a frame, so that the upstream has to read on.
    is_upstreams_turn: AtomicBool,
    may_be_sent: AtomicBool,
}

#[derive(Debug)]
enum UploadEnd {
    /// Complete, or dropped because the upstream does not want the rest.
    Done,
    /// The caller's connection broke, or its framing is invalid.
    Broken,
    /// The caller sent nothing for `timeout.idle`.
    Stalled,
}

/// The body ended early; [`UploadState::fault`] has the reason.
#[derive(Debug, thiserror::Error)]
#[error("the request's body ended early")]
pub(in crate::proxy) struct UploadError;

impl RequestBody {
    /// The body of a caller's request.
    pub(in crate::proxy) fn from_caller(source: Body, idle: Duration, kept: Option<Kept>) -> Self {
        let body = Self {
            source,
            first: None,
            state: Arc::default(),
            idle: Stall::new(idle),
            kept,
        };
        if body.is_end_stream() {
            body.state.end(UploadEnd::Done);
        }
        body
    }

    /// A body that is complete in memory.
    pub(in crate::proxy) fn from_kept(whole: Whole) -> Self {
        let body = Self::from_caller(Body::new(whole), Duration::MAX, None);
        body.state.end(UploadEnd::Done);
        body
    }

    pub(in crate::proxy) fn state(&self) -> Arc<UploadState> {
        self.state.clone()
    }

    /// Polls the caller's body without waiting for it. On the first poll hyper's server sends `100 Continue`, which
    /// would otherwise wait for a connection to the upstream.
    pub(in crate::proxy) async fn first_poll(&mut self) {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(cx) {
                self.first = Some(frame);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The body has passed completely.
    fn complete(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.complete();
        }
        self.state.end(UploadEnd::Done);
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
            let polled = match body.first.take() {
                Some(frame) => Poll::Ready(frame),
                None => Pin::new(&mut body.source).poll_frame(cx),
            };
            let turn = &body.state.is_upstreams_turn;
            turn.store(polled.is_ready(), Ordering::Relaxed);
            let Poll::Ready(frame) = polled else {
                ready!(body.idle.poll(cx));
                body.state.end(UploadEnd::Stalled);
                return Poll::Ready(Some(Err(UploadError)));
            };
            body.idle.reset();
            match frame {
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    body.state.frames.fetch_add(1, Ordering::Relaxed);
                    if let (Some(kept), Some(data)) = (&mut body.kept, frame.data_ref()) {
                        kept.note(data);
                    }
                    if body.is_end_stream() {
                        body.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(_)) => {
                    body.state.end(UploadEnd::Broken);
                    return Poll::Ready(Some(Err(UploadError)));
                }
                None => {
                    body.complete();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.first {
            None => self.source.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

/// If the upstream does not want the rest, the wait for its response begins.
impl Drop for RequestBody {
    fn drop(&mut self) {
        self.state.end(UploadEnd::Done);
    }
}

impl UploadState {
    /// The first end counts.
    fn end(&self, end: UploadEnd) {
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
        std::future::pending().await
    }

    /// Set while a byte of the request may have reached the upstream.
    pub(in crate::proxy) fn may_be_sent(&self) -> &AtomicBool {
        &self.may_be_sent
    }

    /// Whether a byte of the request may have reached the upstream.
    pub(in crate::proxy) fn is_sent(&self) -> bool {
        self.may_be_sent.load(Ordering::Acquire)
    }

    /// The error if the body ended early because of the caller.
    pub(in crate::proxy) fn fault(&self) -> Option<ProxyError> {
        match self.end.get()? {
            UploadEnd::Done => None,
            UploadEnd::Broken => Some(ProxyError::Body),
            UploadEnd::Stalled => Some(ProxyError::BodyStalled),
        }
    }
}
