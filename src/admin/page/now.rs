//! What the page shows, collected at one moment.

use std::io;
use std::time::{Duration, SystemTime};

use crate::problems::{Problem, Severity};
use crate::server::Phase;
use crate::spool::Totals;
use crate::telemetry::Lasting;
use crate::telemetry::activity::{Minute, RecentRequest, RefusalCount};
use crate::token::TokenStatus;
use crate::upstream::ApiState;

use super::super::readiness::StopTimes;
use super::super::sources::Sources;
use super::super::status::{Facts, token_severity};

/// Everything that the page shows, for callers on this machine or on other hosts.
pub(in super::super) struct Now<'a> {
    pub(super) at: SystemTime,
    pub(super) is_local: bool,
    pub(super) facts: &'a Facts,
    pub(super) phase: Phase,
    /// Of the stop that is in progress.
    pub(super) stop_times: Option<StopTimes>,
    /// Requests whose response has not ended.
    pub(super) running: u64,
    pub(super) is_ready: bool,
    pub(super) upstreams: Vec<UpstreamNow<'a>>,
    /// What fails; the errors first, and the oldest of them first.
    pub(super) problems: Vec<ActiveProblem>,
    pub(super) spool: io::Result<Totals>,
    /// Messages delivered since the start.
    pub(super) delivered: u64,
    pub(super) requests: Vec<RecentRequest>,
    pub(super) refusals: Vec<RefusalCount>,
}

/// An upstream at one moment.
pub(super) struct UpstreamNow<'a> {
    pub(super) name: String,
    pub(super) url: &'a str,
    pub(super) token: TokenStatus,
    /// Whether there is a token that the API accepts, as far as is known.
    pub(super) has_token: bool,
    pub(super) api: Option<ApiState>,
    pub(super) minutes: [Minute; 60],
}

/// A problem that lasts, as this caller may see it.
#[derive(Clone)]
pub(super) struct ActiveProblem {
    /// The part of bondgate that has it.
    pub(super) part: String,
    /// The file, key or caller, if one is to blame.
    pub(super) subject: String,
    pub(super) problem: Problem,
    pub(super) severity: Severity,
    pub(super) since: SystemTime,
}

impl<'a> Now<'a> {
    /// The present state. Counts the spool, which waits for the disk.
    pub(in super::super) async fn collect(sources: &'a Sources, is_local: bool) -> Self {
        let spool = sources.spool.totals().await;
        let at = SystemTime::now();
        let facts = &sources.facts;
        let upstreams = sources.readiness.upstreams.load();
        let upstreams: Vec<_> = upstreams
            .iter()
            .map(|(name, tokens)| {
                let facts = facts.upstreams.iter().find(|facts| facts.name == *name);
                UpstreamNow {
                    name: name.clone(),
                    url: facts.map(|facts| facts.url.as_str()).unwrap_or_default(),
                    token: tokens.status(),
                    has_token: tokens.has_accepted_token(),
                    api: facts.map(|facts| facts.api.get()),
                    minutes: sources.activity.last_hour(name, at),
                }
            })
            .collect();
        let mut now = Self {
            at,
            is_local,
            facts,
            phase: sources.readiness.stop.phase(),
            stop_times: sources.readiness.stop_times(),
            running: upstreams
                .iter()
                .map(|upstream| sources.metrics.requests_in_flight(&upstream.name))
                .sum(),
            is_ready: sources.readiness.check(false, is_local).0,
            problems: Vec::new(),
            upstreams,
            spool,
            delivered: sources.metrics.spool.delivered.get(),
            requests: sources.activity.recent(),
            refusals: sources.activity.refusals(),
        };
        now.problems = now.all_problems(sources.spool.problems());
        now
    }

    fn all_problems(&self, spool: Vec<Lasting>) -> Vec<ActiveProblem> {
        let upstreams = self.upstreams.iter().flat_map(|upstream| {
            let part = |what: &str| format!("{what} of {}", upstream.name);
            let token = &upstream.token;
            let failed = token.problem().map(|problem| {
                let severity = token_severity(problem, upstream.has_token);
                (part("token"), problem.clone(), severity, token.since)
            });
            // The token is still valid.
            let warning = token.warning.as_ref().filter(|_| failed.is_none());
            let warning =
                warning.map(|(problem, since)| (part("token"), problem.clone(), Severity::Warning, *since));
            let api = upstream.api.as_ref().and_then(|api| api.problem.clone());
            let api = api.map(|(problem, since)| {
                let severity = problem.entry().severity;
                (part("API"), problem, severity, since)
            });
            [failed, warning, api].into_iter().flatten()
        });
        let upstreams = upstreams.map(|(part, problem, severity, since)| {
            let (subject, problem) = (String::new(), problem.for_caller(self.is_local));
            ActiveProblem {
                part,
                subject,
                problem,
                severity,
                since,
            }
        });
        let rejected = self.facts.rejected_reload.get().into_iter();
        let rejected = rejected.map(|lasting| ("configuration, reload rejected", lasting));
        let spool = spool.into_iter().map(|lasting| ("spool", lasting));
        let others = rejected.chain(spool).map(|(part, lasting)| ActiveProblem {
            part: part.to_owned(),
            subject: if self.is_local {
                lasting.subject
            } else {
                String::new()
            },
            severity: lasting.problem.entry().severity,
            problem: lasting.problem.for_caller(self.is_local),
            since: lasting.since,
        });
        let mut all: Vec<_> = upstreams.chain(others).collect();
        all.sort_by_key(|problem| (problem.severity == Severity::Warning, problem.since));
        all
    }

    /// How long ago or from now a time is, rounded down to seconds.
    pub(super) fn until(&self, at: SystemTime) -> Result<Duration, Duration> {
        at.duration_since(self.at).map_err(|past| past.duration())
    }
}
