//! What holds of every beginning of a connection, for the fuzzer and for the replay of what it has found.

use std::sync::OnceLock;

use super::framing::Framing;
use super::head::{Examined, Head, examine};
use crate::config::{Config, Limits};

/// A head is judged alike in one piece and byte by byte; one that is let through has lines that end in CR
/// LF and one way to tell its body's length; and that body ends at the same byte however it comes.
pub fn head(mut data: &[u8]) {
    // The gate itself passes over empty lines before a request (RFC 9112 §2.2).
    while let Some(rest) = data.strip_prefix(b"\r\n") {
        data = rest;
    }
    let limits = limits();
    let whole = match examine(data, 0, &limits) {
        Examined::Complete(head) => head,
        Examined::Partial | Examined::Refused(_) => return,
    };
    assert_plain(&data[..whole.length]);
    for end in 1..whole.length {
        assert!(
            matches!(
                examine(&data[..end], end.saturating_sub(1), &limits),
                Examined::Partial
            ),
            "a part of a good head is judged as one"
        );
    }
    let Examined::Complete(again) = examine(data, whole.length.saturating_sub(1), &limits) else {
        panic!("byte by byte it is refused");
    };
    assert_eq!(again, whole);
    assert_follows(&data[whole.length..], &whole);
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

fn assert_follows(body: &[u8], head: &Head) {
    let mut at_once: Framing = head.framing.clone();
    let Ok(taken) = at_once.follow(body) else {
        return;
    };
    let mut slowly = head.framing.clone();
    let mut slow = 0;
    for byte in body.chunks(1) {
        slow += slowly.follow(byte).expect("in one piece it was right");
    }
    assert_eq!((taken, at_once), (slow, slowly));
}
