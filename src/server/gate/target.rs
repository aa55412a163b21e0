//! Validates the target of a request line, and percent-encodes what a query must not have (RFC 3986 §3.4).
//!
//! Old tools put `"`, `<`, `>`, `[`, `]`, `\`, `^`, a backquote, `{`, `|`, `}` and bytes beyond ASCII into queries as
//! they are. To encode them changes no meaning, and upstreams that refuse them otherwise accept the request. `%` stays
//! as it came. A path is never changed, since rules are checked on its bytes.

use std::fmt::Write as _;
use std::ops::Range;

use http::{StatusCode, Uri};

use super::head::{malformed, too_large};
use crate::config::Limits;
use crate::server::answer::Answer;

/// What a target may do with a byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// It may stand in a path and in a query. (`?` ends the path.)
    Plain,
    /// It passes in a path, where the path's own check follows; in a query it is encoded.
    Encoded,
    /// It is refused in a path, and encoded in a query.
    QueryOnly,
    /// It is refused.
    Refused,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::QueryOnly; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = match byte {
            0..=b' ' | b'#' | 0x7f => Class::Refused,
            // The `http` crate refuses these in a path.
            b'<' | b'>' | b'`' => Class::QueryOnly,
            b'"' | b'[' | b'\\' | b']' | b'^' | b'{' | b'|' | b'}' => Class::Encoded,
            // pchar / "/" / "?" (RFC 3986 §3.3), and "%" whatever follows it.
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
}

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Validates the target in a whole head with lines that end in CR LF. Returns the head to pass on in its place where
/// characters of the query had to be encoded. A line that is no request line is left to the parser to refuse.
///
/// `limits.target` and `limits.head` hold for what is passed on: an encoded byte counts as three.
pub(super) fn validate(head: &[u8], limits: &Limits) -> Result<Option<Box<[u8]>>, Answer> {
    let Some((method, target)) = find(head) else {
        return Ok(None);
    };
    let bytes = &head[target.clone()];
    check_method(&head[..method])?;
    if bytes.len() > limits.target {
        return Err(too_long(limits));
    }
    let query = check_path(bytes)?;
    let encoded = check_query(bytes, query)?;
    if bytes.len() + 2 * encoded > limits.target {
        return Err(too_long(limits));
    }
    if encoded == 0 {
        check_form(bytes)?;
        return Ok(None);
    }
    if head.len() + 2 * encoded > limits.head {
        return Err(too_large(limits));
    }
    let mut passed = Vec::with_capacity(head.len() + 2 * encoded);
    passed.extend_from_slice(&head[..target.start + query]);
    for &byte in &bytes[query..] {
        if class(byte) == Class::Plain {
            passed.push(byte);
        } else {
            passed.extend_from_slice(&percent_encoded(byte));
        }
    }
    check_form(&passed[target.start..])?;
    passed.extend_from_slice(&head[target.end..]);
    Ok(Some(passed.into()))
}

/// Where the method ends, and where the target is.
fn find(head: &[u8]) -> Option<(usize, Range<usize>)> {
    let line = &head[..memchr::memchr(b'\n', head)?];
    let rest = line
        .strip_suffix(b" HTTP/1.1\r")
        .or_else(|| line.strip_suffix(b" HTTP/1.0\r"))?;
    let method = memchr::memchr(b' ', rest)?;
    Some((method, method + 1..rest.len()))
}

fn check_method(method: &[u8]) -> Result<(), Answer> {
    let never = [
        (
            "CONNECT",
            "; point the tool at bondgate as its server, not as its proxy",
        ),
        ("TRACE", ": its answer would repeat the token"),
    ];
    let Some((name, why)) = never
        .iter()
        .find(|(never, _)| method.eq_ignore_ascii_case(never.as_bytes()))
    else {
        return Ok(());
    };
    Err(Answer::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "http_request_denied",
        format!("{name} is not relayed{why}"),
    ))
}

/// Where the query begins, behind its question mark, or the target ends.
fn check_path(target: &[u8]) -> Result<usize, Answer> {
    for (at, &byte) in target.iter().enumerate() {
        if byte == b'?' {
            return Ok(at + 1);
        }
        if class(byte) >= Class::QueryOnly {
            let part = if target.starts_with(b"/") {
                "path"
            } else {
                "target"
            };
            return Err(refused(part, target, at));
        }
    }
    Ok(target.len())
}

