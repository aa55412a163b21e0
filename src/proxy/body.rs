//! Bodies on their way: the caller's upstream, and the upstream's back. Each streams; neither is
//! ever whole in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;

use super::forward::{Kept, ProxyError, Whole};
use super::link::Arriving;
use crate::server::IdleTimeout;

/// A request's body on its way upstream: trailers are dropped, a stall is an error, and what is
/// kept for a replay is noted as it passes. In a box, since it is handed on by value from place to place.
pub(super) struct Upload {
    source: Source,
    progress: Arc<Progress>,
    idle: IdleTimeout,
    kept: Option<Kept>,
}

enum Source {
    Caller { body: Body, first: Option<First> },
    Kept(Whole),
}

/// What [`Upload::invite`] found: a piece, or the end.
enum First {
    Piece(Result<Frame<Bytes>, axum::Error>),
    End,
}

/// What the sender of a request knows of its body.
#[derive(Default)]
pub(super) struct Progress {
    frames: AtomicU64,
    /// Whether the upstream has the turn: the last piece that was asked for was there.
    is_upstreams_turn: AtomicBool,
    state: AtomicU8,
    ended: Notify,
    is_sent: AtomicBool,
}

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const BROKEN: u8 = 2;
const STALLED: u8 = 3;

/// The body cannot be sent to its end; the reason is in [`Progress`].
#[derive(Debug, thiserror::Error)]
#[error("the request's body ended early")]
pub(super) struct UploadError;

impl Upload {
    /// The body of a caller's request.
    pub(super) fn from_caller(body: Body, idle: Duration, kept: Option<Kept>) -> Box<Self> {
        let upload = Box::new(Self {
            source: Source::Caller { body, first: None },
            progress: Arc::default(),
            idle: IdleTimeout::new(idle),
            kept,
        });
        if upload.is_end_stream() {
            upload.end(ENDED);
        }
        upload
    }

