//! Places that callers take and give back, shared so that no caller takes them all.
//!
//! While more than a quarter is free, whoever comes has one. In the last quarter a caller that holds as many as
//! are free has to wait for its own: heavy callers stop there, and one with few still comes in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bounded number of places, over all workers. Clones are the same places.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    all: usize,
    /// The most that one caller may have, 0 for no fixed bound.
    per_caller: usize,
    /// Whether no more than a quarter is free.
    are_scarce: AtomicBool,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    by_caller: HashMap<CallerId, usize>,
}

/// One place; given back when dropped.
pub struct Place {
    caller: Option<CallerId>,
    places: Places,
}

/// Whom places are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerId {
    /// The name that goes with its key.
    Name(Arc<str>),
    /// Its address; of IPv6 the network part, since one machine has them all.
    Address(IpAddr),
    /// Its user id, at a unix socket.
    User(u32),
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// This caller has as many as one may have.
    Caller,
    /// Few are left, and this caller has more than its share.
    Share,
}

impl CallerId {
    /// A caller known by nothing but its address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl Places {
    /// So many places, with so many of them for one caller; 0 for no fixed bound.
    #[must_use]
    pub fn new(all: usize, per_caller: usize) -> Self {
        Self(Arc::new(Shared {
            all,
            per_caller,
            are_scarce: AtomicBool::new(false),
            taken: Mutex::default(),
        }))
    }

    /// A place, or why there is none. A caller that nobody can name has only the bound on all.
    pub fn enter(&self, caller: Option<CallerId>) -> Result<Place, Full> {
        let shared = &*self.0;
        let mut taken = shared.taken();
        let free = shared.all.saturating_sub(taken.count);
        let own = match &caller {
            Some(caller) => taken.by_caller.get(caller).copied().unwrap_or(0),
            None => 0,
        };
        if free == 0 {
            return Err(Full::All);
        }
        if shared.per_caller > 0 && own >= shared.per_caller {
            return Err(Full::Caller);
        }
        if !is_fair(shared.all, free, own) {
            return Err(Full::Share);
        }
        taken.add(caller.as_ref());
        taken.count += 1;
        shared.note_scarcity(taken.count);
        drop(taken);
        Ok(Place {
            caller,
            places: self.clone(),
        })
    }

    /// Whether no more than a quarter is free: heavy callers are close to being refused.
    pub(super) fn are_scarce(&self) -> bool {
        self.0.are_scarce.load(Ordering::Relaxed)
    }

    /// Whether a caller holds all that one caller may hold.
    pub(super) fn has_full_share(&self, caller: &CallerId) -> bool {
        let taken = self.0.taken();
        let own = taken.by_caller.get(caller).copied().unwrap_or(0);
        own >= self.0.all - self.0.all / 4
    }

    /// How many there are.
    #[must_use]
    pub fn all(&self) -> usize {
        self.0.all
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written only where it changes: connections of all workers look at it.
    fn note_scarcity(&self, count: usize) {
        let are_scarce = self.all.saturating_sub(count) <= self.all / 4;
        if self.are_scarce.load(Ordering::Relaxed) != are_scarce {
            self.are_scarce.store(are_scarce, Ordering::Relaxed);
        }
    }
}

impl Taken {
    fn add(&mut self, caller: Option<&CallerId>) {
        if let Some(caller) = caller {
            *self.by_caller.entry(caller.clone()).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, caller: Option<CallerId>) {
        let Some(caller) = caller else { return };
        if let Entry::Occupied(mut own) = self.by_caller.entry(caller) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Place {
    /// The same place for another caller.
    pub(super) fn pass_to(&mut self, caller: Option<CallerId>) {
        let mut taken = self.places.0.taken();
        taken.add(caller.as_ref());
        taken.remove(std::mem::replace(&mut self.caller, caller));
    }
}

/// Whether a caller that holds `own` places may have another one.
fn is_fair(all: usize, free: usize, own: usize) -> bool {
    free > all / 4 || own < free
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &*self.places.0;
        let mut taken = shared.taken();
        taken.count -= 1;
        shared.note_scarcity(taken.count);
        taken.remove(self.caller.take());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(number: u8) -> CallerId {
        CallerId::at([10, 0, 0, number].into())
    }

    /// As many places as one caller can get.
    fn fill(places: &Places, number: u8) -> Vec<Place> {
        std::iter::from_fn(|| places.enter(Some(caller(number))).ok()).collect()
    }

    #[test]
    fn a_place_is_given_back_when_dropped_and_nothing_is_left_of_its_caller() {
        let places = Places::new(1, 0);
        let place = places.enter(Some(caller(1))).unwrap();
        assert_eq!(places.enter(Some(caller(2))).map(drop), Err(Full::All));
        drop(place);
        assert!(places.enter(Some(caller(2))).is_ok());
        assert!(places.0.taken.lock().unwrap().by_caller.is_empty());
    }

    #[test]
    fn a_lone_caller_takes_three_quarters_and_leaves_the_rest_to_others() {
        let places = Places::new(100, 0);
        let one = fill(&places, 1);
        assert_eq!(one.len(), 75);
        assert_eq!(places.enter(Some(caller(1))).map(drop), Err(Full::Share));
        let other = fill(&places, 2);
        assert!((10..25).contains(&other.len()), "{}", other.len());
        assert!(
            places.enter(Some(caller(3))).is_ok(),
            "and there is one for the next"
        );
        drop(one);
        assert!(fill(&places, 2).len() > 50);
    }

    #[test]
    fn a_place_that_is_passed_on_counts_for_its_new_caller_alone() {
        let places = Places::new(8, 0);
        let mut held = fill(&places, 1);
        assert_eq!(held.len(), 6);
        assert!(places.has_full_share(&caller(1)) && !places.has_full_share(&caller(2)));
        held[0].pass_to(Some(caller(2)));
        assert!(!places.has_full_share(&caller(1)));
        assert_eq!(places.0.taken().by_caller[&caller(2)], 1);
        drop(held);
        assert!(places.0.taken().by_caller.is_empty() && places.0.taken().count == 0);
    }

    #[test]
    fn places_are_scarce_while_no_more_than_a_quarter_is_free() {
        let places = Places::new(8, 0);
        let mut held = Vec::new();
        for number in 0..8 {
            assert_eq!(places.are_scarce(), number >= 6, "{number}");
            held.push(places.enter(Some(caller(number))).unwrap());
        }
        for number in (0..8).rev() {
            assert!(places.are_scarce() == (number >= 5));
            held.pop();
        }
    }

    #[test]
    fn few_places_are_given_to_whoever_comes() {
        for all in 1..4 {
            assert_eq!(fill(&Places::new(all, 0), 1).len(), all);
        }
    }

    #[test]
    fn a_fixed_bound_on_one_caller_holds_while_all_others_are_free() {
        let places = Places::new(100, 2);
        let _taken = fill(&places, 1);
        assert_eq!(places.enter(Some(caller(1))).map(drop), Err(Full::Caller));
        assert!(places.enter(Some(caller(2))).is_ok());
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
        fn however_many_are_greedy_a_newcomer_finds_a_place(
            all in 4_usize..200,
            order in proptest::collection::vec(0_u8..8, 0..600),
        ) {
            let places = Places::new(all, 0);
            let mut held = Vec::new();
            for number in order {
                held.extend(places.enter(Some(caller(number))).ok());
            }
            let free = all - held.len();
            prop_assert!(places.enter(Some(caller(99))).is_ok() == (free > 0));
            prop_assert!(held.len() <= all);
        }
    }
}
