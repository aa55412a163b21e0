//! Keeps a copy of a request body while it streams. An upstream that rejects the token has not processed the request, so
//! bondgate can send it once more with a newer token.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The memory for kept bodies, over all requests. Clones share it.
#[derive(Clone)]
pub struct ReplayBudget(Arc<Semaphore>);

/// The bytes of [`ReplayBudget`].
const TOTAL: usize = 64 << 20;
/// A longer body is not allocated at once, since its caller may never send it.
const FIRST_ALLOCATION: usize = 256 << 10;

impl Default for ReplayBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL)))
    }
}

/// The part of a body that has passed so far.
pub(in crate::proxy) struct BodyCopy {
    body: BudgetedBytes,
    limit: u64,
    complete: oneshot::Sender<Bytes>,
}

/// A body that is available for a second attempt.
pub(in crate::proxy) enum KeptBody {
    /// At any time.
    Complete(Bytes),
    /// When it has passed to its end, if it was within the bounds.
    Passing(oneshot::Receiver<Bytes>),
}

/// Bytes and their part of the budget.
struct BudgetedBytes {
    bytes: BytesMut,
    permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BudgetedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl KeptBody {
    /// Keeps a body of at most `limit` bytes that has at least `length`.
    pub(super) fn keep(limit: u64, length: u64, budget: &ReplayBudget) -> Option<(BodyCopy, Self)> {
        let first = usize::try_from(length).map_or(FIRST_ALLOCATION, |length| length.min(FIRST_ALLOCATION));
        let permit = budget.0.clone().try_acquire_many_owned(0).ok()?;
        let (complete, completed) = oneshot::channel();
        let copy = BodyCopy {
            body: BudgetedBytes {
                bytes: BytesMut::with_capacity(first),
                permit,
            },
            limit,
            complete,
        };
        Some((copy, Self::Passing(completed)))
    }

    /// The body, if it is available.
    pub(super) fn take(self) -> Option<Bytes> {
        match self {
            Self::Complete(body) => Some(body),
            Self::Passing(mut completed) => completed.try_recv().ok(),
        }
    }
}

impl BodyCopy {
    /// Appends a copy of a piece: the piece itself may be a few bytes of a large read buffer. Returns whether the body is
    /// still within the bounds and still wanted.
    pub(super) fn append(&mut self, piece: &[u8]) -> bool {
        let limit = self.limit.min(TOTAL as u64);
        let BudgetedBytes { bytes, permit } = &mut self.body;
        if (bytes.len() + piece.len()) as u64 > limit || self.complete.is_closed() {
            return false;
        }
        let Ok(count) = u32::try_from(piece.len()) else {
            return false;
        };
        let Ok(more) = permit.semaphore().clone().try_acquire_many_owned(count) else {
            return false;
        };
        permit.merge(more);
        if bytes.capacity() - bytes.len() < piece.len() {
            // For the whole body, since pages that are not written take no memory. A buffer that doubles would be copied
            // each time, and take half as much again meanwhile.
            bytes.reserve(usize::try_from(limit).unwrap_or(TOTAL) - bytes.len());
        }
        bytes.extend_from_slice(piece);
        true
    }

    /// The body has passed to its end.
    pub(super) fn complete(self) {
        let _ = self.complete.send(Bytes::from_owner(self.body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(limit: u64, budget: &ReplayBudget) -> (BodyCopy, KeptBody) {
        KeptBody::keep(limit, 0, budget).unwrap()
    }

    #[test]
    fn a_body_within_the_bounds_is_available_when_it_has_passed_to_its_end() {
        let budget = ReplayBudget::default();
        let (mut copy, kept) = keep(5, &budget);
        assert!(copy.append(b"abc") && copy.append(b"de"));
        copy.complete();
        let body = kept.take().unwrap();
        assert_eq!(body, "abcde");
        assert_eq!(budget.0.available_permits(), TOTAL - 5);
        drop(body);
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

    #[test]
    fn a_long_body_is_kept_in_order() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut copy, kept) = keep(u64::MAX, &ReplayBudget::default());
        assert!(body.chunks(7001).all(|piece| copy.append(piece)));
        copy.complete();
        assert_eq!(kept.take().unwrap(), body);
    }
}
