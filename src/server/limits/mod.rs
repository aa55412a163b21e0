//! Limits on callers: how many connections and requests there may be, how a caller's share is bounded, and how long
//! something may make no progress.

mod connection_limit;
mod fair_semaphore;
mod idle_connections;
mod idle_timeout;

pub(super) use self::connection_limit::Admission;
pub use self::connection_limit::ConnectionLimit;
pub use self::fair_semaphore::{CallerId, FairSemaphore, LimitReason, Permit};
pub(super) use self::idle_connections::ConnectionPermit;
pub use self::idle_timeout::IdleTimeout;
