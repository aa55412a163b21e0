//! Request lines and fields.

use super::{Case, Then, case, malformed};

/// Characters that are no part of a token (RFC 9110 §5.6.2), but for the colon.
const DELIMITERS: &[u8] = b"\"(),/;<=>?@[\\]{}";

fn controls() -> impl Iterator<Item = u8> {
    (0..=0x1f).chain([0x7f])
}

fn head(lines: &[&[u8]]) -> Vec<u8> {
    [
        &b"GET /bad HTTP/1.1\r\nHost: localhost\r\n"[..],
        &lines.concat(),
        b"\r\n",
    ]
    .concat()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = line_ends();
    cases.extend(fields());
    cases.extend(request_lines());
    cases.extend(hosts());
    cases.extend(expectations());
    cases.extend(callers());
    cases.extend(limits());
    cases
}

/// Every line's end in turn is another one.
fn line_ends() -> Vec<Case> {
    let lines = ["GET /bad HTTP/1.1", "Host: localhost", "X-A: 1", "X-B: 2", ""];
    let mut cases = Vec::new();
    for end in ["\n", "\r", "\n\r", "\r\r\n", "\u{b}\r\n", "\u{c}\r\n", "\0\r\n"] {
        for at in 0..lines.len() {
            let lines = lines.iter().enumerate();
            let text = lines.map(|(line, text)| format!("{text}{}", if line == at { end } else { "\r\n" }));
            cases.push(malformed(text.collect::<String>()));
        }
        cases.push(malformed(lines.map(|line| format!("{line}{end}")).concat()));
    }
    cases
}

fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in controls()
        .chain([b' ', 0x80, 0xe9, 0xff])
        .chain(DELIMITERS.iter().copied())
    {
        cases.push(malformed(head(&[b"X", &[byte], b"A: 1\r\n"])));
    }
    for byte in controls().filter(|byte| *byte != b'\t') {
        cases.push(malformed(head(&[b"X: a", &[byte], b"b\r\n"])));
    }
    for name in ["Host", "Content-Length", "Transfer-Encoding", "Connection", "X"] {
        for space in [" ", "\t", "  ", "\u{b}", "\u{a0}"] {
            cases.push(malformed(format!(
                "GET /bad HTTP/1.1\r\nX-A: 1\r\n{name}{space}: 0\r\nHost: localhost\r\n\r\n"
            )));
        }
    }
    for fold in [" ", "\t", " X: 1", "\tX: 1", " \t", "  chunked"] {
        cases.push(malformed(format!(
            "GET /bad HTTP/1.1\r\n{fold}\r\nHost: localhost\r\n\r\n"
        )));
        cases.push(malformed(format!(
            "GET /bad HTTP/1.1\r\nHost: localhost\r\n{fold}\r\n\r\n"
        )));
        cases.push(malformed(format!(
            "GET /bad HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n{fold}\r\nX-B: 2\r\n\r\n"
        )));
    }
    for line in ["no colon", ": no name", "=", "GET / HTTP/1.1", "\u{feff}X: 1"] {
        cases.push(malformed(head(&[line.as_bytes(), b"\r\n"])));
    }
    cases
}

