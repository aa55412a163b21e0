//! The section of the spool.

use askama::Template;

use super::level::Level;
use super::now::Now;
use super::text::{Clock, When, bytes};
use crate::problems::without_error_number;
use crate::spool::{MessageId, Totals};

#[derive(Template)]
#[template(path = "spool.html", config = "src/admin/page/askama.toml")]
pub(super) struct SpoolSection {
    error: Option<String>,
    rows: Vec<Row>,
    /// Delivered since the start.
    delivered: u64,
    retained: String,
}

struct Row {
    state: &'static str,
    level: Option<Level>,
    meaning: &'static str,
    number: usize,
    size: Option<String>,
    oldest: Option<When>,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> SpoolSection {
    let (totals, error) = match &now.spool {
        Ok(totals) => (*totals, None),
        Err(error) => (Totals::default(), Some(without_error_number(error.to_string()))),
    };
    let row = |state, meaning, number, level, oldest: Option<MessageId>| Row {
        state,
        meaning,
        number,
        level: (number > 0).then_some(level).flatten(),
        size: None,
        oldest: oldest.map(|oldest| When {
            at: oldest.time(),
            now: clock,
        }),
    };
    let warning = Some(Level::Warning);
    let waiting = if totals.failing > 0 { warning } else { None };
    SpoolSection {
        rows: vec![
            Row {
                size: (totals.messages > 0).then(|| bytes(totals.bytes)),
                ..row(
                    "Waiting",
                    "pulled, and not delivered yet",
                    totals.messages,
                    waiting,
                    totals.oldest,
                )
            },
            row(
                "Dead letters",
                "deliveries failed, and later messages were delivered",
                totals.set_aside,
                warning,
                totals.oldest_set_aside,
            ),
            row(
                "Perhaps lost",
                "the pull was sent, and no whole response came",
                totals.perhaps_lost,
                Some(Level::Failing),
                totals.oldest_perhaps_lost,
            ),
            row(
                "Damaged",
                "files that cannot be read",
                totals.damaged,
                Some(Level::Failing),
                totals.oldest_damaged,
            ),
        ],
        error,
        delivered: now.delivered,
        retained: bytes(totals.retained_bytes),
    }
}
