//! The status document: JSON for people and scripts. It holds no secret.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::readiness::Readiness;
use crate::problems::{Problem, Severity, without_error_number};
use crate::server::Phase;
use crate::spool::Totals;
use crate::telemetry::activity::RefusalCount;
use crate::telemetry::{Lasting, LastingProblems, program};
use crate::tls::FileCertificate;
use crate::token::TokenReader;
use crate::upstream::{ApiState, ApiStatus};

/// The part of the document that is fixed while a configuration is active.
#[derive(Clone)]
pub struct Facts {
    /// When the daemon started.
    pub started: SystemTime,
    /// When the configuration became active.
    pub configured: SystemTime,
    /// The absolute path of the configuration file, or "environment"; `None` for a demo.
    pub configuration: Option<PathBuf>,
    /// Why the last reload was rejected.
    pub rejected_reload: Arc<LastingProblems>,
    /// Each listener.
    pub listeners: Vec<ListenerFacts>,
    /// The certificates in the files that it names.
    pub certificates: Vec<CertificateFacts>,
    /// Each upstream.
    pub upstreams: Vec<UpstreamFacts>,
}

/// What is fixed of a listener.
#[derive(Clone)]
pub struct ListenerFacts {
    /// Its address, with the bound port.
    pub address: String,
    /// Its address as the configuration has it.
    pub configured: String,
    /// Each address that is bound, or the path of a unix socket.
    pub bound: Vec<String>,
    /// The name of the upstream that it serves.
    pub upstream: String,
    /// What it requires of callers, by name.
    pub access: Vec<String>,
    /// Only this machine can reach it.
    pub is_local: bool,
    /// It speaks TLS.
    pub is_tls: bool,
}

/// A certificate in a file.
#[derive(Clone)]
pub struct CertificateFacts {
    /// The listener or upstream that uses it.
    pub of: String,
    /// The file.
    pub file: PathBuf,
    /// It is an authority that others are checked with.
    pub is_authority: bool,
    /// Its subject and dates.
    pub certificate: FileCertificate,
}

/// What is fixed of an upstream, and the state of its API.
#[derive(Clone)]
pub struct UpstreamFacts {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The state of its API.
    pub api: ApiStatus,
}

/// The document. Only a caller on this machine may see process id and file.
pub(super) fn document(
    is_local: bool,
    facts: &Facts,
    readiness: &Readiness,
    (totals, spool_problems): (io::Result<Totals>, Vec<Lasting>),
    refusals: &[RefusalCount],
) -> String {
    let listeners = facts.listeners.iter();
    let listeners = listeners.map(|listener| {
        json!({
            "address": listener.address,
            "configured": listener.configured,
            "bound": listener.bound,
            "upstream": listener.upstream,
            "access": listener.access,
        })
    });
    let upstreams = readiness.upstreams.load();
    let upstreams: Vec<_> = upstreams
        .iter()
        .map(|(name, tokens)| {
            let facts = facts.upstreams.iter().find(|facts| facts.name == *name);
            json!({
                "name": name,
                "url": facts.map(|facts| facts.url.as_str()),
                "token": token(tokens, is_local),
                "api": facts.map(|facts| api(&facts.api, is_local)),
            })
        })
        .collect();
    let mut spool = match &totals {
        Ok(totals) => json!(totals),
        Err(error) => json!({ "error": without_error_number(error.to_string()) }),
    };
    spool["text"] = spool_text(totals.ok()).into();
    let rejected = facts.rejected_reload.get().into_iter();
    let rejected = rejected.map(|fault| ("configuration", fault));
    let lasting = rejected.chain(spool_problems.into_iter().map(|lasting| ("spool", lasting)));
    let lasting = lasting.map(|(part, lasting)| lasting_problem(part, &lasting, is_local));
    let problems = problems_of(&upstreams).into_iter().chain(lasting);
    let is_serving = readiness.stop.phase() == Phase::Serving;
    let stop_times = readiness.stop_times().filter(|_| !is_serving);
    let stop_times = stop_times.map(|stop| json!({ "since": time(stop.began), "until": time(stop.ends) }));
    let mut document = json!({
        "version": program::VERSION,
        "commit": program::COMMIT,
        "started": time(facts.started),
        "configured": time(facts.configured),
        "phase": if is_serving { "serving" } else { "stopping" },
        "stop": stop_times,
        "ready": readiness.check(false, is_local).0,
        "listeners": listeners.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "upstreams": upstreams,
        "spool": spool,
        "refusals": refusals.iter().map(refusal).collect::<Vec<_>>(),
    });
    if is_local {
        document["pid"] = std::process::id().into();
        document["configuration"] = json!(facts.configuration);
    }
    format!("{document:#}")
}

fn refusal(refusal: &RefusalCount) -> serde_json::Value {
    let callers = refusal.callers.iter().map(|caller| &**caller);
    json!({
        "listener": refusal.listener,
        "problem": refusal.problem,
        "status": (refusal.status > 0).then_some(refusal.status),
        "number": refusal.number,
        "first": time(refusal.first),
        "last": time(refusal.last),
        "callers": callers.collect::<Vec<_>>(),
    })
}

