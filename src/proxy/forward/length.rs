//! The length in a response's head. An upstream may write it in more ways than one (`2, 2`, RFC 9110 §8.6), and
//! hyper's client reads them; its server writes a plain number alone.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// Has a head state this length, once and as a plain number, or none.
pub(super) fn set(headers: &mut HeaderMap, length: Option<u64>) {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (None, _) if length.is_none() => {}
        (Some(only), None) if length.is_some() && plain_number(only.as_bytes()) == length => {}
        _ => {
            headers.remove(CONTENT_LENGTH);
            if let Some(length) = length {
                headers.insert(CONTENT_LENGTH, length.into());
            }
        }
    }
}

/// The length that the head of a response to HEAD, or a 304, states for the body that is not there: one valid number,
/// however often it is there.
pub(super) fn stated(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut numbers = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = number(numbers.next()?)?;
    numbers.all(|other| number(other) == Some(first)).then_some(first)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A number without leading zeros.
fn plain_number(text: &[u8]) -> Option<u64> {
    let is_padded = text.len() > 1 && text.starts_with(b"0");
    if is_padded { None } else { number(text) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_length_is_told_once_and_as_a_plain_number() {
        for (lines, expected) in [
            (&["5"][..], Some(5)),
            (&["5, 5"], Some(5)),
            (&["5", "5 ,05"], Some(5)),
            (&["18446744073709551615"], Some(u64::MAX)),
            (&[], None),
            (&[""], None),
            (&["5, 6"], None),
            (&["5", "6"], None),
            (&["5,"], None),
            (&["+5"], None),
            (&["18446744073709551616"], None),
        ] {
            let mut told = HeaderMap::new();
            for line in lines {
                told.append(CONTENT_LENGTH, HeaderValue::from_static(line));
            }
            assert_eq!(stated(&told), expected, "{lines:?}");
            for length in [Some(5), None] {
                set(&mut told, length);
                let lines: Vec<_> = told.get_all(CONTENT_LENGTH).iter().collect();
                assert_eq!(lines, length.map(|_| "5").into_iter().collect::<Vec<_>>());
            }
        }
    }
}
