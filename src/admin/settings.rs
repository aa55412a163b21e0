//! The admin listener's settings.

use super::status::Facts;
use crate::config;
use crate::server::HostNames;

/// One configuration of the admin listener. A reload builds a router with new ones.
pub struct Settings {
    pub(super) allow: Option<Vec<config::Network>>,
    pub(super) hosts: HostNames,
    pub(super) facts: Facts,
}

impl Settings {
    /// The settings of this configuration, and its facts for the status document.
    #[must_use]
    pub fn new(admin: &config::Admin, facts: Facts) -> Self {
        Self {
            allow: admin.allow.clone(),
            hosts: HostNames::new(admin.hosts.clone(), None),
            facts,
        }
    }
}
