//! The status document: JSON for people and scripts. It holds no secret.

use std::io;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::readiness::Readiness;
use crate::server::Phase;
use crate::spool::Totals;
use crate::token::TokenReader;

/// The part of the document that is fixed while a configuration is active.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the daemon started.
    pub started: SystemTime,
    /// When the configuration became active.
    pub configured: SystemTime,
    /// The address of each listener, and the name of the upstream that it serves.
    pub listeners: Vec<(String, String)>,
    /// The name and URL of each upstream.
    pub upstreams: Vec<(String, String)>,
}

/// The document. `troubles` keep messages in the spool from being delivered.
pub(super) fn document(
    facts: &Facts,
    readiness: &Readiness,
    totals: io::Result<Totals>,
    troubles: &[String],
) -> String {
    let url = |name: &str| {
        let mut upstreams = facts.upstreams.iter();
        upstreams
            .find(|(known, _)| known == name)
            .map_or("", |(_, url)| url)
    };
    let listeners = facts.listeners.iter();
    let listeners = listeners.map(|(address, upstream)| json!({ "address": address, "upstream": upstream }));
    let upstreams = readiness.upstreams.load();
    let upstreams = upstreams
        .iter()
        .map(|(name, tokens)| json!({ "name": name, "url": url(name), "token": token(tokens) }));
    let spool = match totals {
        Ok(totals) => {
            let mut spool = json!(totals);
            spool["troubles"] = json!(troubles);
            spool
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    let is_serving = readiness.stop.phase() == Phase::Serving;
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(facts.started),
        "configured": time(facts.configured),
        "phase": if is_serving { "serving" } else { "stopping" },
        "ready": readiness.check(false).0,
        "listeners": listeners.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "spool": spool,
    });
    format!("{document:#}")
}

fn token(tokens: &TokenReader) -> serde_json::Value {
    let status = tokens.status();
    let last_error = status
        .last_error
        .map(|(error, at)| json!({ "kind": error.kind.name(), "message": error.message, "at": time(at) }));
    json!({
        "state": status.state.name(),
        "since": time(status.since),
        "expires": status.expires.map(time),
        "next_attempt_s": status.next_attempt_in.map(|wait| wait.as_secs()),
        "clock_skew_s": status.skew_s,
        "last_error": last_error,
    })
}

/// RFC 3339, rounded to whole seconds.
fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at + Duration::from_millis(500)).to_string()
}
