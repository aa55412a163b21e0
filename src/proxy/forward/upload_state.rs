//! What is known of a request's body and of its way to the upstream, while both are in progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::SetOnce;

use super::error::{ProxyError, UploadError};

/// What is known of a request's body and of its way to the upstream.
#[derive(Default)]
pub(in crate::proxy) struct UploadState {
    /// The body is complete, or was dropped because the upstream does not want the rest, or ended early.
    end: SetOnce<Result<(), UploadError>>,
    /// Frames read by the upstream's connection.
    pub(super) frames: AtomicU64,
    /// Whether the last poll returned a frame, so that the upstream has to read on.
    pub(super) is_upstreams_turn: AtomicBool,
    /// Set while a byte of the request may have reached the upstream.
    pub(in crate::proxy) may_be_sent: AtomicBool,
    /// The bytes of the body that were read from the caller.
    pub(super) bytes: AtomicU64,
    upstream_time: Mutex<UpstreamTime>,
}

/// How long a request has waited for a connection to the upstream, for the head of its response, or both.
#[derive(Default)]
struct UpstreamTime {
    /// Of the attempts that have ended.
    ended: Duration,
    /// The start of the attempt in progress.
    began: Option<Instant>,
}

impl UploadState {
    /// The first end counts.
    pub(super) fn end(&self, end: Result<(), UploadError>) {
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

    /// The bytes of the body that were read from the caller.
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes that an attempt to send the request begins.
    pub(in crate::proxy) fn begin_attempt(&self) {
        self.upstream_time.lock().began = Some(Instant::now());
    }

    /// Notes that it has ended.
    pub(in crate::proxy) fn end_attempt(&self) {
        let mut time = self.upstream_time.lock();
        if let Some(began) = time.began.take() {
            time.ended += began.elapsed();
        }
    }

    /// How long the request has waited for the upstream: for a connection, and for the head of the response.
    pub(in crate::proxy) fn upstream_time(&self) -> Duration {
        let time = self.upstream_time.lock();
        time.ended + time.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// The error if the caller ended the body early.
    pub(in crate::proxy) fn upload_error(&self) -> Option<ProxyError> {
        self.end.get()?.err().map(ProxyError::Body)
    }
}
