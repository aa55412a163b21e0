//! Validates the target of a request line, and percent-encodes characters that a query must not have (RFC 3986 §3.4).
//!
//! Old tools send `"`, `<`, `>`, `[`, `]`, `\`, `^`, a backquote, `{`, `|`, `}` and non-ASCII bytes unencoded in queries.
//! Encoding them changes no meaning, and upstreams accept the request. `%` is left as it is. A path is never changed,
//! since rules are checked on its bytes.

use std::ops::Range;

use http::Uri;

use super::refusal_responses::{malformed, method_not_relayed, target_too_long, too_large};
use crate::config::Limits;
use crate::server::problem::ProblemResponse;

/// Validates the target in a complete head whose lines end in CR LF. Returns the head for hyper if characters of the
/// query had to be encoded. An invalid request line is left to the parser.
///
/// `limits.target` and `limits.head` apply to the encoded target, in which an encoded byte counts as three.
pub(super) fn validate(head: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, ProblemResponse> {
    let Some((method, range)) = split_line(head) else {
        return Ok(None);
    };
    refuse_method(method)?;
    let target = &head[range.clone()];
    if target.len() > limits.target {
        return Err(target_too_long(limits));
    }
    let query_at = memchr::memchr(b'?', target).map_or(target.len(), |at| at + 1);
    let (path, query) = target.split_at(query_at);
    let part = if target.starts_with(b"/") {
        "path"
    } else {
        "target"
    };
    refuse_character(part, path, is_allowed_in_path)?;
    refuse_character("query", query, is_allowed_in_query)?;
    let growth = 2 * query.iter().filter(|byte| !is_plain(**byte)).count();
    if growth == 0 {
        validate_form(target)?;
        return Ok(None);
    }
    if target.len() + growth > limits.target {
        return Err(target_too_long(limits));
    }
    if head.len() + growth > limits.head {
        return Err(too_large(limits));
    }
    let query_at = range.start + query_at;
    let mut encoded = Vec::with_capacity(head.len() + growth);
    encoded.extend_from_slice(&head[..query_at]);
    for &byte in query {
        if is_plain(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    validate_form(&encoded[range.start..])?;
    encoded.extend_from_slice(&head[range.end..]);
    Ok(Some(encoded))
}

/// Characters of a query (RFC 3986 §3.4), and the percent sign of an encoding; also of a path.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// In a query these are plain or encoded.
fn is_allowed_in_query(byte: u8) -> bool {
    byte > b' ' && byte != b'#' && byte != 0x7f
}

/// The rest of a path is checked with the rules. The `http` crate refuses `<`, `>` and the backquote.
fn is_allowed_in_path(byte: u8) -> bool {
    is_allowed_in_query(byte) && byte.is_ascii() && !b"<>`".contains(&byte)
}

/// The method, and where the target is.
fn split_line(head: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let line = &head[..memchr::memchr(b'\n', head)?];
    let rest = line
        .strip_suffix(b" HTTP/1.1\r")
        .or_else(|| line.strip_suffix(b" HTTP/1.0\r"))?;
    let method = memchr::memchr(b' ', rest)?;
    Some((&head[..method], method + 1..rest.len()))
}

fn refuse_method(method: &[u8]) -> Result<(), ProblemResponse> {
    let (reason, fix) = if method.eq_ignore_ascii_case(b"CONNECT") {
        (
            "CONNECT is not relayed",
            "configure bondgate as the tool's server, not as its proxy",
        )
    } else if method.eq_ignore_ascii_case(b"TRACE") {
        (
            "TRACE is not relayed: its response would contain the token",
            "use another method",
        )
    } else {
        return Ok(());
    };
    Err(method_not_relayed(reason, fix))
}

/// Origin-form or absolute-form (RFC 9112 §3.2) that hyper accepts: its own response to others has no body.
fn validate_form(target: &[u8]) -> Result<(), ProblemResponse> {
    // The `http` crate accepts every path and query whose characters were allowed.
    if target.starts_with(b"/") {
        return Ok(());
    }
    let is_scheme = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if !is_scheme(b"http://") && !is_scheme(b"https://") {
        return Err(malformed(
            "the request's target does not begin with a slash",
            "send one like /path",
        ));
    }
    match Uri::try_from(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(malformed(
            "the request's target is not a valid URL",
            "send one like /path",
        )),
    }
}

/// Refuses the first character that is not allowed in a part of the target. The response names that character only: the
/// rest may be secret.
fn refuse_character(part: &str, bytes: &[u8], is_allowed: fn(u8) -> bool) -> Result<(), ProblemResponse> {
    let Some(at) = bytes.iter().position(|byte| !is_allowed(*byte)) else {
        return Ok(());
    };
    let byte = bytes[at];
    let first = bytes[at..].utf8_chunks().next();
    let character = first.and_then(|chunk| chunk.valid().chars().next());
    let length = character.map_or(1, char::len_utf8);
    let encoded = bytes[at..at + length]
        .iter()
        .fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
    let name = match (byte, character) {
        (b' ', _) => "a space".to_owned(),
        (b'#', _) => "'#', which begins a fragment".to_owned(),
        (0..0x20 | 0x7f, _) => format!("the control character 0x{byte:02X}"),
        (0x80.., None) => format!("the byte 0x{byte:02X}"),
        // Others could control a terminal.
        (0x80.., Some(c)) if !c.is_alphanumeric() => format!("the character U+{:04X}", u32::from(c)),
        (0x80.., Some(c)) => format!("'{c}' (U+{:04X})", u32::from(c)),
        _ => format!("'{}'", char::from(byte)),
    };
    let fix = match byte {
        b'#' => format!("send it as {encoded}, or leave the fragment out"),
        0..0x20 | 0x7f => "leave it out".to_owned(),
        _ => format!("send it as {encoded}"),
    };
    Err(malformed(format_args!("the request's {part} has {name}"), fix))
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::limits;
    use super::*;

    /// The target for hyper, or the reason for the refusal.
    fn passed(target: &[u8]) -> Result<Vec<u8>, String> {
        let head = [b"GET ", target, b" HTTP/1.1\r\nHost: a?\"\r\n\r\n"].concat();
        let passed = validate(&head, &limits()).map_err(|problem| problem.detail())?;
        let head = passed.unwrap_or(head);
        let rest = head.strip_prefix(b"GET ").unwrap();
        Ok(rest
            .strip_suffix(b" HTTP/1.1\r\nHost: a?\"\r\n\r\n")
            .unwrap()
            .to_vec())
    }

    #[test]
    fn every_byte_of_a_query_is_kept_encoded_or_refused() {
        // A line feed ends the line.
        for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
            // RFC 3986 §3.4: pchar / "/" / "?"; the percent sign of an encoding.
            let is_allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
            let is_refused = byte <= b' ' || byte == b'#' || byte == 0x7f;
            let found = passed(&[b"/?a", &[byte][..], b"z"].concat());
            match found {
                Err(_) => assert!(is_refused, "{byte:02X}"),
                Ok(target) if is_allowed => assert_eq!(target, [b"/?a", &[byte][..], b"z"].concat()),
                Ok(target) => {
                    assert!(!is_refused, "{byte:02X}");
                    assert_eq!(target, format!("/?a%{byte:02X}z").into_bytes());
                }
            }
        }
    }

    #[test]
    fn hyper_accepts_every_target_that_is_accepted() {
        // A line feed ends the line.
        for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
            for before in ["/", "/a", "/?", "/a?b", "http://a/", "http://a/?"] {
                let target = [before.as_bytes(), &[byte], b"z"].concat();
                let is_read = |target: &[u8]| Uri::try_from(target).is_ok();
                match passed(&target) {
                    Ok(passed) => assert!(is_read(&passed), "{before} {byte:02X}"),
                    // The crate accepts fragments, and non-ASCII bytes in a path.
                    Err(_) => assert!(
                        !is_read(&target) || byte == b'#' || byte >= 0x80,
                        "{before} {byte:02X}"
                    ),
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_only_the_refused_character_of_the_target() {
        for (target, named) in [
            (
                &b"/a?secret b"[..],
                "the request's query has a space; send it as %20",
            ),
            (
                "/caf\u{e9}?secret".as_bytes(),
                "the request's path has '\u{e9}' (U+00E9); send it as %C3%A9",
            ),
            (
                b"/caf\xe9?secret",
                "the request's path has the byte 0xE9; send it as %E9",
            ),
            (
                b"http://a<b/?secret",
                "the request's target has '<'; send it as %3C",
            ),
            (
                b"/?secret\x1b[2J",
                "the request's query has the control character 0x1B; leave it out",
            ),
            (
                b"/?secret#x",
                "the request's query has '#', which begins a fragment; send it as %23, or leave the fragment out",
            ),
        ] {
            assert_eq!(passed(target).unwrap_err(), named);
        }
    }
}
