//! What an operator may request of a running daemon.

/// A request of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the second time at once.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Where signals come from.
pub trait Signals {
    /// Resolves at the next signal. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Signal> + Send;
}
