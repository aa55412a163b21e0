//! What is odd and right, and must be served.

use bondgate::simulator::{Handle, Seen};

use super::FOLLOWING;
use crate::harness::{Daemon, relayed};
use crate::wire::Caller;

/// A request that must reach the upstream.
#[derive(Clone)]
pub(super) struct Honest {
    bytes: Vec<u8>,
    /// Its method, target and body there.
    upstream: (&'static str, String, &'static str),
    /// Whether the connection goes on.
    keeps: bool,
}

pub(super) async fn is_served(daemon: &Daemon, cisco: &Handle, case: &Honest) -> Vec<Seen> {
    let what = case.bytes.escape_ascii().to_string();
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(&case.bytes).await;
    let mut head = caller.head().await;
    if what.contains("xpect:") {
        assert_eq!(head.status(), 100, "{what}: {head:?}");
        head = caller.head().await;
    }
    let answer = caller.body_of(head).await;
    assert_eq!(answer.field("proxy-status"), None, "{what}: {answer:?}");
    if case.keeps {
        caller.say(format!("GET /following {FOLLOWING}")).await;
        let next = caller.message().await;
        assert_eq!(next.field("proxy-status"), None, "{what}: {next:?}");
    } else {
        caller.is_over().await;
    }

    let seen = relayed(cisco);
    cisco.forget_seen();
    assert_eq!(seen.len(), 1 + usize::from(case.keeps), "{what}: {seen:?}");
    let (method, target, body) = &case.upstream;
    let first = &seen[0];
    assert_eq!(
        (first.method.as_str(), &first.target, &first.body[..]),
        (*method, target, body.as_bytes()),
        "{what}"
    );
    assert!(
        first.body_complete && first.status == Some(answer.status()),
        "{what}: {first:?}"
    );
    for name in [
        "x-stripped",
        "upgrade",
        "http2-settings",
        "te",
        "keep-alive",
        "expect",
        "x-http-method-override",
    ] {
        assert!(first.header(name).is_empty(), "{what}: {first:?}");
    }
    seen
}

