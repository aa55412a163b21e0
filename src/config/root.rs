//! The root table of the configuration.

use serde::Deserialize;

use super::limits::Limits;
use super::listener::{Admin, Listener};
use super::log::Log;
use super::server::Server;
use super::source::{Fault, Setting};
use super::spool::Spool;
use super::upstream::{self, Upstream};

/// The configuration of one daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The APIs, each with its own credentials and token.
    #[serde(rename = "upstream", deserialize_with = "upstream::named")]
    pub upstreams: Vec<Upstream>,
    /// Where callers connect.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// Where status, health and metrics are served.
    pub admin: Admin,
    /// Workers and stop.
    pub server: Server,
    /// Limits on callers.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Where pulled messages are kept.
    pub spool: Spool,
    /// Every value in force with its origin, secrets redacted.
    #[serde(skip)]
    pub settings: Vec<Setting>,
    /// What is valid, and probably not meant.
    #[serde(skip)]
    pub warnings: Vec<Fault>,
}

impl Config {
    /// The upstreams that a listener serves.
    pub(crate) fn served_upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let is_served = |name: &str| self.listeners.iter().any(|listener| listener.upstream == name);
        self.upstreams
            .iter()
            .filter(move |upstream| is_served(&upstream.name))
    }
}
