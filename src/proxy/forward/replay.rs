//! Keeps a request's body while it streams, in case the upstream refuses the token: a 401 means that
//! nothing was processed, so the request may go out once more with a newer one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

/// How much all requests together may keep.
#[derive(Clone, Default)]
pub struct ReplayBudget(Arc<AtomicU64>);

/// The bound of [`ReplayBudget`].
const TOGETHER: u64 = 64 << 20;

/// What is kept is kept in parts of this size: a buffer that grows would be copied, and twice there meanwhile.
const PART: usize = 64 << 10;

/// The body's side: what has passed so far.
pub(in crate::proxy) struct Kept {
    /// A copy: a piece may be a few bytes out of a large read buffer, which it would hold on to.
    parts: Vec<BytesMut>,
    /// How long the first part is to be.
    first: usize,
    /// Nothing once the body is over a bound.
    share: Option<Share>,
    limit: u64,
    slot: Arc<Mutex<Option<Whole>>>,
}

/// The sender's side: the whole body, once it has passed.
#[derive(Clone)]
pub(in crate::proxy) struct KeptBody(Arc<Mutex<Option<Whole>>>);

/// A whole body, and its part of the budget for as long as it is held.
#[derive(Default)]
pub(in crate::proxy) struct Whole {
    parts: VecDeque<Bytes>,
    _share: Option<Share>,
}

impl From<Bytes> for Whole {
    fn from(body: Bytes) -> Self {
        Self {
            parts: Some(body).filter(|body| !body.is_empty()).into_iter().collect(),
            _share: None,
        }
    }
}

impl Whole {
    /// The part that comes next.
    pub(in crate::proxy) fn next(&mut self) -> Option<Bytes> {
        self.parts.pop_front()
    }

    /// How many bytes are to come.
    pub(in crate::proxy) fn left(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().next().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}

/// A part of the budget, given back when dropped.
struct Share {
    budget: ReplayBudget,
    bytes: u64,
}

/// Begins to keep a body of up to `limit` bytes, and of `length` as far as is known.
pub(in crate::proxy) fn keep(limit: u64, length: u64, budget: &ReplayBudget) -> (Kept, KeptBody) {
    let slot = Arc::default();
    let share = Some(Share {
        budget: budget.clone(),
        bytes: 0,
    });
    let kept = Kept {
        parts: Vec::new(),
        first: usize::try_from(length).unwrap_or(usize::MAX).min(PART),
        share,
        limit,
        slot: Arc::clone(&slot),
    };
    (kept, KeptBody(slot))
}

impl Kept {
    /// Notes a piece that passes.
    pub(in crate::proxy) fn note(&mut self, piece: &Bytes) {
        let Some(share) = &mut self.share else { return };
        if share.grow(piece.len() as u64, self.limit) {
            self.append(piece);
        } else {
            self.share = None;
            self.parts = Vec::new();
        }
    }

    fn append(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            match self.parts.last_mut() {
                Some(part) if part.len() < part.capacity() => {
                    let room = part.capacity() - part.len();
                    let (now, later) = piece.split_at(piece.len().min(room));
                    part.extend_from_slice(now);
                    piece = later;
                }
                Some(_) => self.parts.push(BytesMut::with_capacity(PART)),
                None => self
                    .parts
                    .push(BytesMut::with_capacity(self.first.max(piece.len().min(PART)))),
            }
        }
    }

    /// The body has passed to its end.
    pub(in crate::proxy) fn complete(self) {
        if self.share.is_some() {
            let whole = Whole {
                parts: self.parts.into_iter().map(BytesMut::freeze).collect(),
                _share: self.share,
            };
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(whole);
        }
    }
}

impl KeptBody {
    /// A body that is complete from the start.
    pub(in crate::proxy) fn of(body: Bytes) -> Self {
        Self(Arc::new(Mutex::new(Some(Whole::from(body)))))
    }

    /// No body at all, which can always be sent again.
    pub(in crate::proxy) fn empty() -> Self {
        Self::of(Bytes::new())
    }

    /// The whole body, if it passed to its end within the bounds.
    pub(in crate::proxy) fn take(&self) -> Option<Whole> {
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
        let mut whole = body.take().unwrap();
        assert_eq!((whole.left(), whole.next().unwrap()), (5, "abcde".into()));
        assert!(whole.next().is_none());
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

    #[test]
    fn a_long_body_is_kept_in_parts_and_comes_back_in_order() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut kept, kept_body) = keep(u64::MAX, 0, &ReplayBudget::default());
        for piece in body.chunks(7001) {
            kept.note(&Bytes::copy_from_slice(piece));
        }
        kept.complete();
        let mut whole = kept_body.take().unwrap();
        assert_eq!(whole.left(), body.len());
        let parts: Vec<Bytes> = std::iter::from_fn(|| whole.next()).collect();
        assert!(parts.len() > 10);
        assert_eq!(parts.concat(), body);
    }
}
