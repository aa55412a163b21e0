//! The identifiers by which a request is followed from system to system.

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::telemetry::excerpt;

/// Identifies a request for its caller, bondgate and Cisco.
pub(super) static CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
/// The trace that a request belongs to (W3C Trace Context).
pub(super) static TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The part of an identifier that is logged, in bytes.
const LONGEST: usize = 128;

/// A random identifier in the form of a UUID (RFC 9562, version 4).
pub(super) fn new_correlation_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("hexadecimal digits and dashes are visible ASCII")
}

/// An identifier as it is logged: its first bytes, if it is text.
pub(super) fn text(value: &HeaderValue) -> Option<&str> {
    let text = str::from_utf8(value.as_bytes()).ok()?;
    Some(excerpt(text, LONGEST))
}

/// The trace id of a valid `traceparent`.
pub(super) fn trace_id(value: &HeaderValue) -> Option<&str> {
    let mut parts = value.to_str().ok()?.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        text.len() == length && text.bytes().all(is_digit)
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    is_valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_new_correlation_id_is_a_random_uuid() {
        let ids: HashSet<_> = (0..1000).map(|_| new_correlation_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let id = id.to_str().unwrap();
            let parts: Vec<_> = id.split('-').collect();
            let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4'), "{id}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
            assert!(
                id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                "{id}"
            );
        }
    }

    #[test]
    fn an_identifier_is_logged_as_text_up_to_its_limit() {
        let logged = |bytes: &[u8]| text(&HeaderValue::from_bytes(bytes).unwrap()).map(str::to_owned);
        assert_eq!(logged(b"INC-4711").as_deref(), Some("INC-4711"));
        assert_eq!(logged("St\u{f6}rung".as_bytes()).as_deref(), Some("St\u{f6}rung"));
        assert_eq!(logged(b"St\xf6rung"), None);
        assert_eq!(logged(&[b'x'; 200]), Some("x".repeat(LONGEST)));
    }

    #[test]
    fn the_trace_id_is_taken_from_a_valid_field_alone() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id = |text: &str| trace_id(&HeaderValue::from_str(text).unwrap()).map(str::to_owned);
        for valid in [
            format!("00-{trace}-00f067aa0ba902b7-01"),
            format!("01-{trace}-00f067aa0ba902b7-01-later"),
        ] {
            assert_eq!(id(&valid).as_deref(), Some(trace), "{valid}");
        }
        for invalid in [
            String::new(),
            trace.to_owned(),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("00-{trace}-00f067aa0ba902b7"),
        ] {
            assert_eq!(id(&invalid), None, "{invalid}");
        }
    }
}
