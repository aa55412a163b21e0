//! The section of what was refused before it was a request.

use askama::Template;

use super::now::Now;
use super::text::{Clock, When, count};
use crate::telemetry::activity::RefusalCount;

#[derive(Template)]
#[template(path = "refusals.html", config = "src/admin/page/askama.toml")]
pub(super) struct RefusalsSection {
    refusals: Vec<Row>,
}

struct Row {
    problem: &'static str,
    /// The status; none if the connection was closed without a response.
    status: Option<u16>,
    number: String,
    /// The time of the first one, if it is not the last one.
    first: Option<When>,
    last: When,
    callers: String,
    listener: String,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> RefusalsSection {
    let when = |at| When { at, now: clock };
    let row = |refusal: &RefusalCount| Row {
        problem: refusal.problem,
        status: (refusal.status > 0).then_some(refusal.status),
        number: count(refusal.number, "time"),
        first: (refusal.number > 1).then(|| when(refusal.first)),
        last: when(refusal.last),
        callers: refusal.callers.join(", "),
        listener: refusal.listener.clone(),
    };
    RefusalsSection {
        refusals: now.refusals.iter().map(row).collect(),
    }
}
