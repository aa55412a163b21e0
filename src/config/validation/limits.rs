//! Bounds of numbers, durations and sizes.

use crate::config::limits::MAX_FIELDS;
use crate::config::root::Config;
use crate::config::source::report::Report;

/// The largest `limits.target` that the HTTP library reads.
const MAX_TARGET: usize = 65_534;
/// The largest `limits.head`: each connection may hold that much.
const MAX_HEAD: usize = 16 << 20;

pub(super) fn validate(config: &Config, report: &mut Report) {
    let (server, limits, spool) = (&config.server, &config.limits, &config.spool);
    if server.lame_duck > server.drain {
        report.fault(
            &"server.lame_duck".into(),
            "is longer than drain, of which it is a part",
        );
    }
    for (key, is_zero) in [
        ("limits.head", limits.head == 0),
        ("limits.fields", limits.fields == 0),
        ("limits.target", limits.target == 0),
        ("limits.connections", limits.connections == 0),
        ("limits.in_flight", limits.in_flight == 0),
        ("limits.stall", limits.stall.is_zero()),
        ("spool.messages", spool.messages == 0),
        ("spool.bytes", spool.bytes == 0),
        ("spool.memory", spool.memory == 0),
    ] {
        if is_zero {
            report.fault(
                &key.into(),
                "is 0, which allows nothing; leave it out for the default",
            );
        }
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
    if spool.settle.is_zero() {
        let what = "is 0, and a caller that disconnects would not be noticed; leave it out for the default";
        report.fault(&"spool.settle".into(), what);
    }
    if spool.pauses.is_empty() {
        report.fault(&"spool.pauses".into(), "is empty; leave it out for the default");
    }
}
