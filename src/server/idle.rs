//! Connections that idle between two requests, over all workers. At the cap on connections, the one that has idled
//! longest is closed for a newcomer, which takes over its permit.
//!
//! Nobody closes a connection from outside: it is asked, and its own task closes it, or declines because a request has
//! come meanwhile. A connection registers when it is parked; while places are scarce, as soon as it idles. So a request
//! costs nothing here until three quarters of the places are taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::places::{CallerId, Place, Places};

/// The idle connections of all workers. Clones are the same.
#[derive(Clone)]
pub(super) struct IdleConnections(Arc<Shared>);

struct Shared {
    places: Places,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    /// By the time since when they idle.
    idle: BTreeMap<Key, Idle>,
    /// Those that were asked to close and have not decided yet.
    asked: HashMap<Key, Successor>,
    next: u64,
}

/// Since when a connection idles, and a number that makes it unique.
type Key = (Instant, u64);

struct Idle {
    caller: Option<CallerId>,
    waker: Waker,
}

/// Gets the place of a connection that is closed for a newcomer; dropped where the connection declines.
pub(super) type Successor = oneshot::Sender<Place>;

impl IdleConnections {
    pub(super) fn new(places: Places) -> Self {
        Self(Arc::new(Shared {
            places,
            registry: Mutex::default(),
        }))
    }

    /// Asks the connection that has idled longest, of one caller alone or of all, to close. The answer is its place,
    /// or an error where it declines or has ended. `None` where no connection idles.
    pub(super) fn ask(&self, of: Option<&CallerId>) -> Option<oneshot::Receiver<Place>> {
        let mut registry = self.registry();
        let key = match of {
            None => *registry.idle.first_key_value()?.0,
            Some(caller) => {
                let is_of_caller = |(_, idle): &(&Key, &Idle)| idle.caller.as_ref() == Some(caller);
                *registry.idle.iter().find(is_of_caller)?.0
            }
        };
        let waker = registry.idle.remove(&key)?.waker;
        let (successor, place) = oneshot::channel();
        registry.asked.insert(key, successor);
        drop(registry);
        waker.wake();
        Some(place)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection among them; it is none of them any more once this is dropped.
pub(super) struct Registration {
    connections: IdleConnections,
    caller: Option<CallerId>,
    key: Option<Key>,
    successor: Option<Successor>,
}

impl Registration {
    /// Of a connection that does not idle yet.
    pub(super) fn new(connections: IdleConnections, caller: Option<CallerId>) -> Self {
        Self {
            connections,
            caller,
            key: None,
            successor: None,
        }
    }

    /// Whether a connection should register although it is not parked yet.
    pub(super) fn is_due_early(&self) -> bool {
        self.connections.0.places.are_scarce()
    }

    /// Whether the connection is registered, or was and has not seen yet that it was asked to close.
    pub(super) fn is_registered(&self) -> bool {
        self.key.is_some()
    }

    /// The connection idles, and is woken when it is asked to close.
    pub(super) fn enter(&mut self, since: Instant, waker: &Waker) {
        let mut registry = self.connections.registry();
        let key = (since, registry.next);
        registry.next += 1;
        let idle = Idle {
            caller: self.caller.clone(),
            waker: waker.clone(),
        };
        registry.idle.insert(key, idle);
        self.key = Some(key);
    }

    /// Whether the connection was asked to close.
    pub(super) fn is_asked(&mut self) -> bool {
        if self.successor.is_none()
            && let Some(key) = self.key
        {
            self.successor = self.connections.registry().asked.remove(&key);
            if self.successor.is_some() {
                self.key = None;
            }
        }
        self.successor.is_some()
    }

    /// The connection does not idle any more. Where it was asked to close, it declines.
    pub(super) fn leave(&mut self) {
        self.successor = None;
        if let Some(key) = self.key.take() {
            let mut registry = self.connections.registry();
            if registry.idle.remove(&key).is_none() {
                registry.asked.remove(&key);
            }
        }
    }

    /// Who gets the place of the connection, which has ended. It may have ended by itself just as it was asked to close.
    pub(super) fn take_successor(&mut self) -> Option<Successor> {
        self.is_asked();
        self.successor.take()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caller(number: u8) -> CallerId {
        CallerId::at([10, 0, 0, number].into())
    }

    fn connections() -> IdleConnections {
        IdleConnections::new(Places::new(10, 0))
    }

    /// A connection of a caller that has idled for so many seconds.
    fn idle(connections: &IdleConnections, number: u8, seconds: u64) -> Registration {
        let mut registration = Registration::new(connections.clone(), Some(caller(number)));
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        registration.enter(since, Waker::noop());
        registration
    }

    #[test]
    fn the_one_that_has_idled_longest_is_asked_first_and_each_once() {
        let connections = connections();
        let mut all =
            [(1, 10), (2, 30), (1, 20)].map(|(caller, seconds)| idle(&connections, caller, seconds));
        for expected in [1, 2, 0] {
            assert!(connections.ask(None).is_some());
            let asked: Vec<bool> = all.iter_mut().map(Registration::is_asked).collect();
            assert_eq!(asked.iter().filter(|asked| **asked).count(), 1);
            assert!(asked[expected], "{expected}: {asked:?}");
            all[expected].leave();
        }
        assert!(connections.ask(None).is_none());
    }

    #[test]
    fn of_one_caller_only_its_own_are_asked() {
        let connections = connections();
        let mut other = idle(&connections, 1, 30);
        let mut own = [idle(&connections, 2, 10), idle(&connections, 2, 20)];
        assert!(connections.ask(Some(&caller(2))).is_some());
        assert_eq!(own.each_mut().map(Registration::is_asked), [false, true]);
        assert!(connections.ask(Some(&caller(3))).is_none());
        assert!(!other.is_asked());
    }

    #[test]
    fn one_that_declines_or_ends_lets_the_asker_know_and_leaves_nothing_behind() {
        let connections = connections();
        let mut declines = idle(&connections, 1, 20);
        let ends = idle(&connections, 1, 10);
        let mut place = connections.ask(None).unwrap();
        assert_eq!(place.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        assert!(declines.is_asked());
        declines.leave();
        assert_eq!(place.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
        let mut place = connections.ask(None).unwrap();
        drop(ends);
        assert_eq!(place.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
        drop(idle(&connections, 1, 1));
        let registry = connections.registry();
        assert!(registry.idle.is_empty() && registry.asked.is_empty());
    }

    #[test]
    fn the_place_goes_to_the_one_who_asked() {
        let connections = connections();
        let place = connections.0.places.enter(Some(caller(1))).unwrap();
        let mut registration = idle(&connections, 1, 1);
        let mut asked = connections.ask(None).unwrap();
        assert!(registration.is_asked());
        let successor = registration.take_successor().unwrap();
        assert!(successor.send(place).is_ok() && asked.try_recv().is_ok());
    }
}
