//! The section of the problems that last.

use askama::Template;

use super::level::Level;
use super::now::Now;
use super::text::{Clock, When};
use crate::problems::Severity;

#[derive(Template)]
#[template(path = "problems.html", config = "src/admin/page/askama.toml")]
pub(super) struct Problems {
    problems: Vec<Row>,
}

struct Row {
    level: Level,
    severity: String,
    part: String,
    subject: String,
    cause: String,
    fix: String,
    code: &'static str,
    since: When,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> Problems {
    let row = |active: &super::now::ActiveProblem| Row {
        level: match active.severity {
            Severity::Error => Level::Failing,
            Severity::Warning => Level::Warning,
        },
        severity: active.severity.to_string(),
        part: active.part.clone(),
        subject: active.subject.clone(),
        cause: active.problem.cause().to_owned(),
        fix: active.problem.fix().to_owned(),
        code: active.problem.code(),
        since: When {
            at: active.since,
            now: clock,
        },
    };
    Problems {
        problems: now.problems.iter().map(row).collect(),
    }
}
