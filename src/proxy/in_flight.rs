//! Caps on the requests at once: a permit is held until the last byte of the answer, not only to its
//! head.

use std::time::Duration;

use crate::config::Limits;
use crate::server::{Answer, CallerId, FairSemaphore, LimitReason, Permit};

/// The caps, over all workers and listeners.
#[derive(Clone)]
pub struct InFlight(FairSemaphore);

impl InFlight {
    /// Caps as the configuration has them.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self(FairSemaphore::new(limits.in_flight, limits.per_caller))
    }

    /// A permit for a request, or 503.
    pub(super) fn enter(&self, caller: Option<CallerId>) -> Result<Permit, Answer> {
        self.0.acquire(caller).map_err(|full| {
            let what = match full {
                LimitReason::Total => "too many requests at once (limits.in_flight)",
                LimitReason::Caller => "too many requests at once from this caller (limits.per_caller)",
                LimitReason::Share => {
                    "nearly too many requests at once (limits.in_flight), and this caller has the most of them"
                }
            };
            let detail = format!("{what}; nothing was sent, and it is safe to send it again");
            Answer::unavailable("connection_limit_reached", detail, Duration::from_secs(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::caller::Caller;
    use super::*;

    fn caller(name: Option<&str>, address: [u8; 4]) -> Option<CallerId> {
        Caller {
            name: name.map(str::to_owned),
            address: Some(address.into()),
            user: None,
            is_relayed: false,
        }
        .id()
    }

    #[test]
    fn one_caller_cannot_take_every_place_by_its_key_or_its_address() {
        let caps = InFlight(FairSemaphore::new(10, 1));
        let erp = caps.enter(caller(Some("erp"), [10, 0, 0, 1])).unwrap();
        let again = caps.enter(caller(Some("erp"), [10, 0, 0, 2]));
        assert_eq!(again.map(drop).unwrap_err().status, 503);
        let other = caps.enter(caller(Some("itsm"), [10, 0, 0, 1]));
        assert!(other.is_ok());
        let bare = caps.enter(caller(None, [10, 0, 0, 1])).unwrap();
        assert!(caps.enter(caller(None, [10, 0, 0, 1])).is_err());
        drop((erp, bare));
        assert!(caps.enter(caller(None, [10, 0, 0, 1])).is_ok());
    }
}
