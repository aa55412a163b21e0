//! Rules that a configuration keeps beyond the types of its keys.

pub(super) mod cross_field;
mod limits;
mod listener;
mod secrets;
mod upstream;

use super::root::Config;
use super::source::Report;

/// Reports every rule that the configuration breaks. `unused_proxy` is an environment variable with a proxy.
pub(super) fn validate(config: &Config, unused_proxy: Option<&str>, report: &mut Report) {
    for upstream in &config.upstreams {
        upstream::validate(upstream, unused_proxy, report);
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        listener::validate(at, listener, &config.upstreams, report);
    }
    listener::validate_admin(&config.admin, report);
    limits::validate(config, report);
    secrets::validate(config, report);
    cross_field::validate(config, report);
}
