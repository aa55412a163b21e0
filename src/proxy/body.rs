//! Bodies on their way: the caller's upstream, and the upstream's back. Each streams; neither is
//! ever whole in memory.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::CaptureConnection;
use tokio::sync::Notify;

use super::error::ProxyError;
use super::replay::{Kept, Whole};
use crate::server::Stall;

/// A request's body on its way upstream: trailers are dropped, a stall is an error, and what is
/// kept for a replay is noted as it passes.
pub(super) struct Upload {
    source: Source,
    progress: Arc<Progress>,
    idle: Stall,
    kept: Option<Kept>,
    is_begun: bool,
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
    interim_answers: AtomicU64,
    flooded: Notify,
    connection: Mutex<Option<CaptureConnection>>,
    unread: Mutex<Option<Unread>>,
}

/// A body that nobody asked for.
struct Unread {
    source: Source,
    idle: Duration,
    kept: Option<Kept>,
}

/// `100 Continue`, early hints, and progress of something slow.
const INTERIM_ANSWERS: u64 = 100;

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
    pub(super) fn from_caller(body: Body, idle: Duration, kept: Option<Kept>) -> Self {
        let upload = Self {
            source: Source::Caller { body, first: None },
            progress: Arc::default(),
            idle: Stall::new(idle),
            kept,
            is_begun: false,
        };
        if upload.is_end_stream() {
            upload.end(ENDED);
        }
        upload
    }

    /// The same body once more.
    pub(super) fn from_kept(whole: Whole) -> Self {
        let upload = Self {
            source: Source::Kept(whole),
            progress: Arc::default(),
            idle: Stall::new(Duration::MAX),
            kept: None,
            is_begun: false,
        };
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

/// Who drops a body half read has done with it: the wait for the answer begins. One that was never asked for
/// may go out on another connection.
impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_begun {
            let unread = Unread {
                source: std::mem::replace(&mut self.source, Source::Kept(Whole::default())),
                idle: self.idle.limit(),
                kept: self.kept.take(),
            };
            *self
                .progress
                .unread
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(unread);
        } else if self.progress.state.load(Ordering::Acquire) == RUNNING {
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

    /// Notes what will tell that there is a connection for the request.
    pub(super) fn goes_out_on(&self, connection: CaptureConnection) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// The body once more, where nothing of it was asked for.
    pub(super) fn unread(self: &Arc<Self>) -> Option<Upload> {
        let unread = self
            .unread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        Some(Upload {
            source: unread.source,
            progress: self.clone(),
            idle: Stall::new(unread.idle),
            kept: unread.kept,
            is_begun: false,
        })
    }

    /// Whether some of the request may have reached the upstream.
    pub(super) fn is_sent(&self) -> bool {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = connection.as_ref().map(CaptureConnection::connection_metadata);
        chosen.is_some_and(|chosen| chosen.is_some())
    }

    /// Counts an answer that is none yet (1xx).
    pub(super) fn interim_answer(&self) {
        if self.interim_answers.fetch_add(1, Ordering::Relaxed) == INTERIM_ANSWERS {
            self.flooded.notify_one();
        }
    }

    /// Resolves when there were more interim answers than any server has a reason for.
    pub(super) async fn flooded(&self) {
        self.flooded.notified().await;
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
        upload.is_begun = true;
        loop {
            let frame = match &mut upload.source {
                Source::Kept(whole) => {
                    let body = std::mem::take(&mut whole.body);
                    return Poll::Ready((!body.is_empty()).then(|| Ok(Frame::data(body))));
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
            Source::Kept(whole) => whole.body.is_empty(),
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
            Source::Kept(whole) => SizeHint::with_exact(whole.body.len() as u64),
        }
    }
}

/// The upstream's answer on its way back. A stall is a cut; a failure in the first piece is held
/// back until the head is out, since a caller that gets nothing at all sends its request again.
pub(super) struct Download {
    body: Incoming,
    idle: Stall,
    is_begun: bool,
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
    pub(super) fn new(body: Incoming, idle: Duration) -> Self {
        Self {
            body,
            idle: Stall::new(idle),
            is_begun: false,
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
                    download.is_begun = true;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => break DownloadError::Broken(error),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    download.is_begun = true;
                    ready!(download.idle.poll(cx));
                    break DownloadError::Stalled;
                }
            }
        };
        if download.is_begun {
            return Poll::Ready(Some(Err(error)));
        }
        download.is_begun = true;
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn upload(body: &'static str) -> Upload {
        Upload::from_caller(Body::from(body), Duration::from_secs(60), None)
    }

    #[tokio::test]
    async fn a_body_that_nobody_asked_for_comes_back_whole_and_once() {
        let first = upload("hello");
        let progress = first.progress();
        drop(first);
        let again = progress.unread().unwrap();
        assert!(progress.unread().is_none());
        assert_eq!(again.collect().await.unwrap().to_bytes(), "hello");
        assert!(progress.unread().is_none());
        progress.ended().await;
    }

    #[tokio::test]
    async fn a_body_that_was_begun_never_comes_back() {
        let mut begun = upload("hello");
        let progress = begun.progress();
        begun.frame().await.unwrap().unwrap();
        drop(begun);
        assert!(progress.unread().is_none());
    }
}
