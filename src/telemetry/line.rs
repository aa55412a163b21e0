//! Log lines as tracing-subscriber's own formatters write them, at a fraction of their cost: each request has one.
//!
//! Where the two differ, it is for the better: in text, a line break or control character in a message or in a
//! value that is shown with `Display` cannot make a line of its own. What happens within a span, which no code of
//! ours opens, is left to tracing-subscriber.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Text, without colours; around the formatter that it stands for.
pub(super) struct TextLine<F>(pub(super) F);

/// JSON, its fields beside time and level; around the formatter that it stands for.
pub(super) struct JsonLine<F>(pub(super) F);

impl<F, S, N> FormatEvent<S, N> for TextLine<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if is_within_span(context, event) {
            return self.0.format_event(context, writer, event);
        }
        with_scratch(|line, now| {
            line.push_str(now);
            line.push_str(match *event.metadata().level() {
                Level::ERROR => " ERROR",
                Level::WARN => "  WARN",
                Level::INFO => "  INFO",
                Level::DEBUG => " DEBUG",
                Level::TRACE => " TRACE",
            });
            // Where there is no field at all, the level is followed by a space, too.
            let mut fields = TextFields { line, is_first: true };
            fields.line.push(' ');
            event.record(&mut fields);
            line.push('\n');
            writer.write_str(line)
        })
    }
}

impl<F, S, N> FormatEvent<S, N> for JsonLine<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if is_within_span(context, event) {
            return self.0.format_event(context, writer, event);
        }
        with_scratch(|line, now| {
            line.push_str("{\"timestamp\":\"");
            line.push_str(now);
            line.push_str("\",\"level\":\"");
            line.push_str(event.metadata().level().as_str());
            line.push('"');
            event.record(&mut JsonFields { line });
            line.push_str("}\n");
            writer.write_str(line)
        })
    }
}

fn is_within_span<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> bool
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    event.parent().is_some() || context.lookup_current().is_some()
}

/// What a thread uses again for each line.
#[derive(Default)]
struct Scratch {
    line: String,
    stamp: Stamp,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Gives `write` an empty line and the time.
fn with_scratch(write: impl FnOnce(&mut String, &str) -> fmt::Result) -> fmt::Result {
    // A value that logs while it is shown finds one that is new.
    let mut scratch = SCRATCH.take();
    scratch.line.clear();
    let written = write(&mut scratch.line, scratch.stamp.at(SystemTime::now()));
    SCRATCH.set(scratch);
    written
}

/// A time as RFC 3339 has it, in UTC; of one second to the next only the microseconds are written anew.
#[derive(Default)]
struct Stamp {
    second: u64,
    text: String,
}

impl Stamp {
    fn at(&mut self, now: SystemTime) -> &str {
        // A clock before 1970 is not set: its time says nothing.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            // It fails from the year 10000 on, and that line has no time.
            let _ = write!(
                self.text,
                "{}",
                humantime::format_rfc3339_seconds(UNIX_EPOCH + since)
            );
        }
        // All but the Z, or the microseconds of before.
        self.text.truncate("2026-01-01T00:00:00".len());
        self.text.push('.');
        push_digits(&mut self.text, since.subsec_micros().into(), 6);
        self.text.push('Z');
        &self.text
    }
}

struct TextFields<'a> {
    line: &'a mut String,
    is_first: bool,
}

impl TextFields<'_> {
    fn name(&mut self, field: &Field) {
        if !std::mem::take(&mut self.is_first) {
            self.line.push(' ');
        }
        let name = field.name();
        if name != "message" {
            self.line.push_str(name.strip_prefix("r#").unwrap_or(name));
            self.line.push('=');
        }
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        if field.name() == "message" {
            let _ = InText(self.line).write_str(value);
        } else if value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
        {
            self.line.push('"');
            self.line.push_str(value);
            self.line.push('"');
        } else {
            let _ = write!(self.line, "{value:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        push_digits(self.line, value, 1);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        push_signed(self.line, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.push_str(if value { "true" } else { "false" });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.name(field);
        let mut to = InText(self.line);
        let _ = write!(to, "{value}");
        if let Some(source) = value.source() {
            let _ = write!(to, " {}.sources={:?}", field.name(), Sources(source));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        let _ = write!(InText(self.line), "{value:?}");
    }
}

/// An error and what caused it.
struct Sources<'a>(&'a (dyn Error + 'static));

impl Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = std::iter::successors(Some(self.0), |error| (**error).source());
        f.debug_list()
            .entries(sources.map(tracing::field::display))
            .finish()
    }
}

/// Takes somebody's text for a line of text: it stays one line, and tells a terminal nothing.
struct InText<'a>(&'a mut String);

impl fmt::Write for InText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // C2 begins, among others, the control characters beyond ASCII.
        let is_plain = |byte| byte >= b' ' && byte != 0x7f && byte != 0xc2;
        if text.bytes().all(is_plain) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character {
                '\t' => self.0.push('\t'),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\0'..='\x1f' | '\x7f' => write!(self.0, "\\x{:02x}", u32::from(character))?,
                '\u{80}'..='\u{9f}' => write!(self.0, "\\u{{{:x}}}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

struct JsonFields<'a> {
    line: &'a mut String,
}

impl JsonFields<'_> {
    fn name(&mut self, field: &Field) {
        self.line.push_str(",\"");
        let _ = InJson(self.line).write_str(field.name());
        self.line.push_str("\":");
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.line.push('"');
        let _ = InJson(self.line).write_str(value);
        self.line.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        push_digits(self.line, value, 1);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        push_signed(self.line, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field);
        // Neither infinite nor no number at all is a number in JSON.
        let number = serde_json::Number::from_f64(value);
        let _ = match number {
            Some(number) => write!(self.line, "{number}"),
            None => self.line.write_str("null"),
        };
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.push_str(if value { "true" } else { "false" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        self.line.push('"');
        let _ = write!(InJson(self.line), "{value:?}");
        self.line.push('"');
    }
}

/// Takes somebody's text for a string of JSON.
struct InJson<'a>(&'a mut String);

impl fmt::Write for InJson<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text
            .bytes()
            .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
        {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                '\x08' => self.0.push_str("\\b"),
                '\x0c' => self.0.push_str("\\f"),
                '\0'..='\x1f' => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

fn push_signed(line: &mut String, value: i64) {
    if value < 0 {
        line.push('-');
    }
    push_digits(line, value.unsigned_abs(), 1);
}

/// All numbers of two digits.
const PAIRS: &str = "\
    0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
    5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// A number of at least so many digits.
fn push_digits(line: &mut String, value: u64, least: usize) {
    if value >= 100 || least > 2 {
        push_digits(line, value / 100, least.saturating_sub(2));
    }
    let from = usize::try_from(value % 100).expect("it is below 100") * 2;
    let is_short = value < 10 && least < 2;
    line.push_str(&PAIRS[from + usize::from(is_short)..from + 2]);
}
