//! Validates the raw head of one request, before hyper sees it (RFC 9112 §2 to §6).
//!
//! hyper normalises what it reads: a second length, a bare line feed and a fragment are no longer visible in a service.
//! So everything that is not clearly one request is refused here.

use std::mem::MaybeUninit;

use super::framing::{Framing, is_token};
use super::host::is_host;
use super::refusal_responses::{body_too_long, malformed, target_too_long, too_large, unknown_expectation};
use super::target;
use crate::config::{Limits, MAX_FIELDS};
use crate::server::problem::ProblemResponse;
use crate::spelling::is_title_case;

/// A valid head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes as the caller sent them, the empty line included.
    pub(super) length: usize,
    /// The bytes for hyper, if characters of the query had to be percent-encoded.
    pub(super) encoded: Option<Vec<u8>>,
    /// How its body is delimited.
    pub(super) framing: Framing,
    /// HTTP/1.0: a response of unknown length ends with the connection.
    pub(super) is_http_10: bool,
    /// HEAD: the response has no body.
    pub(super) is_bodiless: bool,
    /// The field names are spelled as hyper writes them anyway.
    pub(super) is_title_case: bool,
}

/// Parses what has arrived of a head, of which `scanned` bytes were incomplete before. `None` if it is incomplete still.
pub(super) fn parse(bytes: &[u8], scanned: usize, limits: &Limits) -> Result<Option<Head>, ProblemResponse> {
    let Some(length) = end(bytes, scanned) else {
        check_incomplete(bytes, limits)?;
        return Ok(None);
    };
    let raw = &bytes[..length];
    if length > limits.head {
        return Err(too_large(limits));
    }
    if memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r') {
        return Err(malformed(
            "a line of the request's head ends in a bare line feed",
            "lines end in CR LF",
        ));
    }
    let encoded = target::validate(raw, limits)?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(encoded.as_deref().unwrap_or(raw), &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(malformed("the request's head is incomplete", "send all of it"));
        }
        Err(httparse::Error::TooManyHeaders) => return Err(too_large(limits)),
        Err(error) => {
            return Err(malformed(
                format_args!("the request's head is not HTTP/1.1: {error}"),
                "correct it",
            ));
        }
    }
    if request.headers.len() > limits.fields {
        return Err(too_large(limits));
    }
    let is_http_10 = request.version == Some(0);
    Ok(Some(Head {
        length,
        framing: validate_fields(request.headers, is_http_10, limits)?,
        is_http_10,
        is_bodiless: is_head(raw),
        is_title_case: request.headers.iter().all(|field| is_title_case(field.name)),
        encoded,
    }))
}

/// Whether the request is a HEAD request, whose response has no body.
pub(super) fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HEAD ")
}

/// The end of the empty line that ends a head.
fn end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let at = from + at + 1;
        match &bytes[at..] {
            [b'\n', ..] => Some(at + 1),
            [b'\r', b'\n', ..] => Some(at + 2),
            _ => None,
        }
    })
}

/// Refuses what is known to be invalid before the head is complete.
fn check_incomplete(bytes: &[u8], limits: &Limits) -> Result<(), ProblemResponse> {
    match bytes.first() {
        Some(0x16) => Err(malformed(
            "this is a TLS handshake, and this listener speaks plain HTTP",
            "use an http:// URL",
        )),
        Some(byte) if !is_token(*byte) => Err(malformed("this is no HTTP request", "speak HTTP/1.1 here")),
        _ if !bytes.contains(&b'\n') && bytes.len() > limits.target + METHOD_AND_VERSION => {
            Err(target_too_long(limits))
        }
        _ if bytes.len() >= limits.head => Err(too_large(limits)),
        _ => Ok(()),
    }
}

/// Space for a method and `HTTP/1.1` beside the target of a request line.
const METHOD_AND_VERSION: usize = 64;

