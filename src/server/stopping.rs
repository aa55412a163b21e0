//! How far a stop of the daemon has advanced.

use tokio::sync::watch;

/// The phase of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No stop was requested.
    Serving,
    /// Requests are served, and every response closes its connection.
    LameDuck,
    /// No new connections are accepted, idle ones close, and requests are finished. A connection that is new, or that
    /// had its response within the last second, is not idle yet.
    Draining,
    /// Requests without a response get one of bondgate's own.
    Deadline,
}

/// Reports the phase; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<Phase>);

/// The sender of the phase, and its receiver.
#[must_use]
pub fn stopping() -> (watch::Sender<Phase>, Stopping) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (sender, Stopping(receiver))
}

impl Stopping {
    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves when a phase is reached or passed. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the sender, and with it the daemon, is gone.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
