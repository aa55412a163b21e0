//! Request targets.

use super::{Case, Then, case, malformed};

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = paths();
    cases.extend(bytes());
    cases.extend(forms());
    cases
}

/// Whole requests with a path that servers read in more than one way.
fn paths() -> Vec<Case> {
    let segments = [
        ".",
        "..",
        "%2e",
        "%2E",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e",
        "%252e%252e",
        "%25252e",
        "%25252e%25252E",
        "%2525252e",
        "%25%32%65",
        ".%252e",
    ];
    let parts = [
        "\\",
        "%5c",
        "%5C",
        "%255c",
        "%25255c",
        "%2f",
        "%2F",
        "%252f",
        "%25252f",
        "%2f..%2f",
        "..%2f",
        "%00",
        "%2500",
        "%252500",
        "%01",
        "%09",
        "%0a",
        "%0d",
        "%0d%0a",
        "%250d%250a",
        "%1f",
        "%7f",
        ";",
        ";x=y",
        "%253b",
        "%253B",
        "%",
        "%2",
        "%zz",
        "%2g",
        "%g2",
        "%%",
        "%u002f",
        "%-1",
        "%c0%ae",
        "%C0%AE",
        "%c1%9c",
        "%25c0%25ae",
        "//",
        "///",
    ];
    let mut paths = Vec::new();
    for segment in segments {
        paths.extend([
            format!("/{segment}"),
            format!("/a/{segment}"),
            format!("/a/{segment}/b?c"),
        ]);
    }
    for part in parts {
        paths.extend([
            format!("/{part}"),
            format!("/a{part}"),
            format!("/a{part}q/c"),
            format!("/a/{part}/b?c"),
        ]);
    }
    paths.extend(
        [
            "/a//b",
            "//",
            "//evil.example/a",
            "/a//",
            "/a%2eb",
            "/..;/a",
            "/.;/a",
        ]
        .map(str::to_owned),
    );
    let absolute = ["/a/../b", "//a", "/a%00", "/a;b", "/%2e%2e/a", "/a%zz", "/.."]
        .map(|path| format!("http://localhost{path}"));
    let targets = paths.into_iter().chain(absolute);
    targets
        .map(|target| case(&[400], Then::Open, get(target)))
        .collect()
}

/// Bytes that are in no target, and those that are in no path.
fn bytes() -> Vec<Case> {
    let mut cases = Vec::new();
    let nowhere = (0..=0x20).chain([0x7f, b'#']);
    let places = [
        ("/a", "b"),
        ("/a?b=", "c"),
        ("http://localhost/a", "b"),
        ("/", ""),
    ];
    for byte in nowhere {
        for (before, after) in places {
            cases.push(malformed(get(
                [before.as_bytes(), &[byte], after.as_bytes()].concat()
            )));
        }
    }
    for byte in [0x80, 0x85, 0xa0, 0xe9, 0xff, b'<', b'>', b'`'] {
        for (before, after) in [
            ("/a", "b"),
            ("/a", "b?c"),
            ("http://localhost/a", "b"),
            ("http://local", "host/"),
            ("/", ""),
        ] {
            cases.push(malformed(get(
                [before.as_bytes(), &[byte], after.as_bytes()].concat()
            )));
        }
    }
    for target in [
        "/\u{e9}",
        "/\u{202e}",
        "/\u{ff0e}\u{ff0e}/",
        "/\u{2215}",
        "/a#",
        "/a?b#c",
        "/a?\"b\"#c",
        "/a?{b c}",
        "/#",
        "/##",
    ] {
        cases.push(malformed(get(target)));
    }
    cases
}

/// Targets that are not of origin-form, and in absolute-form not for us.
fn forms() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in [
        "localhost",
        "localhost:80",
        "evil.example:443",
        "a",
        "a/b",
        "?x",
        "*",
        "",
        "\\",
        "\\a",
        "%2fa",
        "..",
        "http:",
        "http:/a",
        "http:a",
        "http://",
        "http:///a",
        "https://",
        "http://[::1/a",
        "http://local host/",
        "ftp://localhost/a",
        "ws://localhost/a",
        "file:///etc/passwd",
        "javascript:x",
        "xhttp://localhost/",
        "http//localhost/",
        "://localhost/",
    ] {
        cases.push(malformed(get(target)));
    }
    cases.push(malformed("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    for authority in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "0.0.0.0",
        "[::]",
        "a@localhost",
        "localhost@evil.example",
        "evil.example:80@localhost",
    ] {
        for scheme in ["http", "https", "HTTP"] {
            let text = get(format!("{scheme}://{authority}/bad"));
            // RFC 9110 §15.5.20 has a status of its own for it.
            cases.push(case(&[400, 421], Then::Either, text));
        }
    }
    cases
}
