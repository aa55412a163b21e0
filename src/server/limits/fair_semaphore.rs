//! A semaphore that no caller can exhaust alone.
//!
//! While more than a quarter of the permits is free, every caller gets one. In the last quarter, a caller that holds as
//! many permits as are free is refused: heavy callers stop there, and a caller with few permits still gets one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A bounded number of permits, over all workers. Clones share them.
#[derive(Clone)]
pub struct FairSemaphore(Arc<Shared>);

struct Shared {
    total: usize,
    /// The most permits of one caller, 0 for no fixed limit.
    per_caller: usize,
    /// The number of held permits, written under the lock of `held`.
    count: AtomicUsize,
    /// The number of each caller that has some.
    held: Mutex<BTreeMap<CallerId, usize>>,
}

impl Shared {
    /// The last permits, in which a caller that holds many is refused: a quarter.
    fn reserve(&self) -> usize {
        self.total / 4
    }
}

/// One permit, released when dropped.
pub struct Permit {
    /// The caller that it counts for.
    pub(super) caller: Option<CallerId>,
    pub(super) semaphore: FairSemaphore,
}

/// The caller that a permit counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerId {
    /// The name that belongs to its key.
    Name(Arc<str>),
    /// Its address; of IPv6 the network part, since one machine has all addresses of its network.
    Address(IpAddr),
    /// Its user id, on a unix socket.
    User(u32),
}

/// Why a permit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReason {
    /// All permits are held.
    Total,
    /// This caller holds as many as one caller may.
    Caller,
    /// Few are free, and this caller holds more than its share.
    Share,
}

impl CallerId {
    /// A caller known by its address alone.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl FairSemaphore {
    /// A semaphore of `total` permits, at most `per_caller` of them for one caller; 0 for no fixed limit.
    #[must_use]
    pub fn new(total: usize, per_caller: usize) -> Self {
        Self(Arc::new(Shared {
            total,
            per_caller,
            count: AtomicUsize::new(0),
            held: Mutex::default(),
        }))
    }

    /// Acquires a permit. For an unknown caller only the total counts.
    pub fn acquire(&self, caller: Option<CallerId>) -> Result<Permit, LimitReason> {
        let shared = &*self.0;
        let mut held = shared.held.lock();
        let free = self.free();
        if free == 0 {
            return Err(LimitReason::Total);
        }
        if let Some(caller) = &caller {
            match held.get_mut(caller) {
                Some(own) if shared.per_caller > 0 && *own >= shared.per_caller => {
                    return Err(LimitReason::Caller);
                }
                Some(own) if free <= shared.reserve() && *own >= free => return Err(LimitReason::Share),
                Some(own) => *own += 1,
                None => {
                    held.insert(caller.clone(), 1);
                }
            }
        }
        shared.count.fetch_add(1, Ordering::Relaxed);
        drop(held);
        Ok(Permit {
            caller,
            semaphore: self.clone(),
        })
    }

    /// Whether at most a quarter is free, so that heavy callers will be refused soon.
    pub(super) fn is_scarce(&self) -> bool {
        self.free() <= self.0.reserve()
    }

    fn free(&self) -> usize {
        self.0.total.saturating_sub(self.0.count.load(Ordering::Relaxed))
    }

    /// Whether a caller holds as many permits as one caller can get.
    pub(super) fn has_full_share(&self, caller: &CallerId) -> bool {
        let own = self.0.held.lock().get(caller).copied();
        own.unwrap_or(0) >= self.0.total - self.0.reserve()
    }

    /// The number of permits.
    pub(super) fn total(&self) -> usize {
        self.0.total
    }
}

impl Permit {
    /// Hands the permit over to another caller.
    pub(super) fn transfer(&mut self, caller: Option<CallerId>) {
        let mut held = self.semaphore.0.held.lock();
        if let Some(caller) = &caller {
            *held.entry(caller.clone()).or_insert(0) += 1;
        }
        release(&mut held, std::mem::replace(&mut self.caller, caller));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shared = &*self.semaphore.0;
        let mut held = shared.held.lock();
        shared.count.fetch_sub(1, Ordering::Relaxed);
        release(&mut held, self.caller.take());
    }
}

