//! The first section: whether all is well, or else what is not and since when; and what this bondgate is.

use askama::Template;

use super::level::Level;
use super::now::Now;
use super::text::{Clock, When, count};
use crate::problems::Severity;
use crate::server::Phase;
use crate::telemetry::program;

#[derive(Template)]
#[template(path = "overview.html", config = "src/admin/page/askama.toml")]
pub(super) struct Overview {
    level: Level,
    headline: String,
    detail: String,
    since: Option<When>,
    /// When a stop ends at the latest.
    until: Option<When>,
    phase: &'static str,
    started: When,
    configured: When,
    configuration: Option<String>,
    pid: Option<u32>,
    version: &'static str,
    /// Unknown without git.
    commit: Option<&'static str>,
}

impl Overview {
    /// The title of the page.
    pub(super) fn title(&self) -> String {
        format!("{} \u{b7} bondgate", self.headline)
    }
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> Overview {
    let when = |at| When { at, now: clock };
    let errors = now
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let warnings = now.problems.len() - errors;
    let has_tokens = now.upstreams.iter().all(|upstream| upstream.has_token);
    let is_stopping = now.phase > Phase::Serving;
    let level = match (is_stopping, now.is_ready && has_tokens && errors == 0, warnings) {
        (true, _, _) => Level::Stopping,
        (false, false, _) => Level::Failing,
        (false, true, 0) => Level::Well,
        (false, true, _) => Level::Warning,
    };
    let ready = match (now.is_ready, has_tokens) {
        (false, _) => "Not ready",
        (true, false) => "No valid token",
        (true, true) => "Ready",
    };
    let counted = [(errors, "error"), (warnings, "warning")];
    let counted = counted.iter().filter(|(number, _)| *number > 0);
    let counted: Vec<_> = counted.map(|(number, one)| count(*number as u64, one)).collect();
    let headline = match level {
        Level::Stopping => "Stopping".to_owned(),
        Level::Well => "Ready".to_owned(),
        _ if counted.is_empty() => ready.to_owned(),
        _ => format!("{ready}, {}", counted.join(" and ")),
    };
    let first = now.problems.first();
    let detail = match (level, first) {
        (Level::Stopping, _) => format!(
            "Requests that have begun ({} now) are finished, and then this bondgate ends.",
            now.running
        ),
        (Level::Well, _) => "Every upstream has a token, and nothing fails.".to_owned(),
        (_, Some(first)) => format!("{}: {}.", first.part, first.problem.cause()),
        (_, None) => "A token is being fetched.".to_owned(),
    };
    let same_severity = |severity| {
        let same = now
            .problems
            .iter()
            .filter(move |problem| problem.severity == severity);
        same.map(|problem| problem.since).min()
    };
    // A stop records its times before its first phase.
    let stop_times = now.stop_times.filter(|_| is_stopping);
    let since = match level {
        Level::Stopping => stop_times.map(|stop| stop.began),
        Level::Well => None,
        _ => first.and_then(|first| same_severity(first.severity)),
    };
    Overview {
        level,
        headline,
        detail,
        since: since.map(when),
        until: stop_times.map(|stop| when(stop.ends)),
        phase: match now.phase {
            Phase::Serving => "serving",
            Phase::LameDuck | Phase::Draining | Phase::Deadline => "draining",
        },
        started: when(now.facts.started),
        configured: when(now.facts.configured),
        configuration: now
            .facts
            .configuration
            .as_ref()
            .filter(|_| now.is_local)
            .map(|file| file.display().to_string()),
        pid: now.is_local.then(std::process::id),
        version: program::VERSION,
        commit: Some(program::COMMIT).filter(|commit| *commit != "unknown"),
    }
}