pub(super) fn cases() -> Vec<Honest> {
    let honest = |bytes: String, method, target: &str, body, keeps| Honest {
        bytes: bytes.into_bytes(),
        upstream: (method, target.to_owned(), body),
        keeps,
    };
    let host = "Host: localhost\r\n";
    let echo = "/simulator/echo";
    let mut cases = Vec::new();
    for (line, keeps) in [
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
            true,
        ),
        ("Upgrade: websocket\r\nConnection: upgrade\r\n", true),
        (
            "X_Under_Score: 1\r\nAuthorization_: Bearer x\r\nContent_Length: 5\r\n",
            true,
        ),
        ("Connection: close, X-Stripped\r\nX-Stripped: 1\r\n", false),
        ("Connection: X-Stripped\r\nX-Stripped: 1\r\n", true),
        ("Connection: keep-alive\r\nKeep-Alive: 5\r\n", true),
        ("Connection:\r\n", true),
        ("Connection: , ,\r\n", true),
        ("Connection: Host, Authorization, Content-Length\r\n", true),
        ("X-Empty:\r\nX-Blank: \t \r\n", true),
        ("X-Bytes: \u{e9}\u{2713}\r\n", true),
        ("X-Tabs:\ta\tb\t\r\n", true),
        ("X-Colons: a:b:c\r\n!#$%&'*+-.^`|~: odd\r\n", true),
        ("TE: trailers\r\nConnection: TE\r\n", true),
        ("X-HTTP-Method-Override: DELETE\r\n", true),
        (
            "Authorization: Bearer forged\r\nAuthorization: Basic forged\r\n",
            true,
        ),
        ("Content-Length: 0\r\n", true),
        ("Via: 1.1 bondgate2\r\n", true),
        ("Origin: http://localhost\r\n", true),
        ("X-Transfer-Encoding: chunked\r\nX-Content-Length: 3\r\n", true),
    ] {
        cases.push(honest(
            format!("GET {echo} HTTP/1.1\r\n{host}{line}\r\n"),
            "GET",
            echo,
            "",
            keeps,
        ));
    }
    for (lines, keeps) in [
        ("", false),
        ("Host: localhost\r\n", false),
        ("Connection: keep-alive\r\n", true),
    ] {
        cases.push(honest(
            format!("GET {echo} HTTP/1.0\r\n{lines}\r\n"),
            "GET",
            echo,
            "",
            keeps,
        ));
    }
    for value in [
        "chunked",
        "CHUNKED",
        "ChUnKeD",
        "  chunked",
        "chunked  ",
        "\tchunked\t",
    ] {
        for body in [
            "5\r\nhello\r\n0\r\n\r\n",
            "005;a=b;c=\"d\"\r\nhello\r\n000\r\nX-A: 1\r\n\r\n",
            "2\r\nhe\r\n3\r\nllo\r\n0;x\r\n\r\n",
        ] {
            let text = format!("POST {echo} HTTP/1.1\r\n{host}Transfer-Encoding:{value}\r\n\r\n{body}");
            cases.push(honest(text, "POST", echo, "hello", true));
        }
    }
    for length in ["Content-Length: 5", "content-length:05", "CONTENT-LENGTH: \t5 "] {
        let text = format!("POST {echo} HTTP/1.1\r\n{host}{length}\r\n\r\nhello");
        cases.push(honest(text, "POST", echo, "hello", true));
    }
    for value in ["100-continue", "100-Continue"] {
        let text = format!("POST {echo} HTTP/1.1\r\n{host}Expect: {value}\r\nContent-Length: 5\r\n\r\n");
        cases.push(honest(text + "hello", "POST", echo, "hello", true));
    }
    for target in [
        "/",
        "/a,b",
        "/WIC-1T=",
        "/a*",
        "/*",
        "/a:b",
        "/a@b",
        "/!$&'()",
        "/~-_",
        "/%41%62",
        "/caf%C3%A9",
        "/100%25",
        "/a%20b",
        "/a%3Bb",
        "/%3f",
        "/%23",
        "/.well-known/x",
        "/a..b",
        "/...",
        "/a.",
        "/a/",
        "/?",
        "/?a=../b//c",
        "/a?%2f%2e%00",
        "/a?b;c=%zz&d=/",
        "/a??b?",
        "/http://evil.example".trim_end_matches("//evil.example"),
        "/%e2%80%ae",
    ] {
        cases.push(honest(
            format!("GET {target} HTTP/1.1\r\n{host}\r\n"),
            "GET",
            target,
            "",
            true,
        ));
    }
    for (query, sent) in [
        ("b=\"c\"&d=<e>", "b=%22c%22&d=%3Ce%3E"),
        ("{[|]}\\^`", "%7B%5B%7C%5D%7D%5C%5E%60"),
        ("\u{e9}\u{2713}%zz", "%C3%A9%E2%9C%93%zz"),
    ] {
        for target in ["/a", "http://localhost/a"] {
            cases.push(honest(
                format!("GET {target}?{query} HTTP/1.1\r\n{host}\r\n"),
                "GET",
                &format!("/a?{sent}"),
                "",
                true,
            ));
        }
    }
    for authority in [
        "http://localhost",
        "http://LOCALHOST:1",
        "http://127.0.0.1:9",
        "https://localhost",
        "http://[::1]:80",
        "HTTP://a.localhost",
        "http://localhost.",
    ] {
        cases.push(honest(
            format!("GET {authority}/a?b HTTP/1.1\r\n{host}\r\n"),
            "GET",
            "/a?b",
            "",
            true,
        ));
    }
    for name in [
        "localhost:8080",
        "LOCALHOST",
        "127.0.0.1",
        "[::1]:80",
        "a.localhost",
        "localhost.",
        "localhost:",
    ] {
        cases.push(honest(
            format!("GET /a HTTP/1.1\r\nHost: {name}\r\n\r\n"),
            "GET",
            "/a",
            "",
            true,
        ));
    }
    for (before, count) in [("\r\n", 1), ("\r\n", 5)] {
        let text = format!("{}GET /a HTTP/1.1\r\n{host}\r\n", before.repeat(count));
        cases.push(honest(text, "GET", "/a", "", true));
    }
    for method in [
        "OPTIONS",
        "DELETE",
        "PATCH",
        "PROPFIND",
        "get",
        "M-SEARCH",
        "X!#$%&'*+-.^_`|~",
    ] {
        cases.push(honest(
            format!("{method} /a HTTP/1.1\r\n{host}\r\n"),
            method,
            "/a",
            "",
            true,
        ));
    }
    cases
}
