//! Connections that idle between two requests, over all workers. At the limit, the longest idle one is closed and its
//! permit goes to the new connection.
//!
//! No connection is closed from outside: it is asked, and its own task closes it, or declines because a request has
//! arrived. A connection registers when it is parked, or as soon as it idles while permits are scarce. So a connection
//! in steady use never registers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fair_semaphore::{CallerId, Permit};

/// The idle connections of all workers, by the start of their idle time. Clones share them.
#[derive(Clone, Default)]
pub(super) struct IdleConnections(Arc<Mutex<BTreeMap<Instant, Idle>>>);

struct Idle {
    caller: Option<CallerId>,
    waker: Waker,
    /// Gets the permit of a connection that was asked to close; dropped if the connection declines.
    successor: Option<oneshot::Sender<Permit>>,
}

impl IdleConnections {
    /// Asks the longest idle connection to close, of one caller or of all. Returns its permit, or an error if it declines.
    /// `None` if no connection idles.
    pub(super) fn ask(&self, caller: Option<&CallerId>) -> Option<oneshot::Receiver<Permit>> {
        let mut connections = self.0.lock();
        let may_be_asked = |idle: &&mut Idle| {
            idle.successor.is_none() && (caller.is_none() || idle.caller.as_ref() == caller)
        };
        let idle = connections.values_mut().find(may_be_asked)?;
        let (successor, permit) = oneshot::channel();
        idle.successor = Some(successor);
        let waker = idle.waker.clone();
        drop(connections);
        waker.wake();
        Some(permit)
    }
}

/// The permit of one connection, which may be registered as idle. When dropped, the permit goes to the connection that
/// asked for it, if there is one.
pub(in super::super) struct ConnectionPermit {
    permit: Option<Permit>,
    idle: IdleConnections,
    /// Its key there.
    idle_since: Option<Instant>,
}

impl ConnectionPermit {
    pub(super) fn new(permit: Permit, idle: IdleConnections) -> Self {
        Self {
            permit: Some(permit),
            idle,
            idle_since: None,
        }
    }

    /// Whether few permits are left, so that a connection should register before it is parked.
    pub(in super::super) fn is_scarce(&self) -> bool {
        self.permit
            .as_ref()
            .is_some_and(|permit| permit.semaphore.is_scarce())
    }

    /// Whether the connection is registered as idle.
    pub(in super::super) fn is_registered(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Registers the connection as idle; `waker` wakes it when it is asked to close.
    pub(in super::super) fn register(&mut self, mut since: Instant, waker: &Waker) {
        let mut connections = self.idle.0.lock();
        while connections.contains_key(&since) {
            since += Duration::from_nanos(1);
        }
        let idle = Idle {
            caller: self.permit.as_ref().and_then(|permit| permit.caller.clone()),
            waker: waker.clone(),
            successor: None,
        };
        connections.insert(since, idle);
        self.idle_since = Some(since);
    }

    /// Whether the connection was asked to close.
    pub(in super::super) fn is_asked_to_close(&self) -> bool {
        let connections = self.idle.0.lock();
        self.idle_since
            .is_some_and(|since| connections[&since].successor.is_some())
    }

    /// Ends the idle time. If the connection was asked to close, it declines.
    pub(in super::super) fn deregister(&mut self) {
        self.remove();
    }

    fn remove(&mut self) -> Option<Idle> {
        let since = self.idle_since.take()?;
        self.idle.0.lock().remove(&since)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(successor) = self.remove().and_then(|idle| idle.successor)
            && let Some(permit) = self.permit.take()
        {
            // If the new connection no longer waits, the permit is released here.
            let _ = successor.send(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::super::fair_semaphore::FairSemaphore;
    use super::*;

    fn caller(number: u8) -> CallerId {
        CallerId::at([10, 0, 0, number].into())
    }

    /// A connection of a caller that has idled for so many seconds.
    fn idle(connections: &IdleConnections, number: u8, seconds: u64) -> ConnectionPermit {
        let permit = FairSemaphore::new(1, 0).acquire(Some(caller(number))).unwrap();
        let mut connection = ConnectionPermit::new(permit, connections.clone());
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        connection.register(since, Waker::noop());
        connection
    }

    #[test]
    fn the_longest_idle_connection_is_asked_first_and_each_connection_once() {
        let connections = IdleConnections::default();
        let all = [(1, 10), (2, 30), (1, 20)].map(|(caller, seconds)| idle(&connections, caller, seconds));
        let mut asked = Vec::new();
        for expected in [1, 2, 0] {
            asked.push(connections.ask(None).unwrap());
            let states: Vec<bool> = all.iter().map(ConnectionPermit::is_asked_to_close).collect();
            assert_eq!(states.iter().filter(|state| **state).count(), asked.len());
            assert!(states[expected], "{expected}: {states:?}");
        }
        assert!(connections.ask(None).is_none());
    }

    #[test]
    fn for_one_caller_only_its_own_connections_are_asked() {
        let connections = IdleConnections::default();
        let other = idle(&connections, 1, 30);
        let own = [idle(&connections, 2, 10), idle(&connections, 2, 20)];
        let _permit = connections.ask(Some(&caller(2))).unwrap();
        assert_eq!(
            own.each_ref().map(ConnectionPermit::is_asked_to_close),
            [false, true]
        );
        assert!(connections.ask(Some(&caller(3))).is_none());
        assert!(!other.is_asked_to_close());
    }

    #[test]
    fn a_connection_that_declines_reports_it_and_leaves_nothing_behind() {
        let connections = IdleConnections::default();
        let mut declines = idle(&connections, 1, 20);
        let mut permit = connections.ask(None).unwrap();
        assert_eq!(permit.try_recv().err(), Some(TryRecvError::Empty));
        assert!(declines.is_asked_to_close());
        declines.deregister();
        assert_eq!(permit.try_recv().err(), Some(TryRecvError::Closed));
        drop(idle(&connections, 1, 1));
        assert!(connections.0.lock().is_empty());
    }

    #[test]
    fn the_permit_goes_to_the_connection_that_asked() {
        let connections = IdleConnections::default();
        let closes = idle(&connections, 1, 1);
        let mut permit = connections.ask(None).unwrap();
        drop(closes);
        assert_eq!(permit.try_recv().unwrap().caller, Some(caller(1)));
    }
}
