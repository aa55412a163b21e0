//! Keeps a copy of a request body while it streams. An upstream that rejects the token has not processed the request, so
//! bondgate can send it once more with a newer token.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The memory for kept bodies, over all requests. Clones share it.
#[derive(Clone)]
pub struct ReplayBudget(Arc<Semaphore>);

/// The bytes of [`ReplayBudget`].
const TOTAL: usize = 64 << 20;
/// A body is kept in parts of at most this size: a buffer that grows would be copied, and take half as much again.
const PART: usize = 64 << 10;

impl Default for ReplayBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL)))
    }
}

/// The part of a body that has passed so far.
pub(in crate::proxy) struct BodyCopy {
    kept: Parts,
    length: u64,
    limit: u64,
    complete: oneshot::Sender<Parts>,
}

/// A body that is available for a second attempt.
pub(in crate::proxy) enum KeptBody {
    /// At any time.
    Complete(Bytes),
    /// When it has passed to its end, if it was within the bounds.
    Passing(oneshot::Receiver<Parts>),
}

/// A body in parts, with its part of the budget.
pub(in crate::proxy) struct Parts {
    list: Vec<BytesMut>,
    /// The size of the first part.
    first: usize,
    permit: OwnedSemaphorePermit,
}

impl KeptBody {
    /// Keeps a body of at most `limit` bytes that has at least `length`.
    pub(super) fn keep(limit: u64, length: u64, budget: &ReplayBudget) -> Option<(BodyCopy, Self)> {
        let permit = budget.0.clone().try_acquire_many_owned(0).ok()?;
        let (complete, completed) = oneshot::channel();
        let copy = BodyCopy {
            kept: Parts {
                list: Vec::new(),
                first: usize::try_from(length).unwrap_or(PART),
                permit,
            },
            length: 0,
            limit,
            complete,
        };
        Some((copy, Self::Passing(completed)))
    }

    /// The body, if it is available.
    pub(super) fn take(self) -> Option<Body> {
        match self {
            Self::Complete(body) => Some(body.into()),
            Self::Passing(mut completed) => completed.try_recv().ok().map(Parts::into_body),
        }
    }
}

impl BodyCopy {
    /// Appends a copy of a piece: the piece itself may be a few bytes of a large read buffer. Returns whether the body is
    /// still within the bounds and still wanted.
    pub(super) fn append(&mut self, piece: &[u8]) -> bool {
        self.length += piece.len() as u64;
        if self.length > self.limit || self.complete.is_closed() {
            return false;
        }
        let budget = self.kept.permit.semaphore().clone();
        let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let Ok(permit) = budget.try_acquire_many_owned(count) else {
            return false;
        };
        self.kept.permit.merge(permit);
        self.kept.append(piece);
        true
    }

    /// The body has passed to its end.
    pub(super) fn complete(self) {
        let _ = self.complete.send(self.kept);
    }
}

impl Parts {
    fn append(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = self.list.last().map_or(0, |part| part.capacity() - part.len());
            if room == 0 {
                let size = self.list.last().map_or(self.first, |part| 2 * part.capacity());
                self.list
                    .push(BytesMut::with_capacity(size.max(piece.len()).min(PART)));
            } else if let Some(part) = self.list.last_mut() {
                let (now, later) = piece.split_at(piece.len().min(room));
                part.extend_from_slice(now);
                piece = later;
            }
        }
    }

    fn into_body(self) -> Body {
        let permit = self.permit;
        let frame = move |part: BytesMut| {
            // Released with the last part.
            let _ = &permit;
            Ok::<_, Infallible>(Frame::data(part.freeze()))
        };
        Body::new(StreamBody::new(stream::iter(self.list.into_iter().map(frame))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(limit: u64, budget: &ReplayBudget) -> (BodyCopy, KeptBody) {
        KeptBody::keep(limit, 0, budget).unwrap()
    }

    #[tokio::test]
    async fn a_body_within_the_bounds_is_available_when_it_has_passed_to_its_end() {
        let budget = ReplayBudget::default();
        let (mut copy, kept) = keep(5, &budget);
        assert!(copy.append(b"abc") && copy.append(b"de"));
        copy.complete();
        let body = kept.take().unwrap();
        assert_eq!(budget.0.available_permits(), TOTAL - 5);
        assert_eq!(axum::body::to_bytes(body, 5).await.unwrap(), "abcde");
        assert_eq!(budget.0.available_permits(), TOTAL);

        let (mut copy, kept) = keep(5, &budget);
        assert!(copy.append(b"abc"));
        assert!(kept.take().is_none());
    }

    #[test]
    fn a_body_over_a_bound_is_not_kept_and_releases_its_part_of_the_budget() {
        let budget = ReplayBudget::default();
        let (mut copy, kept) = keep(5, &budget);
        assert!(copy.append(b"abc") && !copy.append(b"def"));
        drop(copy);
        assert!(kept.take().is_none());
        assert_eq!(budget.0.available_permits(), TOTAL);

        let big = vec![0; 40 << 20];
        let (mut first, _kept) = keep(u64::MAX, &budget);
        assert!(first.append(&big));
        let (mut second, _kept) = keep(u64::MAX, &budget);
        assert!(!second.append(&big), "both together are over the budget");
        drop(first);
        assert_eq!(budget.0.available_permits(), TOTAL);
    }

    #[tokio::test]
    async fn a_long_body_is_kept_in_order() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut copy, kept) = keep(u64::MAX, &ReplayBudget::default());
        assert!(body.chunks(7001).all(|piece| copy.append(piece)));
        copy.complete();
        let kept = axum::body::to_bytes(kept.take().unwrap(), body.len()).await;
        assert_eq!(kept.unwrap(), body);
    }
}
