//! Durations and sizes as an operator writes them: `"2s"`, `"16MiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::section::Written;

/// A length of time, written with its unit: `"500ms"`, `"2s"`, `"5m"`, `"1h"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

/// A number of bytes, written with its unit: `"64KiB"`, `"16MiB"`; a bare `"8192"` is bytes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Size(pub(super) u64);

/// A duration or size that cannot be read, and how to write one.
#[derive(Debug)]
pub(super) struct UnitError {
    text: String,
    kind: &'static str,
    mend: &'static str,
}

const SPAN_FORM: &str = "a duration in quotes, like \"500ms\", \"2s\", \"5m\" or \"1h\"";
const SIZE_FORM: &str = "a size in quotes, like \"8192\", \"64KiB\", \"16MiB\" or \"1GiB\"";

const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
    ("", 1),
];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        scaled(text, TIMES)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| UnitError {
                text: text.to_owned(),
                kind: "a duration",
                mend: SPAN_FORM,
            })
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        scaled(text, SIZES).map(Self).ok_or_else(|| UnitError {
            text: text.to_owned(),
            kind: "a size",
            mend: SIZE_FORM,
        })
    }
}

impl Written for Span {
    const FORM: &'static str = SPAN_FORM;
}

impl Written for Size {
    const FORM: &'static str = SIZE_FORM;
}

impl TryFrom<String> for Span {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for Size {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}; write {}", self.text, self.kind, self.mend)
    }
}

/// Digits, then one of `units`; nothing for anything else, or for what does not fit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        let read = |text: &str| text.parse::<Span>().ok().map(|span| span.0);
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("2s"), Some(Duration::from_secs(2)));
        assert_eq!(read("5m"), Some(Duration::from_secs(300)));
        assert_eq!(read("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "s", "5", "5 s", "-5s", "1.5s", "5x", "99999999999999999999s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_a_number_with_an_optional_unit() {
        let read = |text: &str| text.parse::<Size>().ok().map(|size| size.0);
        assert_eq!(read("8192"), Some(8192));
        assert_eq!(read("64KiB"), Some(65536));
        assert_eq!(read("16MiB"), Some(16 << 20));
        for wrong in ["", "KiB", "16MB", "16 MiB", "-1", "18446744073709551615GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_unit_panic(text in ".*") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Size>();
        }
    }
}
