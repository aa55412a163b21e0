//! Keeps a request's body while it streams, in case the upstream refuses the token: a 401 means that
//! nothing was processed, so the request may go out once more with a newer one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// How much all requests together may keep.
#[derive(Clone, Default)]
pub struct ReplayBudget(Arc<AtomicU64>);

/// The bound of [`ReplayBudget`].
const TOGETHER: u64 = 64 << 20;

/// Room for more is made when more has come.
const AT_ONCE: usize = 64 << 10;

/// The body's side: what has passed so far.
pub(super) struct Kept {
    /// A copy: a piece may be a few bytes out of a large read buffer, which it would hold on to.
    body: BytesMut,
    /// Room for so much is made with the first piece.
    length: usize,
    /// Nothing once the body is over a bound.
    share: Option<Share>,
    limit: u64,
    slot: Arc<Mutex<Option<Whole>>>,
}

/// The sender's side: the whole body, once it has passed.
#[derive(Clone)]
pub(super) struct KeptBody(Arc<Mutex<Option<Whole>>>);

/// A whole body, and its part of the budget for as long as it is held.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) body: Bytes,
    _share: Option<Share>,
}

impl From<Bytes> for Whole {
    fn from(body: Bytes) -> Self {
        Self { body, _share: None }
    }
}

/// A part of the budget, given back when dropped.
struct Share {
    budget: ReplayBudget,
    bytes: u64,
}

/// Begins to keep a body of up to `limit` bytes, and of `length` as far as is known.
pub(super) fn keep(limit: u64, length: u64, budget: &ReplayBudget) -> (Kept, KeptBody) {
    let slot = Arc::default();
    let share = Some(Share {
        budget: budget.clone(),
        bytes: 0,
    });
    let kept = Kept {
        body: BytesMut::new(),
        length: usize::try_from(length).unwrap_or(usize::MAX).min(AT_ONCE),
        share,
        limit,
        slot: Arc::clone(&slot),
    };
    (kept, KeptBody(slot))
}

impl Kept {
    /// Notes a piece that passes.
    pub(super) fn note(&mut self, piece: &Bytes) {
        let Some(share) = &mut self.share else { return };
        if share.grow(piece.len() as u64, self.limit) {
            if self.body.is_empty() {
                self.body.reserve(self.length);
            }
            self.body.extend_from_slice(piece);
        } else {
            self.share = None;
            self.body = BytesMut::new();
        }
    }

    /// The body has passed to its end.
    pub(super) fn complete(self) {
        if self.share.is_some() {
            let whole = Whole {
                body: self.body.freeze(),
                _share: self.share,
            };
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(whole);
        }
    }
}

impl KeptBody {
    /// A body that is whole already.
    pub(super) fn of(body: Bytes) -> Self {
        Self(Arc::new(Mutex::new(Some(Whole::from(body)))))
    }

    /// The whole body, if it passed to its end within the bounds.
    pub(super) fn take(&self) -> Option<Whole> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Share {
    fn grow(&mut self, by: u64, limit: u64) -> bool {
        if self.bytes + by > limit {
            return false;
        }
        let used = &self.budget.0;
        if used.fetch_add(by, Ordering::AcqRel) + by > TOGETHER {
            used.fetch_sub(by, Ordering::AcqRel);
            return false;
        }
        self.bytes += by;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_within_the_bound_is_kept_to_its_end() {
        let (mut kept, body) = keep(5, 5, &ReplayBudget::default());
        kept.note(&Bytes::from_static(b"abc"));
        assert!(body.take().is_none());
        kept.note(&Bytes::from_static(b"de"));
        kept.complete();
        assert_eq!(body.take().unwrap().body, "abcde");
        assert!(body.take().is_none());
    }

    #[test]
    fn a_body_over_a_bound_is_not_kept_and_gives_its_share_back() {
        let budget = ReplayBudget::default();
        let (mut kept, body) = keep(5, 0, &budget);
        kept.note(&Bytes::from_static(b"abc"));
        kept.note(&Bytes::from_static(b"def"));
        kept.complete();
        assert!(body.take().is_none());
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);

        let big = Bytes::from(vec![0; 40 << 20]);
        let (mut first, _body) = keep(u64::MAX, u64::MAX, &budget);
        first.note(&big);
        let (mut second, body) = keep(u64::MAX, u64::MAX, &budget);
        second.note(&big);
        second.complete();
        assert!(body.take().is_none(), "both together are over the budget");
        drop(first);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