    /// The same body once more.
    pub(super) fn from_kept(whole: Whole) -> Box<Self> {
        let upload = Box::new(Self {
            source: Source::Kept(whole),
            progress: Arc::default(),
            idle: IdleTimeout::new(Duration::MAX),
            kept: None,
        });
        upload.end(ENDED);
        upload
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Looks for the first piece of the body without waiting for it. This is what makes hyper send
    /// `100 Continue`: now, and not only when there is a connection upstream.
    pub(super) async fn invite(&mut self) {
        if let Source::Caller { body, first } = &mut self.source {
            std::future::poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                    *first = Some(frame.map_or(First::End, First::Piece));
                }
                Poll::Ready(())
            })
            .await;
        }
    }

    fn end(&self, state: u8) {
        self.progress.state.store(state, Ordering::Release);
        self.progress.ended.notify_waiters();
    }

    fn pass(
        &mut self,
        frame: Option<Result<Frame<Bytes>, axum::Error>>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match frame {
            Some(Ok(frame)) => {
                self.progress.frames.fetch_add(1, Ordering::Relaxed);
                if let (Some(kept), Some(data)) = (&mut self.kept, frame.data_ref()) {
                    kept.note(data);
                }
                if self.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                self.end(BROKEN);
                Poll::Ready(Some(Err(UploadError)))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn finish(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.complete();
        }
        self.end(ENDED);
    }
}

/// Who drops a body half read has done with it: the wait for the answer begins.
impl Drop for Upload {
    fn drop(&mut self) {
        if self.progress.state.load(Ordering::Acquire) == RUNNING {
            self.end(ENDED);
        }
    }
}

impl Progress {
    /// Resolves when the whole body has been handed on.
    pub(super) async fn ended(&self) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if self.state.load(Ordering::Acquire) == RUNNING {
            ended.await;
        }
    }

    /// Resolves when the upstream has asked for nothing more of the body for so long.
    pub(super) async fn stalled(&self, idle: Duration) {
        if self.state.load(Ordering::Acquire) != RUNNING {
            // Nothing is left to be asked for.
            std::future::pending::<()>().await;
        }
        loop {
            let before = self.frames.load(Ordering::Relaxed);
            tokio::time::sleep(idle).await;
            let is_still = self.frames.load(Ordering::Relaxed) == before;
            let is_upstreams_turn = self.is_upstreams_turn.load(Ordering::Relaxed);
            if is_still && is_upstreams_turn && self.state.load(Ordering::Acquire) == RUNNING {
                return;
            }
        }
    }

    /// There is a connection for the request, and it is on its way.
    pub(super) fn goes_out(&self) {
        self.is_sent.store(true, Ordering::Release);
    }

    /// Nothing of it was sent after all.
    pub(super) fn comes_back(&self) {
        self.is_sent.store(false, Ordering::Release);
    }

    /// Whether some of the request may have reached the upstream.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::Acquire)
    }

    /// The caller's part in a failure, if it had one.
    pub(super) fn fault(&self) -> Option<ProxyError> {
        match self.state.load(Ordering::Acquire) {
            BROKEN => Some(ProxyError::Body),
            STALLED => Some(ProxyError::BodyStalled),
            _ => None,
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let upload = self.get_mut();
        loop {
            let frame = match &mut upload.source {
                Source::Kept(whole) => {
                    return Poll::Ready(whole.next().map(|part| Ok(Frame::data(part))));
                }
                Source::Caller { body, first } => match first.take() {
                    Some(First::Piece(frame)) => Poll::Ready(Some(frame)),
                    Some(First::End) => Poll::Ready(None),
                    None => Pin::new(body).poll_frame(cx),
                },
            };
            let turn = &upload.progress.is_upstreams_turn;
            turn.store(frame.is_ready(), Ordering::Relaxed);
            let Poll::Ready(frame) = frame else {
                ready!(upload.idle.poll(cx));
                upload.end(STALLED);
                return Poll::Ready(Some(Err(UploadError)));
            };
            upload.idle.reset();
            if frame
                .as_ref()
                .is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_trailers))
            {
                continue;
            }
            return upload.pass(frame);
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Caller { body, first } => match first {
                None => body.is_end_stream(),
                Some(first) => matches!(first, First::End),
            },
            Source::Kept(whole) => whole.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Caller { body, first: None } => body.size_hint(),
            Source::Caller {
                body,
                first: Some(first),
            } => {
                let held = match first {
                    First::Piece(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                    First::Piece(Err(_)) | First::End => 0,
                };
                let rest = body.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + held);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + held);
                }
                hint
            }
            Source::Kept(whole) => SizeHint::with_exact(whole.left() as u64),
        }
    }
}

/// The upstream's answer on its way back. A stall is a cut; a failure is held back until what came before it
/// is out, since a caller that gets nothing at all sends its request again.
pub(super) struct Download {
    body: Arriving,
    idle: IdleTimeout,
    /// Whether hyper has written all that it was given: it does when there is no more for the moment.
    is_flushed: bool,
    held: Option<DownloadError>,
}

/// The answer ended early; the caller sees a cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// The connection broke.
    #[error("the upstream's answer broke off: {0}")]
    Broken(hyper::Error),
    /// Nothing came for `timeout.idle`.
    #[error("the upstream's answer stalled for longer than timeout.idle")]
    Stalled,
}

impl Download {
    pub(super) fn new(body: Arriving, idle: Duration) -> Self {
        Self {
            body,
            idle: IdleTimeout::new(idle),
            is_flushed: false,
            held: None,
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let download = self.get_mut();
        if let Some(error) = download.held.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let error = loop {
            match Pin::new(&mut download.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    download.idle.reset();
                    download.is_flushed = false;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => break DownloadError::Broken(error),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    download.is_flushed = true;
                    ready!(download.idle.poll(cx));
                    break DownloadError::Stalled;
                }
            }
        };
        if download.is_flushed {
            return Poll::Ready(Some(Err(error)));
        }
        download.held = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    // No size hint: the head tells the length, or nobody knows it. Out of a hint axum would make a
    // length for an answer to HEAD too, where the body says nothing of it.
}