fn release(held: &mut BTreeMap<CallerId, usize>, caller: Option<CallerId>) {
    if let Some(caller) = caller
        && let Entry::Occupied(mut own) = held.entry(caller)
    {
        *own.get_mut() -= 1;
        if *own.get() == 0 {
            own.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(number: u8) -> CallerId {
        CallerId::at([10, 0, 0, number].into())
    }

    /// As many permits as one caller can get.
    fn fill(semaphore: &FairSemaphore, number: u8) -> Vec<Permit> {
        std::iter::from_fn(|| semaphore.acquire(Some(caller(number))).ok()).collect()
    }

    #[test]
    fn a_dropped_permit_is_free_again_and_its_caller_is_forgotten() {
        let semaphore = FairSemaphore::new(1, 0);
        let permit = semaphore.acquire(Some(caller(1))).unwrap();
        assert_eq!(
            semaphore.acquire(Some(caller(2))).map(drop),
            Err(LimitReason::Total)
        );
        drop(permit);
        assert!(semaphore.acquire(Some(caller(2))).is_ok());
        assert!(semaphore.0.held.lock().is_empty());
    }

    #[test]
    fn a_lone_caller_takes_three_quarters_and_leaves_the_rest_to_others() {
        let semaphore = FairSemaphore::new(100, 0);
        let one = fill(&semaphore, 1);
        assert_eq!(one.len(), 75);
        assert_eq!(
            semaphore.acquire(Some(caller(1))).map(drop),
            Err(LimitReason::Share)
        );
        let other = fill(&semaphore, 2);
        assert!((10..25).contains(&other.len()), "{}", other.len());
        assert!(
            semaphore.acquire(Some(caller(3))).is_ok(),
            "the next caller gets one"
        );
        drop(one);
        assert!(fill(&semaphore, 2).len() > 50);
    }

    #[test]
    fn a_transferred_permit_counts_for_its_new_caller_only() {
        let semaphore = FairSemaphore::new(8, 0);
        let mut held = fill(&semaphore, 1);
        assert_eq!(held.len(), 6);
        assert!(semaphore.has_full_share(&caller(1)) && !semaphore.has_full_share(&caller(2)));
        held[0].transfer(Some(caller(2)));
        assert!(!semaphore.has_full_share(&caller(1)));
        assert_eq!(semaphore.0.held.lock()[&caller(2)], 1);
        drop(held);
        assert!(semaphore.0.held.lock().is_empty() && semaphore.free() == 8);
    }

    #[test]
    fn permits_are_scarce_while_at_most_a_quarter_is_free() {
        let semaphore = FairSemaphore::new(8, 0);
        let mut held = Vec::new();
        for number in 0..8 {
            assert_eq!(semaphore.is_scarce(), number >= 6, "{number}");
            held.push(semaphore.acquire(Some(caller(number))).unwrap());
        }
        for number in (0..8).rev() {
            assert!(semaphore.is_scarce() == (number >= 5));
            held.pop();
        }
    }

    #[test]
    fn of_fewer_than_four_permits_one_caller_may_hold_all() {
        for all in 1..4 {
            assert_eq!(fill(&FairSemaphore::new(all, 0), 1).len(), all);
        }
    }

    #[test]
    fn the_fixed_limit_of_a_caller_holds_while_permits_are_free() {
        let semaphore = FairSemaphore::new(100, 2);
        let _held = fill(&semaphore, 1);
        assert_eq!(
            semaphore.acquire(Some(caller(1))).map(drop),
            Err(LimitReason::Caller)
        );
        assert!(semaphore.acquire(Some(caller(2))).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller_and_so_are_both_forms_of_ipv4() {
        let at = |address: &str| CallerId::at(address.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::3"), at("2001:db8:1:2:ffff::4"));
        assert_ne!(at("2001:db8:1:2::3"), at("2001:db8:1:3::3"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }

    proptest! {
        #[test]
        fn a_new_caller_gets_a_permit_while_one_is_free(
            all in 4_usize..200,
            order in proptest::collection::vec(0_u8..8, 0..600),
        ) {
            let semaphore = FairSemaphore::new(all, 0);
            let mut held = Vec::new();
            for number in order {
                held.extend(semaphore.acquire(Some(caller(number))).ok());
            }
            let free = all - held.len();
            prop_assert!(semaphore.acquire(Some(caller(99))).is_ok() == (free > 0));
            prop_assert!(held.len() <= all);
        }
    }
}