fn request_lines() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [
        "HTTP/0.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/1.10",
        "HTTP/1.1x",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "HTTPS/1.1",
        "HTTP/1,1",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/11",
        "HTTP\\1.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "http/1.1",
        "Http/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 x",
        "HTTP/1.1\t",
        " HTTP/1.1",
        "\tHTTP/1.1",
        "HTTP/1.1 HTTP/1.1",
        "",
        "XTTP/1.1",
    ] {
        cases.push(malformed(format!(
            "GET /bad {version}\r\nHost: localhost\r\n\r\n"
        )));
    }
    cases.push(malformed("GET /bad\r\nHost: localhost\r\n\r\n"));
    cases.push(malformed("GET /bad\r\n\r\n"));
    cases.push(malformed("GET\r\nHost: localhost\r\n\r\n"));
    cases.push(malformed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    cases.push(malformed("\u{16}\u{3}\u{1}\u{2}\0"));
    let odd = controls()
        .chain(DELIMITERS.iter().copied())
        .chain([b':', 0x80, 0xff]);
    for byte in odd {
        let rest = b"T /bad HTTP/1.1\r\nHost: localhost\r\n\r\n";
        cases.push(malformed([b"G", &[byte][..], rest].concat()));
    }
    for method in [
        "",
        " GET",
        "\tGET",
        "GE T",
        "GET ",
        "GET\t",
        "\u{feff}GET",
        "(GET",
    ] {
        cases.push(malformed(format!(
            "{method} /bad HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )));
    }
    for method in ["CONNECT", "TRACE", "connect", "trace", "Trace", "cONNECT"] {
        for target in ["/bad", "localhost:443", "http://localhost/bad"] {
            let text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            cases.push(case(&[405], Then::Closed, text));
        }
    }
    cases
}

fn hosts() -> Vec<Case> {
    let mut cases = Vec::new();
    for lines in [
        "",
        "X-Host: localhost\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: evil.example\r\n",
        "HOST: evil.example\r\nX: 1\r\nHost: localhost\r\n",
        "Host:\r\nHost: localhost\r\n",
    ] {
        cases.push(malformed(format!("GET /bad HTTP/1.1\r\n{lines}\r\n")));
        cases.push(malformed(format!(
            "GET http://localhost/bad HTTP/1.1\r\n{lines}\r\n"
        )));
    }
    let within = "@/?# ,\\\"<>^`{}|\u{e9}\t"
        .chars()
        .map(|char| format!("local{char}host"));
    let whole = [
        "localhost:abc",
        "localhost:80:80",
        "localhost:-1",
        "localhost:8x",
        "[::1",
        "::1]",
        "::1",
        "[::1]x",
        "[::1]]",
        "[[::1]]",
        "[]",
        "[zz]",
        "[::1]:x",
        "%zz",
        "local%",
        ":80",
        ":",
        "a[::1]",
        "http://localhost",
    ];
    for host in within.chain(whole.map(str::to_owned)) {
        cases.push(malformed(format!("GET /bad HTTP/1.1\r\nHost: {host}\r\n\r\n")));
    }
    cases.push(malformed(
        "GET /bad HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ));
    // An empty one is well formed, and no name of ours.
    cases.push(case(
        &[400, 421],
        Then::Either,
        "GET /bad HTTP/1.1\r\nHost:\r\n\r\n",
    ));
    for host in [
        "evil.example",
        "0.0.0.0",
        "0.0.0.0:80",
        "localhost.evil.example",
        "internal",
        "[::]",
        "...",
    ] {
        let text = format!("GET /bad HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(case(&[421], Then::Open, text));
    }
    cases
}

fn expectations() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "",
        "200-ok",
        "100",
        "100-continue, x",
        "100-continue,100-continue",
        "100-continue;x",
        "\"100-continue\"",
        "100-continue 100-continue",
        "100_continue",
        "x\r\nExpect: 100-continue",
        "100-continue\r\nExpect: x",
    ] {
        for framing in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let text = format!("POST /bad HTTP/1.1\r\nHost: localhost\r\nExpect: {value}\r\n{framing}");
            cases.push(case(&[417], Then::Closed, text));
        }
    }
    cases
}

/// Well-formed requests of callers that are not let in.
fn callers() -> Vec<Case> {
    let refused = [
        (&[403][..], "Origin: https://evil.example"),
        (&[403], "Origin: null"),
        (&[403], "Sec-Fetch-Site: cross-site"),
        (&[403], "Sec-Fetch-Mode: navigate"),
        (&[403], "Access-Control-Request-Method: GET"),
        (&[508], "Via: 1.1 bondgate"),
        (&[508], "Via: 1.0 fred, 1.1 bondgate (x)"),
    ];
    let mut cases = Vec::new();
    for (statuses, field) in refused {
        cases.push(case(statuses, Then::Open, head(&[field.as_bytes(), b"\r\n"])));
        for body in UNREAD {
            let text = format!("POST /bad HTTP/1.1\r\nHost: localhost\r\n{field}\r\n{body}");
            cases.push(case(statuses, Then::Either, text));
        }
    }
    cases
}

/// The rest of requests whose body is not read: how much of it is there when the answer comes, by how it
/// is sent, says whether the connection goes on.
const UNREAD: [&str; 5] = [
    "Content-Length: 5\r\n\r\nhello",
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-A: 1\r\n\r\n",
];

fn limits() -> Vec<Case> {
    let long = |count| "a".repeat(count);
    let over = |statuses, text: String| case(statuses, Then::Closed, text);
    let get = "GET /bad HTTP/1.1\r\nHost: localhost\r\n";
    vec![
        over(
            &[414],
            format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(8192)),
        ),
        over(
            &[414],
            format!("GET /?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(8191)),
        ),
        over(
            &[414],
            format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(70_000)),
        ),
        over(&[431], format!("{get}X: {}\r\n\r\n", long(65_536))),
        over(&[431], format!("{get}{}: x\r\n\r\n", long(65_536))),
        over(&[431], format!("{get}{}\r\n", "X: y\r\n".repeat(100))),
        over(&[431], format!("{get}{}\r\n", "X: y\r\n".repeat(10_000))),
    ]
}
