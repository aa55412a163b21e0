//! Too many connections: at the cap, connections that idle are closed for newcomers, the longest idle first. Where none
//! idles, those beyond the cap are told so in HTTP while that can be done, and closed else. None of them waits in
//! silence, and none takes a descriptor that calls upstream need.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Answer;
use super::idle::IdleConnections;
use super::peer::Peer;
use super::places::{CallerId, Full, Place, Places};

/// The connections that there may be, over all workers. Clones are the same.
#[derive(Clone)]
pub struct Crowd {
    places: Places,
    /// Those of the connections that idle.
    pub(super) idle: IdleConnections,
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
    evicting: Rarely,
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
        let places = Places::new(connections, 0);
        Self {
            idle: IdleConnections::new(places.clone()),
            places,
            refusals: Arc::new(Semaphore::new(refusals.min(Semaphore::MAX_PERMITS))),
            told: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> Place {
        self.places.enter(None).unwrap_or_else(|full| panic!("{full:?}"))
    }

    pub(super) async fn admit(&self, caller: Option<CallerId>) -> Admission {
        let full = match self.places.enter(caller.clone()) {
            Ok(place) => return Admission::Place(place),
            Err(full) => full,
        };
        if let Some(place) = self.make_room(full, caller).await {
            return Admission::Place(place);
        }
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

/// How long a newcomer waits for a connection that was asked to close: its worker may be busy for a moment.
const CLOSING: Duration = Duration::from_secs(1);

impl Crowd {
    /// The place of a connection that idles and is closed for it, the one that has idled longest: a caller that has its
    /// share gets one of its own connections, any other caller one of all.
    async fn make_room(&self, mut full: Full, caller: Option<CallerId>) -> Option<Place> {
        loop {
            let own = caller
                .as_ref()
                .filter(|caller| full == Full::Share || self.places.has_full_share(caller));
            match tokio::time::timeout(CLOSING, self.idle.ask(own)?).await {
                Ok(Ok(mut place)) => {
                    self.told.evicting(self.places.all());
                    place.pass_to(caller);
                    return Some(place);
                }
                // It has a request, and idles no more, or it has ended, and its place may be free.
                Ok(Err(_)) => match self.places.enter(caller.clone()) {
                    Ok(place) => return Some(place),
                    Err(still) => full = still,
                },
                Err(_) => return None,
            }
        }
    }
}

impl Told {
    fn evicting(&self, all: usize) {
        if self.evicting.is_due() {
            tracing::warn!(
                limit = all,
                "too many connections: idle connections are closed to make room; limits.connections can be raised"
            );
        }
    }

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
    use tokio::task::JoinHandle;

    use super::super::idle::Registration;
    use super::*;

    #[tokio::test]
    async fn beyond_the_cap_some_are_told_and_the_rest_closed() {
        let crowd = Crowd::new(2, 1);
        let caller = || Some(CallerId::at([10, 0, 0, 1].into()));
        let places = [crowd.admit(caller()).await, crowd.admit(caller()).await];
        assert!(
            places
                .iter()
                .all(|admission| matches!(admission, Admission::Place(_)))
        );
        let Admission::Refusal(answer, permit) = crowd.admit(caller()).await else {
            panic!("there is nobody else to tell");
        };
        assert_eq!(answer.status, 503);
        assert!(matches!(crowd.admit(caller()).await, Admission::Close));
        drop(permit);
        assert!(matches!(crowd.admit(caller()).await, Admission::Refusal(..)));
        drop(places);
        assert!(matches!(crowd.admit(caller()).await, Admission::Place(_)));
    }

    /// A connection that idles and closes when it is asked to.
    fn idling(crowd: &Crowd, caller: Option<CallerId>, seconds: u64, place: Place) -> JoinHandle<()> {
        let mut registration = Registration::new(crowd.idle.clone(), caller);
        let since = tokio::time::Instant::now() - Duration::from_secs(seconds);
        let (mut is_registered, mut place) = (false, Some(place));
        tokio::spawn(std::future::poll_fn(move |cx| {
            if !std::mem::replace(&mut is_registered, true) {
                registration.enter(since, cx.waker());
            }
            if !registration.is_asked() {
                return std::task::Poll::Pending;
            }
            let successor = registration.take_successor().unwrap();
            let _ = successor.send(place.take().unwrap());
            std::task::Poll::Ready(())
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_gets_the_place_of_the_longest_idle_and_of_its_own_where_it_has_its_share() {
        let crowd = Crowd::new(4, 1);
        let caller = |number: u8| Some(CallerId::at([10, 0, 0, number].into()));
        let mut idle = Vec::new();
        // Three quarters of a heavy caller, and one of a light caller that has idled longest.
        for (number, seconds) in [(2, 30), (2, 20), (2, 10), (1, 40)] {
            let Admission::Place(place) = crowd.admit(caller(number)).await else {
                panic!("there is a place");
            };
            idle.push(idling(&crowd, caller(number), seconds, place));
        }
        tokio::task::yield_now().await;
        let mut held = Vec::new();
        for (number, closed) in [(2, 0), (3, 3), (3, 1), (4, 2)] {
            let Admission::Place(place) = crowd.admit(caller(number)).await else {
                panic!("somebody idles");
            };
            held.push(place);
            let ended = idle.iter().position(JoinHandle::is_finished);
            assert_eq!(ended, Some(closed), "{number}");
            idle[closed] = tokio::spawn(std::future::pending());
        }
        assert!(matches!(crowd.admit(caller(5)).await, Admission::Refusal(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_is_told_where_the_one_that_was_asked_does_not_close_in_time() {
        let crowd = Crowd::new(1, 1);
        let Admission::Place(_place) = crowd.admit(None).await else {
            panic!("there is a place");
        };
        let mut stuck = Registration::new(crowd.idle.clone(), None);
        stuck.enter(tokio::time::Instant::now(), std::task::Waker::noop());
        assert!(matches!(crowd.admit(None).await, Admission::Refusal(..)));
        assert!(stuck.is_asked(), "and finds that nobody waits any more");
        assert!(stuck.take_successor().unwrap().is_closed());
    }

    #[test]
    fn what_goes_on_is_logged_once() {
        let rarely = Rarely::default();
        assert!(rarely.is_due() && !rarely.is_due() && !rarely.is_due());
    }
}
