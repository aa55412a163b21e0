//! Too many connections: those beyond the cap are told so in HTTP while that can be done, and closed else. None
//! of them waits in silence, and none takes a descriptor that calls upstream need.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Answer;
use super::peer::Peer;
use super::places::{CallerId, Full, Place, Places};

/// The connections that there may be, over all workers. Clones are the same.
#[derive(Clone)]
pub struct Crowd {
    places: Places,
    /// Beside the places, for those who are told that there is none.
    refusals: Arc<Semaphore>,
    /// What of it is logged.
    pub(super) told: Arc<Told>,
}

/// What becomes of a connection that was accepted.
pub(super) enum Admission {
    /// It is served.
    Place(Place),
    /// It is answered once and closed.
    Refusal(Box<Answer>, OwnedSemaphorePermit),
    /// It is closed: too many are being told already.
    Close,
}

/// Log lines that would come for every connection of an attack.
#[derive(Default)]
pub(super) struct Told {
    crowded: Rarely,
    exhausted: Rarely,
}

#[derive(Default)]
struct Rarely(Mutex<Option<Instant>>);

/// What belongs together to a person who reads the log.
const EPISODE: Duration = Duration::from_secs(10);

impl Crowd {
    /// So many connections, and so many beside them that are told that there is no place.
    #[must_use]
    pub fn new(connections: usize, refusals: usize) -> Self {
        Self {
            places: Places::new(connections, 0),
            refusals: Arc::new(Semaphore::new(refusals.min(Semaphore::MAX_PERMITS))),
            told: Arc::default(),
        }
    }

    pub(super) fn admit(&self, caller: Option<CallerId>) -> Admission {
        let full = match self.places.enter(caller) {
            Ok(place) => return Admission::Place(place),
            Err(full) => full,
        };
        let what = match full {
            Full::All | Full::Caller => "too many connections at once (limits.connections)",
            Full::Share => {
                "nearly too many connections at once (limits.connections), and this caller has the most"
            }
        };
        self.told.crowded(self.places.all());
        match self.refusals.clone().try_acquire_owned() {
            Ok(permit) => {
                let detail = format!("{what}; nothing was sent, and it is safe to send it again");
                let answer = Answer::unavailable("connection_limit_reached", detail, Duration::from_secs(1));
                Admission::Refusal(Box::new(answer), permit)
            }
            Err(_) => Admission::Close,
        }
    }
}

impl Told {
    fn crowded(&self, all: usize) {
        if self.crowded.is_due() {
            tracing::warn!(
                limit = all,
                "too many connections: callers get 503; limits.connections can be raised"
            );
        }
    }

    /// Accepting failed for want of something of the system's.
    pub(super) fn exhausted(&self, error: &std::io::Error) {
        if self.exhausted.is_due() {
            tracing::warn!(
                %error,
                "cannot accept connections for a while; those that there are go on; raise LimitNOFILE or ulimit -n"
            );
        }
    }
}

impl Rarely {
    /// Whether some time has passed without it.
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        last.replace(now)
            .is_none_or(|last| now.duration_since(last) > EPISODE)
    }
}

impl Peer {
    /// Whom its connections are counted for.
    pub(super) fn id(&self) -> Option<CallerId> {
        let address = self.address.map(|address| CallerId::at(address.ip()));
        address.or(self.user.map(CallerId::User))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_cap_some_are_told_and_the_rest_closed() {
        let crowd = Crowd::new(2, 1);
        let caller = || Some(CallerId::at([10, 0, 0, 1].into()));
        let places = [crowd.admit(caller()), crowd.admit(caller())];
        assert!(
            places
                .iter()
                .all(|admission| matches!(admission, Admission::Place(_)))
        );
        let Admission::Refusal(answer, permit) = crowd.admit(caller()) else {
            panic!("there is nobody else to tell");
        };
        assert_eq!(answer.status, 503);
        assert!(matches!(crowd.admit(caller()), Admission::Close));
        drop(permit);
        assert!(matches!(crowd.admit(caller()), Admission::Refusal(..)));
        drop(places);
        assert!(matches!(crowd.admit(caller()), Admission::Place(_)));
    }

    #[test]
    fn what_goes_on_is_logged_once() {
        let rarely = Rarely::default();
        assert!(rarely.is_due() && !rarely.is_due() && !rarely.is_due());
    }
}
