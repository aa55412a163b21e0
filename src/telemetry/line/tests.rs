use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tracing::subscriber::with_default;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::config::LogFormat;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What is written of these events, by our formatter or by the one that it stands for.
fn written(format: LogFormat, is_ours: bool, events: impl FnOnce()) -> String {
    let to = Written::default();
    let builder = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(to.clone())
        .with_ansi(false)
        .with_target(false);
    match (format, is_ours) {
        (LogFormat::Text, true) => with_default(builder.map_event_format(TextLine).finish(), events),
        (LogFormat::Text, false) => with_default(builder.finish(), events),
        (LogFormat::Json, true) => {
            let builder = builder.json().flatten_event(true).map_event_format(JsonLine);
            with_default(builder.finish(), events);
        }
        (LogFormat::Json, false) => with_default(builder.json().flatten_event(true).finish(), events),
    }
    let written = to.0.lock().unwrap();
    String::from_utf8(written.clone()).unwrap()
}

const STAMP: &str = "2026-01-01T00:00:00.000000Z";

/// The same without the times, which are checked to be some.
fn timeless(format: LogFormat, is_ours: bool, events: impl FnOnce()) -> String {
    let before = match format {
        LogFormat::Text => "",
        LogFormat::Json => "{\"timestamp\":\"",
    };
    let mut timeless = String::new();
    for line in written(format, is_ours, events).split_inclusive('\n') {
        // A line break that was let through begins a line without a time.
        let Some(Ok(stamp)) = line
            .strip_prefix(before)
            .and_then(|line| line.get(..STAMP.len()))
            .map(humantime::parse_rfc3339)
        else {
            timeless += line;
            continue;
        };
        assert!(stamp.elapsed().unwrap() < Duration::from_secs(60), "{line}");
        timeless += &line[before.len() + STAMP.len()..];
    }
    timeless
}

fn assert_same(format: LogFormat, events: impl Fn()) {
    let ours = timeless(format, true, &events);
    assert!(!ours.is_empty());
    assert_eq!(ours, timeless(format, false, &events));
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(&'static str, #[source] Option<Box<Failure>>);

fn all_kinds_of_events() {
    let nobody: Option<&str> = None;
    let address = Some(Ipv4Addr::LOCALHOST);
    tracing::info!(
        upstream = "cisco",
        caller = nobody,
        address = address.map(display),
        path = "/a/\u{e9}?\"x\"\\y",
        status = 200_u16,
        bytes = u64::MAX,
        behind = -17_i32,
        least = i64::MIN,
        zero = 0,
        is_whole = true,
        is_late = false,
        share = 0.1,
        whole = 3.0,
        much = 1e300,
        none = f64::NAN,
        wide = u128::MAX,
        "{}",
        "answered"
    );
    tracing::info!("a message alone");
    tracing::warn!("a message of {} with \"quotes\", \\ and \t", "parts");
    tracing::debug!(only = "a field");
    tracing::trace!(
        message = "a message that is a field",
        r#type = "raw",
        "dotted.name" = 1
    );
    tracing::error!(error = %Failure("it failed", None), "shown");
    let cause = Some(Box::new(Failure(
        "for this",
        Some(Box::new(Failure("and that", None))),
    )));
    let caused = Failure("it failed", cause);
    tracing::error!(error = &caused as &(dyn Error + 'static), "with its causes");
    let single = Failure("it failed", None);
    tracing::error!(error = &single as &(dyn Error + 'static), "without");
    tracing::info!(?address, list = ?["a\nb", "c"], empty = "", "{}", String::new());
    tracing::info!(bytes = &b"\x00\xff"[..], "raw");
    tracing::info!({}, "no field");
}

#[test]
fn every_kind_of_field_is_written_as_the_usual_formatters_write_it() {
    assert_same(LogFormat::Text, all_kinds_of_events);
    assert_same(LogFormat::Json, all_kinds_of_events);
}

#[test]
fn what_happens_within_a_span_is_written_as_ever() {
    let within = || {
        let span = tracing::info_span!("request", id = 7);
        span.in_scope(|| tracing::info!(status = 200, "within"));
        tracing::info!(parent: &span, "of it");
        tracing::info!("after it");
    };
    assert_same(LogFormat::Text, within);
    assert_same(LogFormat::Json, within);
    let text = timeless(LogFormat::Text, true, within);
    assert!(text.contains("request{id=7}: within status=200"), "{text}");
}

#[test]
fn no_value_makes_a_line_of_its_own() {
    let forged = "a\n2026-01-01T00:00:00.000000Z ERROR b\r\x1b[2J\x07\x00\u{9b}\u{a0}\t\u{2028}";
    let events = || {
        tracing::info!("{forged}");
        tracing::info!(message = forged);
        tracing::info!(text = forged, shown = %forged, debugged = ?debug(forged), "x");
        let failure = Failure("one\ntwo", Some(Box::new(Failure("three\nfour", None))));
        tracing::info!(error = &failure as &(dyn Error + 'static), "y");
    };
    let text = written(LogFormat::Text, true, events);
    assert_eq!(text.lines().count(), 4, "{text}");
    let shown = "a\\n2026-01-01T00:00:00.000000Z ERROR b\\r\\x1b[2J\\x07\\x00\\u{9b}\u{a0}\t\u{2028}";
    let quoted = format!("{forged:?}");
    let expected = [
        format!("  INFO {shown}\n"),
        format!("  INFO {shown}\n"),
        format!("  INFO x text={quoted} shown={shown} debugged={quoted}\n"),
        "  INFO y error=one\\ntwo error.sources=[three\\nfour]\n".to_owned(),
    ];
    assert_eq!(timeless(LogFormat::Text, true, events), expected.concat());

    assert_same(LogFormat::Json, events);
    let json = written(LogFormat::Json, true, events);
    assert_eq!(json.lines().count(), 4, "{json}");
    let third: serde_json::Value = serde_json::from_str(json.lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&third["text"], &third["shown"]),
        (&forged.into(), &forged.into())
    );
}

#[test]
fn a_value_that_logs_while_it_is_shown_spoils_no_line() {
    struct Chatty;
    impl Debug for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("from within");
            f.write_str("chatty")
        }
    }
    let text = timeless(LogFormat::Text, true, || tracing::info!(value = ?Chatty, "shown"));
    assert!(text.ends_with("  INFO shown value=chatty\n"), "{text}");
}

#[test]
fn times_are_those_of_rfc_3339() {
    let mut stamp = Stamp::default();
    for (seconds, micros) in [
        (0, 0),
        (0, 1),
        (951_782_400, 999_999),
        (1_798_761_599, 20),
        (1_798_761_600, 0),
        (1_798_761_599, 7),
    ] {
        let at = UNIX_EPOCH + Duration::new(seconds, micros * 1000 + 999);
        let told = humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::new(seconds, micros * 1000));
        assert_eq!(stamp.at(at), told.to_string());
    }
}

proptest! {
    #[test]
    fn any_text_is_escaped_as_the_usual_formatters_do_it(text in any::<String>(), number in any::<i64>(), share in any::<f64>()) {
        assert_same(LogFormat::Json, || {
            tracing::info!(text, shown = %text, debugged = ?text, number, share, "{text}");
        });
        // Of control characters in what is shown, ours writes more as escapes: see above.
        let tame: String = text.chars().filter(|character| !character.is_control()).collect();
        assert_same(LogFormat::Text, || {
            tracing::info!(text, shown = %tame, debugged = ?text, number, share, "{tame}");
        });
    }
}
