//! Times, durations and sizes as the page shows them.

use std::fmt;
use std::time::{Duration, SystemTime};

use askama::filters::HtmlSafe;

/// The clock that relative times follow; `None` to leave them out.
pub(super) type Clock = Option<SystemTime>;

/// A time: how long ago it is or when it will be, and the timestamp beside it. Is HTML.
///
/// Without `now` the relative part is empty, and the script in the page fills it: so the same state is the same HTML at
/// any time.
#[derive(Clone, Copy)]
pub(super) struct When {
    pub(super) at: SystemTime,
    pub(super) now: Clock,
}

/// The same with the time of the day alone, for long lists. Is HTML.
#[derive(Clone, Copy)]
pub(super) struct TimeOfDay(pub(super) When);

impl HtmlSafe for When {}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = rfc3339(self.at);
        let text = stamp.replace('T', " ").replace('Z', " UTC");
        self.write(f, &stamp, &text)
    }
}

impl HtmlSafe for TimeOfDay {}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = rfc3339(self.0.at);
        let (_, time) = stamp.split_once('T').unwrap_or_default();
        self.0.write(f, &stamp, time.trim_end_matches('Z'))
    }
}

impl When {
    fn write(self, f: &mut fmt::Formatter<'_>, stamp: &str, text: &str) -> fmt::Result {
        let ago = self.now.map(|now| relative(self.at, now)).unwrap_or_default();
        write!(
            f,
            "<time datetime=\"{stamp}\"><span class=\"ago\">{ago}</span> <span class=\"stamp\">{text}</span></time>"
        )
    }
}

/// RFC 3339, rounded to whole seconds.
pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at + Duration::from_millis(500)).to_string()
}

/// `3 min ago`, `in 2 h`.
pub(super) fn relative(at: SystemTime, now: SystemTime) -> String {
    match at.duration_since(now) {
        Ok(ahead) if ahead.as_secs() > 0 => format!("in {}", span(ahead)),
        Ok(_) => "now".to_owned(),
        Err(past) if past.duration().as_secs() == 0 => "now".to_owned(),
        Err(past) => format!("{} ago", span(past.duration())),
    }
}

/// A span of time in its largest unit: `59 s`, `3 min`, `47 h`, `12 d`, `2 years`.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds @ 172_800..63_072_000 => format!("{} d", seconds / 86_400),
        seconds => format!("{} years", seconds / 31_536_000),
    }
}

/// A short duration with three digits: `240 µs`, `1.25 ms`, `12.5 s`.
pub(super) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (value, unit) = match micros {
        ..1000 => return format!("{micros} µs"),
        1000..1_000_000 => (duration.as_secs_f64() * 1e3, "ms"),
        _ => (duration.as_secs_f64(), "s"),
    };
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {unit}")
}

/// A size: `512 B`, `1.5 kB`, `20 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    let unit = UNITS[unit];
    match (tenths / 10, tenths % 10) {
        (whole @ ..10, part) => format!("{whole}.{part} {unit}"),
        (whole, _) => format!("{whole} {unit}"),
    }
}

/// `1 request`, `2 requests`.
pub(super) fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_time_is_relative_to_now_in_its_largest_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let text = |seconds: i64| {
            let by = Duration::from_secs(seconds.unsigned_abs());
            relative(if seconds < 0 { now - by } else { now + by }, now)
        };
        for (seconds, expected) in [
            (0, "now"),
            (-1, "1 s ago"),
            (-119, "119 s ago"),
            (-120, "2 min ago"),
            (90, "in 90 s"),
            (7200, "in 2 h"),
            (-172_800, "2 d ago"),
        ] {
            assert_eq!(text(seconds), expected);
        }
        let when = |now| When { at: UNIX_EPOCH, now }.to_string();
        assert!(when(Some(now)).contains("<span class=\"ago\">55 years ago</span>"));
        assert!(when(None).contains("datetime=\"1970-01-01T00:00:00Z\"><span class=\"ago\"></span>"));
    }

    #[test]
    fn durations_and_sizes_have_the_unit_that_suits_them() {
        for (micros, expected) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1250, "1.25 ms"),
            (40_000, "40.0 ms"),
            (250_000, "250 ms"),
            (12_500_000, "12.5 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
        for (size, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1500, "1.5 kB"),
            (20_000_000, "20 MB"),
            (1_999_999, "1.9 MB"),
            (5_000_000_000_000_000, "5000 TB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
        assert_eq!(
            (count(1, "error"), count(0, "error")),
            ("1 error".into(), "0 errors".into())
        );
    }
}