/// How many bytes of the query have to be encoded.
fn check_query(target: &[u8], query: usize) -> Result<usize, Answer> {
    let mut encoded = 0;
    for (at, &byte) in target.iter().enumerate().skip(query) {
        match class(byte) {
            Class::Plain => {}
            Class::Refused => return Err(refused("query", target, at)),
            Class::Encoded | Class::QueryOnly => encoded += 1,
        }
    }
    Ok(encoded)
}

/// Origin-form or absolute-form (RFC 9112 §3.2) that hyper can read: its own answer to another has no body.
fn check_form(target: &[u8]) -> Result<(), Answer> {
    // The classes leave nothing in it that the `http` crate would refuse.
    if target.starts_with(b"/") {
        return Ok(());
    }
    let scheme = |name: &[u8]| {
        target
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    if !scheme(b"http://") && !scheme(b"https://") {
        return Err(malformed(
            "the request's target must begin with a slash, like /path",
        ));
    }
    match Uri::try_from(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(malformed("the request's target is not a valid URL")),
    }
}

/// 400 that names the character at a place of the target, and nothing else of the target: it may be secret.
fn refused(part: &str, target: &[u8], at: usize) -> Answer {
    let byte = target[at];
    let character = target[at..]
        .utf8_chunks()
        .next()
        .and_then(|chunk| chunk.valid().chars().next());
    let mut utf8 = [0; 4];
    let mut encoded = String::new();
    for byte in character.map_or(&target[at..=at], |c| c.encode_utf8(&mut utf8).as_bytes()) {
        let _ = write!(encoded, "%{byte:02X}");
    }
    let (named, mend) = match (byte, character) {
        (b' ', _) => ("a space".to_owned(), format!("send it as {encoded}")),
        (b'#', _) => (
            "'#', which begins a fragment".to_owned(),
            format!("send it as {encoded}, or leave the fragment out"),
        ),
        (0..0x20 | 0x7f, _) => (
            format!("the control character 0x{byte:02X}"),
            "leave it out".to_owned(),
        ),
        // What a terminal could make something else of is not repeated.
        (0x80.., Some(c)) if c.is_alphanumeric() => (
            format!("'{c}' (U+{:04X})", u32::from(c)),
            format!("send it as {encoded}"),
        ),
        (0x80.., Some(c)) => (
            format!("the character U+{:04X}", u32::from(c)),
            format!("send it as {encoded}"),
        ),
        (0x80.., None) => (format!("the byte 0x{byte:02X}"), format!("send it as {encoded}")),
        _ => (format!("'{}'", char::from(byte)), format!("send it as {encoded}")),
    };
    malformed(&format!("the request's {part} has {named}; {mend}"))
}

fn percent_encoded(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS[usize::from(value)];
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// 414.
pub(super) fn too_long(limits: &Limits) -> Answer {
    let detail = format!(
        "the request's target is over limits.target ({} bytes)",
        limits.target
    );
    Answer::new(StatusCode::URI_TOO_LONG, "http_request_error", detail)
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::limits;
    use super::*;

    /// The target that is passed on, or the reason against it.
    fn passed(target: &[u8]) -> Result<Vec<u8>, String> {
        let head = [b"GET ", target, b" HTTP/1.1\r\nHost: a?\"\r\n\r\n"].concat();
        let passed = validate(&head, &limits()).map_err(|answer| answer.detail)?;
        let head = passed.unwrap_or(head.into());
        let rest = head.strip_prefix(b"GET ").unwrap();
        Ok(rest
            .strip_suffix(b" HTTP/1.1\r\nHost: a?\"\r\n\r\n")
            .unwrap()
            .to_vec())
    }

    #[test]
    fn every_byte_of_a_query_is_passed_on_encoded_or_refused() {
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
    fn a_target_that_is_passed_on_is_one_that_hyper_reads() {
        // A line feed ends the line.
        for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
            for before in ["/", "/a", "/?", "/a?b", "http://a/", "http://a/?"] {
                let target = [before.as_bytes(), &[byte], b"z"].concat();
                let is_read = |target: &[u8]| Uri::try_from(target).is_ok();
                match passed(&target) {
                    Ok(passed) => assert!(is_read(&passed), "{before} {byte:02X}"),
                    // Beyond what the crate refuses: fragments, which it cuts off, and what is not ASCII in a path.
                    Err(_) => assert!(
                        !is_read(&target) || byte == b'#' || byte >= 0x80,
                        "{before} {byte:02X}"
                    ),
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_character_and_nothing_else_of_the_target() {
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
