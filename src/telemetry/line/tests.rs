use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tracing::Level;
use tracing::subscriber::with_default;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

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

#[derive(Clone, Copy)]
enum Formatter {
    Ours,
    /// tracing-subscriber's.
    Usual,
}

/// The lines that a formatter writes for these events.
fn written(format: LineForm, formatter: Formatter, events: impl FnOnce()) -> String {
    let to = Written::default();
    let builder = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(to.clone())
        .with_ansi(false)
        .with_target(false);
    match (formatter, format) {
        (Formatter::Ours, _) => with_default(builder.event_format(LineFormatter(format)).finish(), events),
        (Formatter::Usual, LineForm::Text) => with_default(builder.finish(), events),
        (Formatter::Usual, LineForm::Json) => {
            with_default(builder.json().flatten_event(true).finish(), events);
        }
    }
    let written = to.0.lock().unwrap();
    String::from_utf8(written.clone()).unwrap()
}

const TIME: &str = "2026-01-01T00:00:00.000000Z";

/// The same without the times, once they are checked.
fn timeless(format: LineForm, formatter: Formatter, events: impl FnOnce()) -> String {
    let before = match format {
        LineForm::Text => "",
        LineForm::Json => "{\"timestamp\":\"",
    };
    let mut timeless = String::new();
    for line in written(format, formatter, events).split_inclusive('\n') {
        // A line break that was not escaped begins a line without a time.
        let Some(Ok(time)) = line
            .strip_prefix(before)
            .and_then(|line| line.get(..TIME.len()))
            .map(humantime::parse_rfc3339)
        else {
            timeless += line;
            continue;
        };
        assert!(time.elapsed().unwrap() < Duration::from_secs(60), "{line}");
        timeless += &line[before.len() + TIME.len()..];
    }
    timeless
}

#[test]
fn the_time_of_a_line_is_read_from_its_beginning() {
    for format in [LineForm::Text, LineForm::Json] {
        let line = written(format, Formatter::Ours, || tracing::info!("token acquired"));
        let time = log_line_time(&line.as_bytes()[..48]).unwrap();
        assert!(time.elapsed().unwrap() < Duration::from_secs(60), "{line}");
    }
    for other in [
        "",
        "\n",
        "a line of another program",
        "{\"time\":\"2026-01-01T00:00:00Z\"}",
        TIME,
    ] {
        assert_eq!(log_line_time(other.as_bytes()), None, "{other}");
    }
}

