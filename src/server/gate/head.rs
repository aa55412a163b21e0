//! Judges the raw head of one request, before hyper sees it (RFC 9112 §2 to §6).
//!
//! hyper normalises what it reads: two lengths, a bare line feed or a fragment would be gone by the
//! time a service looks. So whatever is not plainly one request is refused here.

use std::mem::MaybeUninit;

use http::StatusCode;

use super::framing::Framing;
use super::target;
use crate::config::{Limits, MAX_FIELDS};
use crate::server::answer::Answer;

/// What a buffer's beginning is.
#[derive(Debug)]
pub(super) enum Examined {
    /// Not a whole head yet.
    Partial,
    /// A request that may go on.
    Complete(Head),
    /// A request that may not.
    Refused(Box<Answer>),
}

/// What the gate keeps of a head that it let through.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of it as the caller sent it, the empty line included.
    pub(super) length: usize,
    /// What is passed on in their place, where characters of the query had to be percent-encoded.
    pub(super) encoded: Option<Box<[u8]>>,
    /// How its body is delimited.
    pub(super) framing: Framing,
    /// HTTP/1.0: an answer of unknown length ends with the connection.
    pub(super) is_http_10: bool,
}

/// Judges what has been read so far of a head. `scanned` bytes of it were judged as partial before.
pub(super) fn examine(bytes: &[u8], scanned: usize, limits: &Limits) -> Examined {
    match judge(bytes, scanned, limits) {
        Ok(Some(head)) => Examined::Complete(head),
        Ok(None) => Examined::Partial,
        Err(answer) => Examined::Refused(Box::new(answer)),
    }
}

fn judge(bytes: &[u8], scanned: usize, limits: &Limits) -> Result<Option<Head>, Answer> {
    let Some(length) = end(bytes, scanned) else {
        judge_partial(bytes, limits)?;
        return Ok(None);
    };
    let raw = &bytes[..length];
    if length > limits.head {
        return Err(too_large(limits));
    }
    if memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r') {
        return Err(malformed(
            "a line of the request's head ends in a bare line feed; lines end in CR LF",
        ));
    }
    let encoded = target::validate(raw, limits)?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(encoded.as_deref().unwrap_or(raw), &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the request's head breaks off")),
        Err(httparse::Error::TooManyHeaders) => return Err(too_large(limits)),
        Err(error) => return Err(malformed(&format!("the request's head is not HTTP/1.1: {error}"))),
    }
    if request.headers.len() > limits.fields {
        return Err(too_large(limits));
    }
    let is_http_10 = request.version == Some(0);
    let framing = judge_fields(request.headers, is_http_10, limits)?;
    Ok(Some(Head {
        length,
        encoded,
        framing,
        is_http_10,
    }))
}

/// Where the empty line that ends a head ends.
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

/// What can be told of a head before it is whole.
fn judge_partial(bytes: &[u8], limits: &Limits) -> Result<(), Answer> {
    match bytes.first() {
        Some(0x16) => {
            return Err(malformed(
                "this is a TLS handshake, and this listener speaks plain HTTP; use an http:// URL",
            ));
        }
        Some(byte) if !byte.is_ascii_alphabetic() && !b"!#$%&'*+-.^_`|~0123456789".contains(byte) => {
            return Err(malformed("this is no HTTP request"));
        }
        _ => {}
    }
    if !bytes.contains(&b'\n') && bytes.len() > limits.target + METHOD_AND_VERSION {
        return Err(target::too_long(limits));
    }
    if bytes.len() >= limits.head {
        return Err(too_large(limits));
    }
    Ok(())
}

/// Room for a method and `HTTP/1.1` beside the target of a request line.
const METHOD_AND_VERSION: usize = 64;

fn judge_fields(
    fields: &[httparse::Header<'_>],
    is_http_10: bool,
    limits: &Limits,
) -> Result<Framing, Answer> {
    let mut length = None;
    let mut is_chunked = false;
    let mut hosts = 0;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            if length.is_some() {
                return Err(malformed("Content-Length is there twice; send it once"));
            }
            length = Some(content_length(field.value).ok_or_else(|| {
                malformed("Content-Length is not a plain number; send the count of the body's bytes")
            })?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if is_chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed(
                    "Transfer-Encoding is not one \"chunked\"; send that, or Content-Length",
                ));
            }
            is_chunked = true;
        } else if field.name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if !is_host(field.value) {
                return Err(malformed(
                    "Host is not a host name with an optional port; send it like \"localhost:8080\"",
                ));
            }
        } else if field.name.eq_ignore_ascii_case("expect")
            && !field.value.eq_ignore_ascii_case(b"100-continue")
        {
            let detail = "Expect is not \"100-continue\"; leave it out";
            return Err(Answer::new(
                StatusCode::EXPECTATION_FAILED,
                "http_request_error",
                detail,
            ));
        }
    }
    if hosts > 1 {
        return Err(malformed("Host is there twice; send it once"));
    }
    if hosts == 0 && !is_http_10 {
        return Err(malformed(
            "Host is missing; HTTP/1.1 needs it, like \"Host: localhost:8080\"",
        ));
    }
    if is_chunked && is_http_10 {
        return Err(malformed(
            "HTTP/1.0 has no Transfer-Encoding; send Content-Length",
        ));
    }
    if is_chunked && length.is_some() {
        return Err(malformed(
            "Content-Length stands beside Transfer-Encoding; send one of them",
        ));
    }
    match length {
        _ if is_chunked => Ok(Framing::chunked(limits.body)),
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

/// `uri-host [":" port]` (RFC 9110 §7.2) without what no name of a machine has; empty where the target
/// has no authority.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let port_at = match text.rfind(']') {
        Some(at) => at + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(port_at);
    let is_port = port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit());
    let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    };
    is_port && is_name && (!name.is_empty() || port.is_empty())
}

/// 400 for something that is not plainly a request.
pub(super) fn malformed(detail: &str) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, "http_request_error", detail)
}

/// 413.
pub(super) fn body_too_long() -> Answer {
    let detail = "the request's body is over limits.body; send less, or raise it";
    Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "http_request_error", detail)
}

/// 431.
pub(super) fn too_large(limits: &Limits) -> Answer {
    let detail = format!(
        "the request's head is over limits.head ({} bytes) or limits.fields ({})",
        limits.head, limits.fields
    );
    Answer::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "http_request_error",
        detail,
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The defaults, but for small bodies.
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
        match examine(head.as_bytes(), 0, &limits()) {
            Examined::Partial => 0,
            Examined::Complete(_) => 200,
            Examined::Refused(answer) => answer.status.as_u16(),
        }
    }

    #[test]
    fn honest_requests_go_on() {
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
    fn what_is_not_plainly_one_request_is_refused() {
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
    fn limits_hold_before_the_head_is_whole() {
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
        fn a_head_in_pieces_is_judged_like_a_whole_one(cut in 1_usize..60) {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
            let cut = cut.min(head.len() - 1);
            let first = examine(&head[..cut], 0, &limits());
            let scanned = if matches!(first, Examined::Partial) { cut } else { 0 };
            let Examined::Complete(found) = examine(head, scanned, &limits()) else { panic!() };
            prop_assert_eq!(found, Head { length: 47, encoded: None, framing: Framing::Length(3), is_http_10: false });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = examine(&bytes, 0, &limits());
        }
    }
}
