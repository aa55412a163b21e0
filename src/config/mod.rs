//! The configuration as types, for every other module: valid or not built at all.
//!
//! A value comes from the environment, else the file, else the upstream's preset, else the defaults
//! (`defaults.toml`). `source` reads them into the types, `validation` checks the result.

mod address;
mod callers;
mod descriptor_budget;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod limits;
mod listener;
mod load;
mod log;
mod names;
mod no_proxy;
mod outbound_proxy;
mod presets;
mod proxy_url;
mod root;
mod rule;
mod secret;
mod secret_check;
mod server;
mod source;
mod spool;
pub(crate) mod text;
mod units;
mod upstream;
mod validation;

pub use self::address::{Endpoint, ListenAddress, Network};
pub use self::callers::{CallerKey, CallerKeys};
pub use self::error::ConfigError;
pub use self::files::NamedFile;
pub use self::limits::{Limits, MAX_FIELDS};
pub use self::listener::{Admin, Listener, ServerTls};
pub use self::load::find_file;
pub use self::log::{Log, LogFormat, LogRotation};
pub use self::names::{HostPattern, WebOrigin};
pub use self::outbound_proxy::OutboundProxy;
pub use self::presets::TokenRejection;
pub use self::proxy_url::ProxyRoute;
pub use self::root::Config;
pub use self::rule::{Rule, Rules};
pub use self::secret::{InputError, SecretSource};
pub use self::server::Server;
pub use self::source::{Fault, KeyPath, Origin, Setting};
pub use self::spool::Spool;
pub use self::upstream::{ClientAuth, Timeouts, Upstream};
pub(crate) use self::validation::environment;
pub(crate) use self::validation::listener::without_hosts;