fn token(tokens: &TokenReader, is_local: bool) -> serde_json::Value {
    let status = tokens.status();
    let last_error = status.last_error.as_ref().map(
        |(error, at)| json!({ "kind": error.kind.name(), "message": error.problem.for_caller(is_local).to_string(), "at": time(*at) }),
    );
    let warning = status.warning.as_ref().map(|(cause, since)| {
        let mut warning = problem(cause, *since, is_local);
        // The token is still valid.
        warning["severity"] = json!(Severity::Warning);
        warning
    });
    let failed = status.problem().map(|cause| {
        let mut failed = problem(cause, status.since, is_local);
        failed["severity"] = json!(token_severity(cause, tokens.has_accepted_token()));
        failed
    });
    json!({
        "state": status.state.name(),
        "since": time(status.since),
        "obtained": status.obtained.map(time),
        "expires": status.expires.map(time),
        "next_attempt_s": status.next_attempt_in.map(|wait| wait.as_secs()),
        "clock_skew_s": status.skew_s,
        "clock": status.skew_s.map(clock_text),
        "last_error": last_error,
        "problem": failed.or(warning),
    })
}

fn api(api: &ApiStatus, is_local: bool) -> serde_json::Value {
    let state = api.get();
    let (name, text) = (state.name(), state.text());
    let ApiState {
        last_response,
        problem: cause,
        ..
    } = state;
    json!({
        "state": name,
        "text": text,
        "last_response": last_response.map(|(at, _)| time(at)),
        "last_status": last_response.map(|(_, status)| status),
        "problem": cause.map(|(cause, since)| problem(&cause, since, is_local)),
    })
}

fn problem(problem: &Problem, since: SystemTime, is_local: bool) -> serde_json::Value {
    let problem = problem.for_caller(is_local);
    json!({
        "code": problem.code(),
        "severity": problem.entry().severity,
        "cause": problem.cause(),
        "fix": problem.fix(),
        "since": time(since),
    })
}

/// A problem of a part of the daemon that belongs to no upstream.
fn lasting_problem(part: &str, lasting: &Lasting, is_local: bool) -> serde_json::Value {
    let mut document = problem(&lasting.problem, lasting.since, is_local);
    document["call"] = part.into();
    if is_local && !lasting.subject.is_empty() {
        document["subject"] = lasting.subject.as_str().into();
    }
    document
}

/// The problems of all upstreams, each with the upstream and the kind of calls that it concerns.
fn problems_of(upstreams: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let calls = upstreams
        .iter()
        .flat_map(|upstream| ["token", "api"].map(|call| (upstream, call)));
    let problems = calls.filter_map(|(upstream, call)| {
        let mut problem = upstream[call]["problem"].clone();
        problem.is_object().then(|| {
            problem["upstream"] = upstream["name"].clone();
            problem["call"] = call.into();
            problem
        })
    });
    problems.collect()
}

/// How bad a problem of a token is. What is a warning as long as a token is valid is an error without one: requests get 503.
pub(super) fn token_severity(problem: &Problem, has_token: bool) -> Severity {
    if has_token {
        problem.entry().severity
    } else {
        Severity::Error
    }
}

/// What the spool holds, as the page and `bondgate status` show it.
fn spool_text(totals: Option<Totals>) -> String {
    let Some(totals) = totals else {
        return "it cannot be read".to_owned();
    };
    let waiting = match (totals.messages, totals.oldest) {
        (0, _) | (_, None) => "no message waits for a caller".to_owned(),
        (1, Some(oldest)) => format!(
            "1 message waits for a caller ({} bytes, pulled {oldest})",
            totals.bytes
        ),
        (messages, Some(oldest)) => format!(
            "{messages} messages wait for a caller ({} bytes, the oldest pulled {oldest})",
            totals.bytes
        ),
    };
    let mut parts = vec![waiting];
    for (count, what) in [
        (totals.set_aside, "dead letters"),
        (totals.perhaps_lost, "perhaps lost"),
        (totals.damaged, "damaged"),
    ] {
        parts.extend((count > 0).then(|| format!("{count} {what}")));
    }
    parts.join(", ")
}

/// How this machine's clock differs from the identity service's, which is ahead by `skew_s`.
pub(super) fn clock_text(skew_s: i64) -> String {
    match skew_s {
        -1..=1 => "agrees with Cisco's".to_owned(),
        behind @ 2.. => format!("{behind} s behind Cisco's"),
        ahead => format!("{} s ahead of Cisco's", ahead.unsigned_abs()),
    }
}

/// RFC 3339, rounded to whole seconds.
fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at + Duration::from_millis(500)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::token;

    #[test]
    fn a_failed_fetch_is_a_warning_while_a_token_is_valid_and_an_error_without_one() {
        let problem = token::not_renewed_yet();
        assert!(token_severity(&problem, true) == Severity::Warning);
        assert!(token_severity(&problem, false) == Severity::Error);
    }
}
