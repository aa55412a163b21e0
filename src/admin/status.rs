//! The state of things as JSON, for people and scripts. It names places and kinds, never a secret.

use std::io;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::readiness::Readiness;
use crate::server::Phase;
use crate::spool::Holding;
use crate::token::TokenReader;

/// What does not change while a configuration is in force.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the daemon started.
    pub started: SystemTime,
    /// When the configuration was put in force.
    pub configured: SystemTime,
    /// Where callers come in, and which upstream each listener serves.
    pub listeners: Vec<(String, String)>,
    /// Where each upstream is, by name.
    pub upstreams: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    started: String,
    configured: String,
    phase: &'static str,
    ready: bool,
    listeners: Vec<Listener<'a>>,
    upstreams: Vec<Upstream<'a>>,
    spool: Spool,
}

/// What is held of pulled messages, or why that cannot be told.
#[derive(Serialize)]
#[serde(untagged)]
enum Spool {
    Holding {
        #[serde(flatten)]
        holding: Holding,
        /// What keeps messages from being delivered.
        troubles: Vec<String>,
    },
    Unknown {
        error: String,
    },
}

#[derive(Serialize)]
struct Listener<'a> {
    address: &'a str,
    upstream: &'a str,
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    url: &'a str,
    token: Token,
}

#[derive(Serialize)]
struct Token {
    state: &'static str,
    since: String,
    expires: Option<String>,
    next_attempt_s: Option<u64>,
    clock_skew_s: Option<i64>,
    last_error: Option<LastError>,
}

#[derive(Serialize)]
struct LastError {
    kind: &'static str,
    message: String,
    at: String,
}

/// The status document.
pub(super) fn document(
    facts: &Facts,
    readiness: &Readiness,
    holding: io::Result<Holding>,
    troubles: Vec<String>,
) -> String {
    let url = |name: &str| {
        facts
            .upstreams
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, url)| url)
    };
    let upstreams = readiness.upstreams();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        started: time(facts.started),
        configured: time(facts.configured),
        phase: match readiness.phase() {
            Phase::Serving => "serving",
            Phase::LameDuck | Phase::Draining | Phase::Deadline => "stopping",
        },
        ready: readiness.judge(false).0,
        listeners: facts
            .listeners
            .iter()
            .map(|(address, upstream)| Listener { address, upstream })
            .collect(),
        upstreams: upstreams
            .iter()
            .map(|(name, tokens)| Upstream {
                name,
                url: url(name),
                token: token(tokens),
            })
            .collect(),
        spool: match holding {
            Ok(holding) => Spool::Holding { holding, troubles },
            Err(error) => Spool::Unknown {
                error: error.to_string(),
            },
        },
    };
    serde_json::to_string_pretty(&status).unwrap_or_default()
}

fn token(tokens: &TokenReader) -> Token {
    let status = tokens.status();
    Token {
        state: status.state.name(),
        since: time(status.since),
        expires: status.expires.map(time),
        next_attempt_s: status.next_attempt.map(|at| tokens.until(at).as_secs()),
        clock_skew_s: status.skew_s,
        last_error: status.last_error.map(|(error, at)| LastError {
            kind: error.kind.name(),
            message: error.message,
            at: time(at),
        }),
    }
}

/// RFC 3339, whole seconds.
fn time(at: SystemTime) -> String {
    // Rounded, since the formatter cuts.
    humantime::format_rfc3339_seconds(at + Duration::from_millis(500)).to_string()
}
