//! Rules that a configuration keeps beyond the types of its keys.

pub(super) mod cross_field;
pub(crate) mod environment;
pub(super) mod listener;
mod log;
mod secrets;
mod system;
mod upstream;

use std::path::PathBuf;

use super::limits::MAX_FIELDS;
use super::root::Config;
use super::source::Report;
use crate::problems::configuration;

/// The largest `limits.target` that the HTTP library reads.
const MAX_TARGET: usize = 65_534;
/// The largest `limits.head`: each connection may hold that much.
const MAX_HEAD: usize = 16 << 20;
/// The largest `workers`: more than a large machine has cores.
const MAX_WORKERS: usize = 512;

/// Reports every rule that the configuration breaks. `unused_proxy` is an environment variable with a proxy.
pub(super) fn validate(config: &Config, unused_proxy: Option<&str>, report: &mut Report) {
    for upstream in &config.upstreams {
        upstream::validate(upstream, unused_proxy, report);
        environment::validate(upstream, report);
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        listener::validate(at, listener, &config.upstreams, report);
    }
    listener::validate_admin(&config.admin, report);
    validate_limits(config, report);
    log::validate(&config.log, report);
    validate_paths(config, report);
    system::validate(config, report);
    secrets::validate(config, report);
    cross_field::validate(config, report);
}

/// A path with a control character was meant to have a backslash there.
fn validate_paths(config: &Config, report: &mut Report) {
    let read = config.files().into_iter().map(|file| (file.key, Some(file.path)));
    let log = ("log.file".into(), config.log.file.clone());
    let written = [log, ("spool.directory".into(), config.spool.directory.clone())];
    for (key, path) in read.chain(written) {
        let bytes = path.map(PathBuf::into_os_string).unwrap_or_default();
        if bytes.as_encoded_bytes().iter().any(u8::is_ascii_control) && !report.is_broken {
            report.fault(&key, configuration::backslash());
            // No file has the path that was written.
            report.corrected.push(key);
        }
    }
}

fn validate_limits(config: &Config, report: &mut Report) {
    let (server, limits) = (&config.server, &config.limits);
    if server.lame_duck > server.drain {
        let problem = configuration::keys_conflict(
            "is longer than drain, of which it is a part",
            "shorten it, or lengthen drain",
        );
        report.fault(&"server.lame_duck".into(), problem);
    }
    for (key, value, most) in [
        ("limits.fields", limits.fields, MAX_FIELDS),
        ("limits.target", limits.target, MAX_TARGET),
        ("limits.head", limits.head, MAX_HEAD),
        ("server.workers", server.workers, MAX_WORKERS),
    ] {
        if value > most {
            let wrong = format!("is over {most}, the largest possible value");
            let problem = configuration::value_wrong(wrong, format!("write at most {most}"));
            report.fault(&key.into(), problem);
        }
    }
}
