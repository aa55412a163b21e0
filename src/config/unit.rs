//! Durations and sizes with a unit: `"2s"`, `"16MiB"`. A `positive` one is not 0.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Deserializes a length of time: `"500ms"`, `"2s"`, `"5m"`, `"1h"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

pub(super) fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(deserializer).and_then(checked)
}

/// Deserializes at least one length of time.
pub(super) fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(de::Error::custom("is empty; leave it out for the default"));
    }
    let durations = texts.iter().map(|text| parse_duration(text));
    durations.collect::<Result<_, _>>().map_err(de::Error::custom)
}

/// Deserializes a number of bytes: `"64KiB"`, `"16MiB"`; `"8192"` is bytes.
pub(super) fn size<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    parse_size(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

pub(super) fn positive_size<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64> + Default + PartialEq,
{
    size(deserializer).and_then(checked)
}

pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).and_then(checked)
}

fn checked<T: Default + PartialEq, E: de::Error>(value: T) -> Result<T, E> {
    if value == T::default() {
        return Err(E::custom(
            "is 0, which allows nothing; leave it out for the default",
        ));
    }
    Ok(value)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let milliseconds = scaled(text, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]);
    milliseconds.map(Duration::from_millis).ok_or_else(|| {
        format!("{text:?} is not a duration; write it like \"500ms\", \"2s\", \"5m\" or \"1h\"")
    })
}

fn parse_size<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let bytes = scaled(
        text,
        &[
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("B", 1),
            ("", 1),
        ],
    );
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("{text:?} is not a size; write it like \"8192\", \"64KiB\", \"16MiB\" or \"1GiB\"")
    })
}

/// A number with one of `units`; `None` for anything else, and for an overflow.
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
        let read = |text: &str| parse_duration(text).ok();
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
        let read = |text: &str| parse_size::<u64>(text).ok();
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
            let _ = (parse_duration(&text), parse_size::<u64>(&text));
        }
    }
}
