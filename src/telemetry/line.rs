//! Formats a log line, as text or as JSON.
//!
//! The formatter is our own because each request writes a line: with tracing-subscriber's formatters a request costs
//! 12 % (text) or 18 % (JSON) more instructions, 8,400 or 12,300 of 68,500 (`.ci/instructions`).
//!
//! Line breaks and control characters are escaped, so that no value can forge a line or control a terminal. Spans are
//! left out: neither bondgate nor a library that it uses opens any.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::problems::without_error_number;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineForm {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// The formatter for tracing-subscriber's layer.
pub(super) struct LineFormatter(pub(super) LineForm);

impl<S, N> FormatEvent<S, N> for LineFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // humantime cannot format a time before 1970.
        let now = humantime::format_rfc3339_micros(SystemTime::now().max(UNIX_EPOCH));
        let level = event.metadata().level();
        // Writing to memory cannot fail.
        match self.0 {
            LineForm::Text => {
                let mut line = String::with_capacity(512);
                let _ = write!(line, "{now}");
                line.push_str(padded(*level));
                event.record(&mut TextFields(&mut line));
                line.push('\n');
                writer.write_str(&line)
            }
            LineForm::Json => {
                let mut line = Vec::with_capacity(512);
                let _ = io::Write::write_fmt(&mut line, format_args!(r#"{{"timestamp":"{now}","level":""#));
                line.extend_from_slice(level.as_str().as_bytes());
                line.push(b'"');
                event.record(&mut JsonFields(&mut line));
                line.extend_from_slice(b"}\n");
                writer.write_str(str::from_utf8(&line).unwrap_or_default())
            }
        }
    }
}

/// A level in a column of its own.
fn padded(level: Level) -> &'static str {
    match level {
        Level::TRACE => " TRACE",
        Level::DEBUG => " DEBUG",
        Level::INFO => "  INFO",
        Level::WARN => "  WARN",
        Level::ERROR => " ERROR",
    }
}

/// The message of an event and its fields, as in a line of text.
pub(super) fn text_of(event: &Event<'_>) -> String {
    let mut text = String::new();
    event.record(&mut TextFields(&mut text));
    text
}

/// When a line, or its beginning, was written by this formatter.
#[must_use]
pub fn log_line_time(line: &[u8]) -> Option<SystemTime> {
    let line = line.strip_prefix(br#"{"timestamp":""#).unwrap_or(line);
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'"'))?;
    humantime::parse_rfc3339(str::from_utf8(&line[..end]).ok()?).ok()
}

/// Whether a text needs no escapes between quotation marks, in either form.
fn is_plain(text: &str) -> bool {
    let is_special = |byte| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\';
    // Without an early end, the compiler checks many bytes at once.
    !text.bytes().fold(false, |found, byte| found | is_special(byte))
}

/// Appends ` name=value` for each field, and the message without its name.
struct TextFields<'a>(&'a mut String);

impl TextFields<'_> {
    fn append_name(&mut self, field: &Field) {
        self.0.push(' ');
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
    }
}

impl Visit for TextFields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.append_name(field);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.append_name(field);
        self.0.push_str(if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_message = field.name() == "message";
        match is_plain(value) {
            true if is_message => self.0.extend([" ", value]),
            true => self.0.extend([" ", field.name(), "=\"", value, "\""]),
            false if is_message => self.record_debug(field, &format_args!("{value}")),
            false => self.record_debug(field, &value),
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", with_causes(error)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.append_name(field);
        let start = self.0.len();
        let _ = if is_reason(field) {
            self.0.write_str(&without_error_number(format!("{value:?}")))
        } else {
            write!(self.0, "{value:?}")
        };
        escape_control_characters(self.0, start);
    }
}

/// Whether a value may be an error of the system, whose number says nothing more than its words.
fn is_reason(field: &Field) -> bool {
    matches!(field.name(), "error" | "reason")
}

/// Escapes what a message, or a value's `Display` or `Debug`, left unescaped; strings are escaped already.
fn escape_control_characters(line: &mut String, start: usize) {
    // The last three begin, among others, the characters beyond ASCII that are obeyed.
    let is_suspect = |byte: &u8| *byte < b' ' || matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2);
    if !line.as_bytes()[start..].iter().any(is_suspect) {
        return;
    }
    let value = line.split_off(start);
    for character in value.chars() {
        if is_obeyed(character) && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Appends `,"name":value` for each field.
struct JsonFields<'a>(&'a mut Vec<u8>);

impl JsonFields<'_> {
    /// A name is that of a variable in the code, or a literal there without special characters.
    fn append_name(&mut self, field: &Field) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(field.name().as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn append(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        self.append_name(field);
        // Writing to memory cannot fail, and a number or text can always be serialized.
        let mut serializer = serde_json::Serializer::with_formatter(&mut *self.0, ForTerminals);
        let _ = value.serialize(&mut serializer);
    }
}

/// Whether a terminal obeys a character instead of showing it: a control character, or one that changes the direction of
/// the text that follows (Unicode Standard Annex #9).
#[must_use]
pub fn is_obeyed(character: char) -> bool {
    let is_directional = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_directional
}

/// Escapes what JSON allows in a text and a terminal obeys.
struct ForTerminals;

impl serde_json::ser::Formatter for ForTerminals {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if is_obeyed(character) {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            } else {
                writer.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if !is_plain(value) {
            return self.append(field, value);
        }
        self.append_name(field);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.append_name(field);
        self.0
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.append(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.append(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.append(field, &value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.append(field, &with_causes(error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if is_reason(field) {
            self.append(field, &without_error_number(format!("{value:?}")));
        } else {
            self.append(field, &format_args!("{value:?}"));
        }
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| (**cause).source());
    without_error_number(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