/// Validates the fields that decide where the request ends and for whom it is.
fn validate_fields(
    fields: &[httparse::Header<'_>],
    is_http_10: bool,
    limits: &Limits,
) -> Result<Framing, ProblemResponse> {
    let (mut length, mut is_chunked, mut has_host) = (None, false, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let parsed = content_length(field.value).ok_or_else(|| {
                malformed(
                    "Content-Length is not a plain number",
                    "send the number of body bytes",
                )
            })?;
            if length.replace(parsed).is_some() {
                return Err(malformed("there are two Content-Length fields", "send one"));
            }
        } else if is("transfer-encoding") {
            if is_chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed(
                    "Transfer-Encoding is not one \"chunked\"",
                    "send that, or Content-Length",
                ));
            }
            is_chunked = true;
        } else if is("host") {
            if has_host {
                return Err(malformed("there are two Host fields", "send one"));
            }
            if !is_host(field.value) {
                return Err(malformed(
                    "Host is not a host name with an optional port",
                    "send it like \"localhost:8080\"",
                ));
            }
            has_host = true;
        } else if is("expect") && !field.value.eq_ignore_ascii_case(b"100-continue") {
            return Err(unknown_expectation());
        }
    }
    match length {
        _ if !has_host && !is_http_10 => Err(malformed(
            "Host is missing",
            "HTTP/1.1 needs it, like \"Host: localhost:8080\"",
        )),
        _ if is_chunked && is_http_10 => Err(malformed(
            "HTTP/1.0 has no Transfer-Encoding",
            "send Content-Length",
        )),
        Some(_) if is_chunked => Err(malformed(
            "there are Content-Length and Transfer-Encoding",
            "send one of them",
        )),
        None if is_chunked => Ok(Framing::chunked(limits.body)),
        Some(length) if limits.body != 0 && length > limits.body => Err(body_too_long()),
        length => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The defaults, with a small limit on bodies.
    pub(in super::super) fn limits() -> Limits {
        Limits {
            stall: Duration::from_secs(60),
            refusals: 1,
            head: 65536,
            fields: 100,
            target: 8192,
            body: 1000,
            first_byte: Duration::from_secs(10),
            keep_alive: Duration::from_secs(300),
            connections: 1,
            in_flight: 1,
            per_caller: 0,
        }
    }

    fn status(head: &str) -> u16 {
        match parse(head.as_bytes(), 0, &limits()) {
            Ok(None) => 0,
            Ok(Some(_)) => 200,
            Err(problem) => problem.status.as_u16(),
        }
    }

    #[test]
    fn valid_requests_are_accepted() {
        for head in [
            "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET http://sb.xylem.cisco.com/a?b HTTP/1.1\r\nHost: sb.xylem.cisco.com\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
            "GET /WIC-1T=,*:%2F HTTP/1.1\r\nHost: a\r\nX_Y: \u{fc}\r\n\r\n",
            "GET /?\"x\"=\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(status(head), 200, "{head:?}");
        }
    }

    #[test]
    fn everything_that_is_not_clearly_one_request_is_refused() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: [::1]b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /?x y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / /?x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413),
            ("\u{16}\u{3}\u{1}", 400),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
    }

    #[test]
    fn limits_are_enforced_before_the_head_is_complete() {
        assert_eq!(status(&format!("GET /{}", "a".repeat(9000))), 414);
        assert_eq!(
            status(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8200))),
            414
        );
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(65536))),
            431
        );
        assert_eq!(
            status(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(100)
            )),
            431
        );
    }

    proptest! {
        #[test]
        fn a_head_in_pieces_is_parsed_like_a_complete_one(cut in 1_usize..60) {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
            let cut = cut.min(head.len() - 1);
            let first = parse(&head[..cut], 0, &limits()).unwrap();
            let scanned = if first.is_none() { cut } else { 0 };
            let found = parse(head, scanned, &limits()).unwrap().unwrap();
            prop_assert_eq!(found, Head {
                length: 47,
                encoded: None,
                framing: Framing::Length(3),
                is_http_10: false,
                is_bodiless: false,
                is_title_case: true,
            });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, 0, &limits());
        }
    }
}
