//! Takes callers' connections and turns them into requests for an application: sockets, workers, the
//! gate, own answers. Knows HTTP and nothing of tokens.

mod active_router;
mod answer;
mod browser;
mod connection;
mod crowd;
mod delivery;
mod gate;
mod idle;
mod inherited;
mod listener;
mod peer;
mod places;
mod socket;
mod stall;
mod unread;
mod worker;

use tokio::sync::watch;

pub use self::active_router::ActiveRouter;
pub use self::answer::{Answer, OwnResponse, PROXY_STATUS};
pub use self::browser::{HostNames, WebPage, web_page};
pub use self::crowd::Crowd;
pub use self::delivery::{DeliveryObserver, DeliveryOutcome, ObserveDelivery, Recording};
#[cfg(any(test, fuzzing))]
pub use self::gate::fuzzed;
pub use self::listener::{BindError, Listener, Listening, SharedTls, UnixAccess};
pub use self::peer::Peer;
pub use self::places::{CallerId, Full, Place, Places};
pub use self::stall::Stall;
pub use self::worker::{Shared, serve, start};

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No stop.
    Serving,
    /// Callers are told to go elsewhere, and still served.
    LameDuck,
    /// No new connections; idle ones close, others finish. One that was answered within the last second, or
    /// has not been heard yet, does not idle.
    Draining,
    /// Whatever has no answer yet gets one now.
    Deadline,
}

/// Tells how far a stop has come; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<Phase>);

/// The other end of [`Stopping`].
#[must_use]
pub fn stopping() -> (watch::Sender<Phase>, Stopping) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (sender, Stopping(receiver))
}

impl Stopping {
    /// The phase as it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves when a phase is reached or passed; at once where it is. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone, and with it the daemon.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
