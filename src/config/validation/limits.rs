//! The largest values of limits.

use crate::config::limits::MAX_FIELDS;
use crate::config::root::Config;
use crate::config::source::Report;

/// The largest `limits.target` that the HTTP library reads.
const MAX_TARGET: usize = 65_534;
/// The largest `limits.head`: each connection may hold that much.
const MAX_HEAD: usize = 16 << 20;

pub(super) fn validate(config: &Config, report: &mut Report) {
    let (server, limits) = (&config.server, &config.limits);
    if server.lame_duck > server.drain {
        report.fault(
            &"server.lame_duck".into(),
            "is longer than drain, of which it is a part",
        );
    }
    for (key, value, most) in [
        ("limits.fields", limits.fields, MAX_FIELDS),
        ("limits.target", limits.target, MAX_TARGET),
        ("limits.head", limits.head, MAX_HEAD),
    ] {
        if value > most {
            report.fault(&key.into(), format!("is over {most}, the largest possible value"));
        }
    }
}