fn assert_same(format: LineForm, events: impl Fn()) {
    let ours = timeless(format, Formatter::Ours, &events);
    assert!(!ours.is_empty());
    assert_eq!(ours, timeless(format, Formatter::Usual, &events));
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(&'static str, #[source] Option<Box<Failure>>);

fn all_kinds_of_events() {
    let absent: Option<&str> = None;
    let address = Some(Ipv4Addr::LOCALHOST);
    tracing::info!(
        upstream = "cisco",
        caller = absent,
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
    tracing::trace!(message = "a message that is a field", "dotted.name" = 1);
    tracing::error!(error = %Failure("it failed", None), "shown");
    let single = Failure("it failed", None);
    tracing::error!(error = &single as &(dyn Error + 'static), "without causes");
    tracing::info!(?address, list = ?["a\nb", "c"], empty = "", "{}", String::new());
    tracing::info!(bytes = &b"\x00\xff"[..], "raw");
}

#[test]
fn every_kind_of_field_is_written_as_the_usual_formatters_write_it() {
    assert_same(LineForm::Text, all_kinds_of_events);
    assert_same(LineForm::Json, all_kinds_of_events);
}

#[test]
fn the_causes_of_an_error_follow_it() {
    let events = || {
        let last = Failure("and that", None);
        let failure = Failure(
            "it failed",
            Some(Box::new(Failure("for this", Some(Box::new(last))))),
        );
        tracing::error!(error = &failure as &(dyn Error + 'static), "x");
    };
    let text = timeless(LineForm::Text, Formatter::Ours, events);
    assert_eq!(text, " ERROR x error=it failed: for this: and that\n");
    let json = written(LineForm::Json, Formatter::Ours, events);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["error"], "it failed: for this: and that");
}

#[test]
fn an_event_within_a_span_is_written_without_the_span() {
    let within = || tracing::info_span!("request", id = 7).in_scope(|| tracing::info!(status = 200, "x"));
    let text = timeless(LineForm::Text, Formatter::Ours, within);
    assert_eq!(text, "  INFO x status=200\n");
}

#[test]
fn no_value_makes_a_line_of_its_own() {
    let forged = "a\n2026-01-01T00:00:00.000000Z ERROR b\r\x1b[2J\x07\x00\x7f\u{9b}\u{202e}\u{a0}\t\u{2028}";
    let events = || {
        tracing::info!("{forged}");
        tracing::info!(message = forged);
        tracing::info!(text = forged, shown = %forged, debugged = ?debug(forged), "x");
        let failure = Failure("one\ntwo", Some(Box::new(Failure("three\nfour", None))));
        tracing::info!(error = &failure as &(dyn Error + 'static), "y");
    };
    let escaped = "a\\n2026-01-01T00:00:00.000000Z ERROR b\\r\\u{1b}[2J\\u{7}\\u{0}\\u{7f}\\u{9b}\\u{202e}\u{a0}\t\u{2028}";
    let quoted = format!("{forged:?}");
    let expected = [
        format!("  INFO {escaped}\n"),
        format!("  INFO {escaped}\n"),
        format!("  INFO x text={quoted} shown={escaped} debugged={quoted}\n"),
        "  INFO y error=one\\ntwo: three\\nfour\n".to_owned(),
    ];
    assert_eq!(
        timeless(LineForm::Text, Formatter::Ours, events),
        expected.concat()
    );

    let json = written(LineForm::Json, Formatter::Ours, events);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{json}");
    let is_left = |character: char| is_obeyed(character) && character != '\n';
    assert!(!json.contains(is_left), "{json:?}");
    assert_eq!(
        (&lines[2]["text"], &lines[2]["shown"]),
        (&forged.into(), &forged.into())
    );
}

#[test]
fn a_value_that_logs_while_it_is_formatted_spoils_no_line() {
    struct Chatty;
    impl Debug for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("from within");
            f.write_str("chatty")
        }
    }
    let text = timeless(
        LineForm::Text,
        Formatter::Ours,
        || tracing::info!(value = ?Chatty, "shown"),
    );
    assert!(text.ends_with("  INFO shown value=chatty\n"), "{text}");
}

proptest! {
    #[test]
    fn any_text_is_escaped_as_the_usual_formatters_do_it(text in any::<String>(), number in any::<i64>(), share in any::<f64>()) {
        // The usual formatters leave control characters in values shown with Display, and in JSON those above ASCII.
        let tame: String = text.chars().filter(|character| !is_obeyed(*character)).collect();
        assert_same(LineForm::Json, || {
            tracing::info!(text = tame, shown = %tame, debugged = ?text, number, share, "{tame}");
        });
        assert_same(LineForm::Text, || {
            tracing::info!(text, shown = %tame, debugged = ?text, number, share, "{tame}");
        });
    }
}

#[test]
fn an_error_of_the_system_has_no_number() {
    let error = std::io::Error::from_raw_os_error(2);
    let text = error.to_string().replace(" (os error 2)", "");
    for format in [LineForm::Text, LineForm::Json] {
        let line = written(
            format,
            Formatter::Ours,
            || tracing::error!(%error, reason = %error, source = &error as &(dyn Error + 'static), "x"),
        );
        assert_eq!(line.matches(&text).count(), 3, "{line}");
        assert!(!line.contains("os error"), "{line}");
    }
}
