//! The warnings, errors and changes of state that were logged lately, counted by kind.

use std::fmt::{self, Debug, Display, Write as _};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::super::excerpt::excerpt;
use super::super::line::text_of;
use super::super::system_log::is_change;

/// How long a kind is kept after its last line, or after its end.
const RETENTION: Duration = Duration::from_secs(3600);
/// The most kinds that are kept; a daemon in trouble has a few dozen.
const MOST: usize = 128;
/// The part of a last line that is kept, in bytes.
const LONGEST_LINE: usize = 1024;
/// The part of a message that is kept, in bytes. Ours are shorter; those of libraries may have any length.
const LONGEST_MESSAGE: usize = 256;

/// The kinds of the last hour. They take 200 KiB at most.
#[derive(Default)]
pub(in super::super) struct RecentReports(Mutex<Vec<Reported>>);

/// The layer that records them. The line of a request that succeeded costs a few comparisons.
pub(in super::super) struct RecentReportsLayer(pub(in super::super) std::sync::Arc<RecentReports>);

impl<S: Subscriber> Layer<S> for RecentReportsLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if is_notable(event.metadata()) {
            self.0.record(event, SystemTime::now());
        }
    }
}

fn is_notable(event: &Metadata<'_>) -> bool {
    let level = *event.level();
    level <= Level::WARN || level == Level::INFO && is_change(event)
}

/// Lines of one kind.
struct Reported {
    kind: Kind,
    first: SystemTime,
    last: SystemTime,
    count: u64,
    /// When the log said that it is over.
    ended: Option<SystemTime>,
    /// The last line, without time and level.
    line: String,
}

/// The fields that are the same in all lines of one kind.
#[derive(PartialEq, Eq)]
struct Kind {
    level: Level,
    message: String,
    /// The code of the problem that the line reports, or whose end it reports.
    problem: String,
    upstream: String,
    /// The status of a request's response.
    status: Option<u64>,
    /// Whether the line reports the state of a token.
    has_state: bool,
}

impl RecentReports {
    fn record(&self, event: &Event<'_>, now: SystemTime) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = text_of(event);
        let line = excerpt(line.trim_start(), LONGEST_LINE);
        let Fields { end_of, state, .. } = &fields;
        let is_fresh = state.as_deref() == Some("fresh") && *event.metadata().level() == Level::INFO;
        let ends = |kind: &Kind| {
            let is_same = kind.upstream == fields.upstream && kind.level <= Level::WARN;
            let is_named = end_of.as_ref().is_some_and(|code| *code == kind.problem);
            is_same && (is_named || is_fresh && kind.has_state)
        };
        let mut all = self.0.lock();
        for reported in all.iter_mut().filter(|reported| ends(&reported.kind)) {
            reported.ended.get_or_insert(now);
        }
        let kind = Kind {
            level: *event.metadata().level(),
            has_state: fields.state.is_some(),
            problem: fields.end_of.or(fields.problem).unwrap_or_default(),
            message: excerpt(&fields.message, LONGEST_MESSAGE).to_owned(),
            upstream: fields.upstream,
            status: fields.status,
        };
        if let Some(known) = all.iter_mut().find(|reported| reported.kind == kind) {
            if known.is_old(now) {
                (known.first, known.count) = (now, 0);
            }
            (known.last, known.ended) = (now, None);
            known.count += 1;
            known.line.clear();
            // As much as the bound of the memory counts; a string that grows by itself takes up to twice as much.
            known.line.reserve_exact(line.len());
            known.line.push_str(line);
            return;
        }
        if all.len() >= MOST
            && let Some((oldest, _)) = all.iter().enumerate().min_by_key(|(_, reported)| reported.last)
        {
            all.swap_remove(oldest);
        }
        all.push(Reported {
            kind,
            first: now,
            last: now,
            count: 1,
            ended: None,
            line: line.to_owned(),
        });
    }

    pub(super) fn text(&self, now: SystemTime) -> String {
        let mut all = self.0.lock();
        all.retain(|reported| !reported.is_old(now));
        all.sort_by_key(|reported| std::cmp::Reverse(reported.last));
        let mut text = String::new();
        for reported in all.iter() {
            // Writing to memory cannot fail.
            let _ = writeln!(text, "{reported}");
        }
        text
    }
}

impl Reported {
    /// Whether it was last reported, and ended, more than an hour ago.
    fn is_old(&self, now: SystemTime) -> bool {
        let latest = self.ended.map_or(self.last, |ended| ended.max(self.last));
        now.duration_since(latest).is_ok_and(|age| age > RETENTION)
    }
}

impl Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds;
        let (kind, first, last) = (&self.kind, time(self.first), time(self.last));
        match self.count {
            1 => write!(f, "{last}, once")?,
            count => write!(f, "{first} to {last}, {count} times")?,
        }
        if let Some(ended) = self.ended {
            write!(f, ", over at {}", time(ended))?;
        }
        write!(f, ": {} {}", kind.level, kind.message)?;
        if !kind.problem.is_empty() {
            write!(f, " [{}]", kind.problem)?;
        }
        write!(f, "\n    {}", self.line)
    }
}

