//! The section of the upstreams: each one's token and API.

use std::time::SystemTime;

use askama::Template;

use super::level::Level;
use super::now::{Now, UpstreamNow};
use super::text::{Clock, When};
use super::timeline::Timeline;
use crate::token::TokenState;
use crate::upstream::ApiState;

#[derive(Template)]
#[template(path = "upstreams.html", config = "src/admin/page/askama.toml")]
pub(super) struct Upstreams {
    upstreams: Vec<Card>,
}

struct Card {
    name: String,
    url: String,
    level: Level,
    state: &'static str,
    meaning: &'static str,
    is_rejected: bool,
    since: When,
    line: Option<Line>,
    /// The next fetch, where the line does not show it.
    next: Option<When>,
    clock: Option<String>,
    api: Api,
}

/// The token's timeline, with its times as HTML.
struct Line {
    obtained: When,
    expires: When,
    refresh: Option<(When, u64)>,
    now: u64,
    is_expired: bool,
}

struct Api {
    level: Option<Level>,
    state: &'static str,
    last: Option<(u16, When)>,
    since: Option<When>,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> Upstreams {
    Upstreams {
        upstreams: now
            .upstreams
            .iter()
            .map(|upstream| card(upstream, now.at, clock))
            .collect(),
    }
}

fn card(upstream: &UpstreamNow<'_>, now: SystemTime, clock: Clock) -> Card {
    let when = |at| When { at, now: clock };
    let token = &upstream.token;
    let (level, meaning) = match token.state {
        TokenState::Starting => (Level::Warning, "The first token is being fetched."),
        TokenState::Fresh => (Level::Well, "The token is valid, and its refresh is not due yet."),
        TokenState::Refreshing => (
            Level::Well,
            "The token is valid, and its successor is being fetched.",
        ),
        TokenState::Degraded => (Level::Warning, "Fetches fail; the token is still valid."),
        TokenState::Expired => (Level::Failing, "There is no valid token: requests get 503."),
        TokenState::Misconfigured => (Level::Failing, "The credentials are missing or refused."),
    };
    let line = Timeline::of(token, now).map(|line| Line {
        obtained: when(line.obtained),
        expires: when(line.expires),
        refresh: line.refresh.map(|(at, place)| (when(at), place)),
        now: line.now,
        is_expired: line.is_expired,
    });
    let is_rejected = !upstream.has_token && line.as_ref().is_some_and(|line| !line.is_expired);
    let is_shown = line.as_ref().is_some_and(|line| line.refresh.is_some());
    let next = token.next_attempt_in.filter(|_| !is_shown);
    Card {
        name: upstream.name.clone(),
        url: upstream.url.to_owned(),
        level,
        state: token.state.name(),
        meaning,
        is_rejected,
        since: when(token.since),
        line,
        next: next.map(|wait| when(now + wait)),
        clock: token.skew_s.map(super::super::status::clock_text),
        api: api(upstream, clock),
    }
}

fn api(upstream: &UpstreamNow<'_>, clock: Clock) -> Api {
    let when = |at| When { at, now: clock };
    let state = upstream.api.as_ref();
    let last = state.and_then(|state| state.last_response);
    let problem = state.and_then(|state| state.problem.as_ref());
    let level = match (problem, last) {
        (Some(_), _) => Some(Level::Failing),
        (None, Some(_)) if state.is_some_and(|state| state.has_rejected) => Some(Level::Warning),
        (None, Some(_)) => Some(Level::Well),
        (None, None) => None,
    };
    Api {
        level,
        state: state.map_or("unknown", ApiState::text),
        last: last.map(|(at, status)| (status, when(at))),
        since: problem.map(|(_, since)| when(*since)),
    }
}
