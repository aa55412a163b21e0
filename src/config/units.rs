//! Durations and sizes, written with a unit: `"2s"`, `"16MiB"`.

use std::time::Duration;

use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Deserializer};

/// A quantity with a unit.
pub(super) trait Quantity: Default + PartialEq {
    /// The kind, and examples.
    const FORM: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

impl Quantity for Duration {
    const FORM: &'static str = "a duration; write it like \"500ms\", \"2s\", \"5m\" or \"1h\"";

    fn parse(text: &str) -> Option<Self> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        scaled(text, &units).map(Self::from_millis)
    }
}

/// A number of bytes.
impl Quantity for u64 {
    const FORM: &'static str = "a size; write it like \"8192\", \"64KiB\", \"16MiB\" or \"1GiB\"";

    fn parse(text: &str) -> Option<Self> {
        let (kib, mib, gib) = (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30));
        scaled(text, &[kib, mib, gib, ("B", 1), ("", 1)])
    }
}

impl Quantity for usize {
    const FORM: &'static str = u64::FORM;

    fn parse(text: &str) -> Option<Self> {
        u64::parse(text)?.try_into().ok()
    }
}

/// Deserializes a quantity.
pub(super) fn quantity<'de, D: Deserializer<'de>, T: Quantity>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is not {}", T::FORM)))
}

/// Deserializes a quantity above 0.
pub(super) fn positive<'de, D: Deserializer<'de>, T: Quantity>(deserializer: D) -> Result<T, D::Error> {
    quantity(deserializer).and_then(checked)
}

/// Deserializes a quantity above 0 of a key that may be left out.
pub(super) fn positive_if_set<'de, D: Deserializer<'de>, T: Quantity>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    positive(deserializer).map(Some)
}

/// Deserializes a number above 0.
pub(super) fn positive_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).and_then(checked)
}

/// Deserializes at least one duration.
pub(super) fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(de::Error::custom("is empty; leave it out for the default"));
    }
    let texts = texts.into_iter().map(IntoDeserializer::into_deserializer);
    texts.map(quantity).collect()
}

fn checked<T: Default + PartialEq, E: de::Error>(value: T) -> Result<T, E> {
    if value == T::default() {
        let what = "is 0, which allows nothing; leave it out for the default";
        return Err(E::custom(what));
    }
    Ok(value)
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
        let read = |text: &str| Duration::parse(text);
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
        let read = |text: &str| u64::parse(text);
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
            let _ = (Duration::parse(&text), u64::parse(&text));
        }
    }
}
