//! What a reload replaces on the admin listener.

use super::status::Facts;
use crate::config;
use crate::server::HostNames;

/// What one configuration says about the admin listener; may be replaced between two requests.
pub struct Settings {
    pub(super) allow: Option<Vec<config::Network>>,
    pub(super) hosts: HostNames,
    pub(super) facts: Facts,
}

impl Settings {
    /// The settings of this configuration, and what the status document says about it.
    #[must_use]
    pub fn new(admin: &config::Admin, facts: Facts) -> Self {
        Self {
            allow: admin.allow.clone(),
            hosts: HostNames::new(admin.hosts.clone(), None),
            facts,
        }
    }
}
