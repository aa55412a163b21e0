//! Reads `application/x-www-form-urlencoded` strictly, for the identity service.
//!
//! Lenient readers are why a secret with a bare `+` or `%` fails silently elsewhere: the `+` is taken for a space and
//! the login is refused as if the secret were wrong. Here what cannot be decoded is named.

use std::fmt;

/// Why a query or a form cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormError {
    /// A `%` that two hexadecimal digits do not follow.
    Percent(usize),
    /// A byte that must be percent-encoded.
    Raw(u8),
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormError::Percent(at) => write!(
                f,
                "the % at byte {at} is not followed by two hexadecimal digits: encode a % as %25"
            ),
            FormError::Raw(byte) => {
                write!(f, "the byte 0x{byte:02X} must be percent-encoded, as %{byte:02X}")
            }
            FormError::Utf8 => f.write_str("a name or value does not decode to UTF-8"),
        }
    }
}

/// The name and value pairs of `text`, in order, duplicates kept.
pub(super) fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    let mut pairs = Vec::new();
    let mut start = 0;
    for piece in text.split(|byte| *byte == b'&') {
        if !piece.is_empty() {
            let (name, value) = match piece.iter().position(|byte| *byte == b'=') {
                Some(at) => (
                    decoded(&piece[..at], start)?,
                    decoded(&piece[at + 1..], start + at + 1)?,
                ),
                None => (decoded(piece, start)?, String::new()),
            };
            pairs.push((name, value));
        }
        start += piece.len() + 1;
    }
    Ok(pairs)
}

/// One encoded name or value; the identifier and the secret of HTTP Basic are encoded in the same way
/// (RFC 6749 §2.3.1).
pub(super) fn component(text: &[u8]) -> Result<String, FormError> {
    decoded(text, 0)
}

fn decoded(text: &[u8], offset: usize) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = text
                    .get(at + 1..at + 3)
                    .and_then(|digits| Some((hexadecimal(digits[0])? << 4) | hexadecimal(digits[1])?));
                bytes.push(digits.ok_or(FormError::Percent(offset + at))?);
                at += 2;
            }
            0..=b' ' | 0x7f.. | b'"' | b'<' | b'>' => return Err(FormError::Raw(byte)),
            _ => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8(bytes).map_err(|_| FormError::Utf8)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_serializer_writes_is_read_back() {
        let secret = "a+b%c&d=e/f g~ü€'\"<>\u{7f}";
        let text = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_secret", secret)
            .append_pair("grant_type", "client_credentials")
            .finish();
        let read = pairs(text.as_bytes()).unwrap();
        assert_eq!(read[0], ("client_secret".into(), secret.into()));
        assert_eq!(read[1], ("grant_type".into(), "client_credentials".into()));
    }

    #[test]
    fn a_bare_plus_is_a_space() {
        assert_eq!(component(b"a+b"), Ok("a b".into()));
    }

    #[test]
    fn a_bare_percent_is_refused_with_its_place() {
        assert_eq!(pairs(b"a=1&b=50%"), Err(FormError::Percent(8)));
        assert_eq!(component(b"%4"), Err(FormError::Percent(0)));
        assert_eq!(component(b"%zz"), Err(FormError::Percent(0)));
        assert_eq!(component(b"%+1"), Err(FormError::Percent(0)));
    }

    #[test]
    fn bytes_that_must_be_encoded_are_refused() {
        assert_eq!(component(b"a b"), Err(FormError::Raw(b' ')));
        assert_eq!(component("ü".as_bytes()), Err(FormError::Raw(0xc3)));
        assert_eq!(component(b"{\"a\""), Err(FormError::Raw(b'"')));
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        assert_eq!(component(b"%ff"), Err(FormError::Utf8));
    }

    #[test]
    fn duplicates_and_empty_values_are_kept_and_empty_pieces_skipped() {
        assert_eq!(
            pairs(b"&a=1&&a=2&b&c="),
            Ok(vec![
                ("a".into(), "1".into()),
                ("a".into(), "2".into()),
                ("b".into(), String::new()),
                ("c".into(), String::new()),
            ])
        );
    }
}
