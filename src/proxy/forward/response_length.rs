//! `Content-Length` of a response. An upstream may repeat it (`2, 2`, RFC 9110 §8.6): hyper's client accepts that, but its
//! server writes only a single plain number.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};

/// Sets the length as a plain number, or removes the field.
pub(super) fn set(headers: &mut HeaderMap, length: Option<u64>) {
    let mut buffer = itoa::Buffer::new();
    let number = length.map(|length| buffer.format(length).as_bytes());
    let mut lines = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    if (lines.next(), lines.next()) == (number, None) {
        return;
    }
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// The length that the head of a response to HEAD, or of a 304, announces for the body that is not sent: one valid number,
/// possibly repeated.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut numbers = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = number(numbers.next()?)?;
    numbers.all(|other| number(other) == Some(first)).then_some(first)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(text.trim_ascii()).ok()?;
    // `parse` also accepts a plus sign.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_announced_once_and_as_a_plain_number() {
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
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(line));
            }
            assert_eq!(announced(&headers), expected, "{lines:?}");
            for length in [Some(5), None] {
                set(&mut headers, length);
                let lines: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
                assert_eq!(lines, length.map(|_| "5").into_iter().collect::<Vec<_>>());
            }
        }
    }
}
