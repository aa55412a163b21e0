//! Caps on the requests at once: a place is held until the last byte of the answer, not only to its
//! head.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::server::Answer;

/// The caps, over all workers and listeners.
#[derive(Clone)]
pub struct InFlight {
    places: Arc<Semaphore>,
    per_caller: usize,
    callers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A request's place, given back when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    caller: Option<(IpAddr, InFlight)>,
}

impl InFlight {
    /// Caps as the configuration has them.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.in_flight.min(Semaphore::MAX_PERMITS))),
            per_caller: limits.per_caller,
            callers: Arc::default(),
        }
    }

    /// A place for a request, or 503.
    pub(super) fn enter(&self, caller: Option<IpAddr>) -> Result<Place, Answer> {
        let full = |what: &str| {
            let detail = format!("{what}; nothing was sent, and it is safe to send it again");
            Answer::unavailable("connection_limit_reached", detail, Duration::from_secs(1))
        };
        let permit = self.places.clone().try_acquire_owned();
        let permit = permit.map_err(|_| full("too many requests at once (limits.in_flight)"))?;
        let Some(address) = caller.filter(|_| self.per_caller > 0) else {
            return Ok(Place {
                _permit: permit,
                caller: None,
            });
        };
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.entry(address).or_insert(0);
        if *count >= self.per_caller {
            return Err(full(
                "too many requests at once from this caller (limits.per_caller)",
            ));
        }
        *count += 1;
        Ok(Place {
            _permit: permit,
            caller: Some((address, self.clone())),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, caps)) = &self.caller else {
            return;
        };
        let mut callers = caps.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                callers.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(in_flight: usize, per_caller: usize) -> InFlight {
        InFlight {
            places: Arc::new(Semaphore::new(in_flight)),
            per_caller,
            callers: Arc::default(),
        }
    }

    #[test]
    fn a_place_is_given_back_when_the_answer_has_ended() {
        let caps = caps(1, 0);
        let place = caps.enter(None).unwrap();
        assert_eq!(caps.enter(None).map(drop).unwrap_err().status, 503);
        drop(place);
        assert!(caps.enter(None).is_ok());
    }

    #[test]
    fn one_caller_cannot_take_every_place() {
        let caps = caps(10, 1);
        let (one, other) = (
            Some("10.0.0.1".parse().unwrap()),
            Some("10.0.0.2".parse().unwrap()),
        );
        let place = caps.enter(one).unwrap();
        assert!(caps.enter(one).is_err());
        assert!(caps.enter(other).is_ok());
        drop(place);
        assert!(caps.enter(one).is_ok() && caps.callers.lock().unwrap().is_empty());
    }
}
