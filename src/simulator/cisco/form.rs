//! Strict parsing of `application/x-www-form-urlencoded`, for the identity service.
//!
//! A lenient parser decodes a secret with a bare `%` to something else, and the login fails as if the secret were
//! wrong. Here the error names the place.

/// The name and value pairs of `text`, in order, with duplicates.
pub(super) fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    validate(text)?;
    decode(text)
}

/// One encoded value, as HTTP Basic has it for the client id and the secret (RFC 6749 §2.3.1).
pub(super) fn value(text: &str) -> Result<String, String> {
    validate(text.as_bytes())?;
    let pair = format!("={}", text.replace('&', "%26"));
    let pairs = decode(pair.as_bytes())?;
    Ok(pairs.into_iter().map(|(_, value)| value).collect())
}

fn validate(text: &[u8]) -> Result<(), String> {
    for (at, &byte) in text.iter().enumerate() {
        let is_hexadecimal = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        if byte == b'%' && !text.get(at + 1..at + 3).is_some_and(is_hexadecimal) {
            return Err(format!(
                "the % at byte {at} is not followed by two hexadecimal digits: encode a % as %25"
            ));
        }
        if matches!(byte, 0..=b' ' | 0x7f.. | b'"' | b'<' | b'>') {
            return Err(format!(
                "the byte 0x{byte:02X} must be percent-encoded, as %{byte:02X}"
            ));
        }
    }
    Ok(())
}

fn decode(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(text).into_owned().collect();
    // The parser's replacement for bytes that are not UTF-8.
    if pairs
        .iter()
        .any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'))
    {
        return Err("a name or value does not decode to UTF-8".to_owned());
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_form_serializer_is_parsed_back() {
        let secret = "a+b%c&d=e/f g~ü€'\"<>\u{7f}";
        let text = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_secret", secret)
            .append_pair("grant_type", "client_credentials")
            .finish();
        let parsed = pairs(text.as_bytes()).unwrap();
        assert_eq!(parsed[0], ("client_secret".into(), secret.into()));
        assert_eq!(parsed[1], ("grant_type".into(), "client_credentials".into()));
    }

    #[test]
    fn a_bare_plus_is_a_space() {
        assert_eq!(value("a+b"), Ok("a b".into()));
    }

    #[test]
    fn a_single_value_may_hold_separators() {
        assert_eq!(value("a&b=c%26"), Ok("a&b=c&".into()));
    }

    #[test]
    fn a_bare_percent_is_refused_with_its_position() {
        for (text, position) in [("a=1&b=50%", 8), ("%4", 0), ("%zz", 0), ("%+1", 0)] {
            let error = pairs(text.as_bytes()).unwrap_err();
            assert!(error.contains(&format!("the % at byte {position}")), "{error}");
        }
    }

    #[test]
    fn bytes_that_must_be_encoded_are_refused() {
        for (text, byte) in [("a b", "0x20"), ("ü", "0xC3"), ("{\"a\"", "0x22")] {
            let error = pairs(text.as_bytes()).unwrap_err();
            assert!(error.contains(byte), "{error}");
        }
    }

    #[test]
    fn a_value_that_is_not_utf8_is_refused() {
        assert!(pairs(b"a=%ff").unwrap_err().contains("UTF-8"));
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
