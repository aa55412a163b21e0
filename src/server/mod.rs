//! Serves HTTP to callers: listening sockets, limits, connections, and responses of bondgate's own. Knows nothing of
//! tokens.

mod active_settings;
mod connection;
mod context;
mod delivery_observer;
mod host_names;
mod limits;
mod listener;
mod peer;
mod problem;
mod stopping;
mod web_page;

pub use self::active_settings::{ActiveSettings, ListenerSettings};
#[cfg(any(test, fuzzing))]
pub use self::connection::fuzzed;
pub use self::context::ServerContext;
pub use self::delivery_observer::{DeliveryObserver, ObserveDelivery, Recording};
pub use self::host_names::HostNames;
pub use self::limits::{CallerId, ConnectionLimit, FairSemaphore, IdleTimeout, LimitReason, Permit};
pub use self::listener::{BindError, Listener, group_id, serve, start};
pub use self::peer::Peer;
pub use self::problem::{ProblemResponse, ProxyErrorType};
pub use self::stopping::{Phase, Stopping, stopping};
pub use self::web_page::{WebPage, web_page};
