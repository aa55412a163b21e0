//! Properties of every request head, for the fuzzer and for the replay of its findings.

use std::sync::OnceLock;

use super::framing::Framing;
use super::head::{Head, parse};
use crate::config::{Config, Limits};

/// A head is parsed alike in one piece and byte by byte. An accepted head has lines that end in CR LF, at most one way to
/// find the end of its body, and reaches hyper as it is, except for encoded characters of its query. The end of its body
/// does not depend on the sizes of reads.
pub fn head(mut data: &[u8]) {
    // The filter ignores empty lines before a request (RFC 9112 §2.2).
    while let Some(rest) = data.strip_prefix(b"\r\n") {
        data = rest;
    }
    let limits = limits();
    let Ok(Some(head)) = parse(data, 0, &limits) else {
        return;
    };
    let raw = &data[..head.length];
    let passed = head.encoded.as_deref().unwrap_or(raw);
    assert_plain(raw);
    assert_plain(passed);
    assert_passed(raw, passed, &limits);
    for end in 1..head.length {
        let part = parse(&data[..end], end.saturating_sub(1), &limits);
        assert!(
            matches!(part, Ok(None)),
            "a part of a valid head is not incomplete"
        );
    }
    let again = parse(data, head.length.saturating_sub(1), &limits);
    let again = again.ok().flatten().expect("byte by byte it is valid too");
    assert_eq!(again, head);
    assert_follows(&data[head.length..], &head);
}

fn limits() -> Limits {
    static LIMITS: OnceLock<Limits> = OnceLock::new();
    *LIMITS.get_or_init(|| {
        let text =
            "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
        let config = Config::parse(text, "fuzzed.toml", []);
        config.expect("this is a configuration").limits
    })
}

fn assert_plain(head: &[u8]) {
    assert!(head.ends_with(b"\r\n\r\n"));
    let text = String::from_utf8_lossy(head);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines.iter().all(|line| !line.contains('\n')), "{text:?}");
    let count = |name: &str| {
        let named = |line: &&&str| {
            line.split(':')
                .next()
                .is_some_and(|found| found.eq_ignore_ascii_case(name))
        };
        lines[1..].iter().filter(named).count()
    };
    assert!(
        count("content-length") + count("transfer-encoding") <= 1,
        "{text:?}"
    );
    assert!(count("host") <= 1, "{text:?}");
    let words: Vec<_> = lines[0].split(' ').collect();
    assert_eq!(words.len(), 3, "{text:?}");
}

/// Byte for byte, with `%XX` for each byte that a query must not have (RFC 3986 §3.4), and within the limits.
fn assert_passed(raw: &[u8], passed: &[u8], limits: &Limits) {
    let words = |head: &[u8]| -> Vec<Vec<u8>> {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
    };
    let (sent, got) = (words(raw), words(passed));
    let (sent, got) = (&sent[1], &got[1]);
    let query = sent.iter().position(|byte| *byte == b'?').unwrap_or(sent.len());
    let mut expected = sent[..query].to_vec();
    for &byte in &sent[query..] {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            expected.push(byte);
        } else {
            assert!(byte > b' ' && byte != b'#' && byte != 0x7f, "{byte:02X}");
            expected.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    assert_eq!(*got, expected);
    let rest = |head: &[u8], target: &[u8]| {
        let at = head
            .iter()
            .position(|byte| *byte == b' ')
            .expect("it has a method")
            + 1;
        [&head[..at], &head[at + target.len()..]].concat()
    };
    assert_eq!(rest(raw, sent), rest(passed, got));
    assert!(got.len() <= limits.target && passed.len() <= limits.head);
    assert!(http::Uri::try_from(&got[..]).is_ok(), "hyper refuses it");
}

fn assert_follows(body: &[u8], head: &Head) {
    let mut at_once: Framing = head.framing.clone();
    let Ok(taken) = at_once.follow(body) else {
        return;
    };
    let mut slowly = head.framing.clone();
    let mut slow = 0;
    for byte in body.chunks(1) {
        slow += slowly.follow(byte).expect("in one piece it is valid");
    }
    assert_eq!((taken, at_once), (slow, slowly));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_target_reaches_hyper_by_the_rules_or_is_refused(
            form in prop::sample::select(vec!["", "/", "/a?", "http://a", "http://a/?", "https://[::1]:9/?"]),
            bytes in proptest::collection::vec(
                prop_oneof![4 => prop::sample::select(b"/?%\"<>[]\\^`{|}aZ09;=&+#: @".to_vec()), 1 => any::<u8>()],
                0..40,
            ),
            rest in prop::sample::select(vec!["Host: a", "Host: a\r\nContent-Length: 3", "X: ?\"", "Host: a\r\nX: {"]),
        ) {
            let line = [b"GET ", form.as_bytes(), &bytes, b" HTTP/1.1\r\n"].concat();
            super::head(&[&line, rest.as_bytes(), b"\r\n\r\nabc?\"\xff"].concat());
        }
    }
}