/// The fields of an event that decide its kind, and those that end another kind.
#[derive(Default)]
struct Fields {
    message: String,
    problem: Option<String>,
    end_of: Option<String>,
    state: Option<String>,
    upstream: String,
    status: Option<u64>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "problem" => self.problem = Some(value.to_owned()),
            "was" => self.end_of = Some(value.to_owned()),
            "state" => self.state = Some(value.to_owned()),
            "upstream" => value.clone_into(&mut self.upstream),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "status" {
            self.status = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is recorded of the lines that `log` writes, so long afterwards.
    fn text(log: impl FnOnce(), later: Duration) -> String {
        let reports = Arc::new(RecentReports::default());
        let subscriber = tracing_subscriber::registry().with(RecentReportsLayer(reports.clone()));
        tracing::subscriber::with_default(subscriber, log);
        reports.text(SystemTime::now() + later)
    }

    fn now(log: impl FnOnce()) -> String {
        text(log, Duration::ZERO)
    }

    /// The line of a request, as the access log writes it.
    macro_rules! request {
        ($level:ident, $status:expr) => {
            tracing::$level!(
                target: "bondgate::proxy::access_log::entry",
                message = "request completed",
                upstream = "a",
                path = "/x",
                status = $status,
                problem = ($status == 503).then_some("dns-timeout"),
            )
        };
    }

    #[test]
    fn a_flood_of_requests_pushes_no_problem_out_and_failed_ones_are_counted_by_status() {
        let text = now(|| {
            tracing::error!(problem = "disk-full", error = "no space", "spool problem");
            for _ in 0..10_000 {
                request!(info, 200_u64);
                request!(warn, 404_u64);
                request!(warn, 503_u64);
            }
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(
            lines[0].ends_with(", 10000 times: WARN request completed [dns-timeout]"),
            "{text}"
        );
        assert!(
            lines[2].ends_with(", 10000 times: WARN request completed"),
            "{text}"
        );
        assert!(lines[3].contains("path=\"/x\" status=404"), "{text}");
        assert!(
            lines[4].ends_with(", once: ERROR spool problem [disk-full]"),
            "{text}"
        );
        assert_eq!(
            lines[5],
            "    spool problem problem=\"disk-full\" error=\"no space\""
        );
    }

    #[test]
    fn changes_of_state_are_recorded_and_other_lines_are_not() {
        let text = now(|| {
            tracing::info!(upstream = "a", state = "fresh", "token acquired");
            tracing::info!("listening on http://127.0.0.1:8080");
            tracing::debug!(upstream = "a", state = "refreshing", "fetching a token");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("once: INFO token acquired\n"), "{text}");
    }

    #[test]
    fn a_problem_is_over_when_its_end_is_logged_and_until_it_returns() {
        let api = |code| tracing::warn!(upstream = "a", problem = code, "requests to the API fail");
        let end = || {
            tracing::info!(
                upstream = "a",
                was = "api-silent",
                "requests to the API succeed again"
            );
        };
        let is_over = |text: &str, part: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.contains(part) && line.contains(", over at 2"))
        };
        let text = now(|| {
            api("api-silent");
            api("api-page");
            tracing::warn!(upstream = "b", problem = "api-silent", "requests to the API fail");
            end();
        });
        assert!(
            is_over(&text, "WARN requests to the API fail [api-silent]"),
            "{text}"
        );
        assert_eq!(text.matches("over at").count(), 1, "{text}");
        let text = now(|| {
            api("api-silent");
            end();
            api("api-silent");
        });
        assert!(
            !is_over(&text, "2 times: WARN requests to the API fail [api-silent]"),
            "{text}"
        );

        let text = now(|| {
            let (upstream, problem) = ("a", "client-secret-refused");
            tracing::error!(
                upstream,
                state = "expired",
                problem,
                "token refresh failed, no valid token"
            );
            tracing::error!(
                upstream = "b",
                state = "expired",
                problem,
                "token refresh failed, no valid token"
            );
            tracing::info!(upstream, state = "fresh", "token acquired");
        });
        assert_eq!(text.matches("over at").count(), 1, "{text}");
        assert!(is_over(&text, "token refresh failed"), "{text}");
    }

    #[test]
    fn what_ended_more_than_an_hour_ago_is_forgotten() {
        let log = || request!(error, 500_u64);
        assert!(text(log, RETENTION * 9 / 10).contains("ERROR request completed"));
        assert_eq!(text(log, RETENTION * 11 / 10), "");
    }

    #[test]
    fn kinds_and_lines_are_bounded() {
        let text = now(|| {
            for status in 0..1000_u64 {
                request!(warn, status);
            }
            tracing::warn!(value = "\u{e4}".repeat(5000), "long");
            tracing::warn!("of a library: {}", "\u{e4}".repeat(5000));
        });
        let message = text.lines().find(|line| line.contains(": WARN of a library: "));
        assert!(message.unwrap().len() <= LONGEST_MESSAGE + 40, "{text}");
        assert_eq!(text.lines().count(), 2 * MOST, "{text}");
        assert!(text.lines().all(|line| line.len() <= LONGEST_LINE + 4), "{text}");
    }
}
