//! Queries as callers really send them: what a URI forbids there is percent-encoded and nothing else is
//! changed, what cannot be sent is refused by name, and no query is in any log.

use bondgate::simulator::{Fault, Kind, On, Options, Seen};
use tokio::net::TcpStream;

use crate::confidential;
use crate::harness::{DEMO_SECRET, Setup, relayed, simulator};
use crate::wire::Caller;

/// Targets as callers send them, and as the API has to get them.
fn accepted() -> Vec<(Vec<u8>, String)> {
    let mut cases: Vec<(Vec<u8>, String)> = [
        ("/a?b=\"c\"", "/a?b=%22c%22"),
        ("/a?<b>", "/a?%3Cb%3E"),
        ("/a?b|c", "/a?b%7Cc"),
        ("/a?{\"b\":[1,{}]}", "/a?%7B%22b%22:%5B1,%7B%7D%5D%7D"),
        ("/a?b\\c^d`e", "/a?b%5Cc%5Ed%60e"),
        ("/a?filter[name]=x", "/a?filter%5Bname%5D=x"),
        (
            "/a?n=Ger\u{e4}t\u{2713}\u{1f600}",
            "/a?n=Ger%C3%A4t%E2%9C%93%F0%9F%98%80",
        ),
        // A percent sign is left as it came, whatever follows it.
        ("/a?%22%zz%&%7B|", "/a?%22%zz%&%7B%7C"),
        ("/a?b?c/d:e@f!$&'()*+,;=~-._", "/a?b?c/d:e@f!$&'()*+,;=~-._"),
        ("/a?\"", "/a?%22"),
        ("/?|", "/?%7C"),
        ("/a??|?", "/a??%7C?"),
        ("/a?http://h/<x>", "/a?http://h/%3Cx%3E"),
        ("http://localhost/a?b=<c>", "/a?b=%3Cc%3E"),
        ("HTTPS://localhost:9/a?{", "/a?%7B"),
        ("http://localhost?b|c", "/?b%7Cc"),
        ("http://localhost?b", "/?b"),
    ]
    .map(|(sent, got)| (sent.as_bytes().to_vec(), got.to_owned()))
    .into();
    // Latin-1 of an old tool is no UTF-8.
    cases.push((b"/a?n=Ger\xe4t".to_vec(), "/a?n=Ger%E4t".to_owned()));
    for byte in (0x21..=0x7e).chain(0x80..=0xff).filter(|byte| *byte != b'#') {
        let is_allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
        let got = if is_allowed {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        cases.push(([b"/a?b", &[byte][..], b"c"].concat(), format!("/a?b{got}c")));
    }
    cases
}

fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

#[tokio::test]
async fn what_a_uri_forbids_in_a_query_is_percent_encoded_and_nothing_else_is_changed() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    // One after the other on a kept connection.
    let mut caller = Caller::to(daemon.address()).await;
    for (sent, got) in accepted() {
        let what = sent.escape_ascii().to_string();
        caller.say(get(&sent)).await;
        let answer = caller.message().await;
        assert_eq!(answer.field("proxy-status"), None, "{what}: {answer:?}");
        let seen = relayed(&cisco);
        cisco.forget_seen();
        let targets: Vec<&String> = seen.iter().map(|seen| &seen.target).collect();
        assert_eq!(targets, [&got], "{what}");
    }
}

#[tokio::test]
async fn a_query_is_encoded_however_its_request_comes_and_what_follows_is_as_it_was() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let post = "POST /simulator/sink?a={\"b\"} HTTP/1.1\r\nHost: localhost\r\nX-Odd: <{|}>\r\n\
                Content-Length: 7\r\n\r\n{\"c|d\"}";
    let next = "GET /simulator/echo?\u{e9} HTTP/1.0\r\n\r\n";
    let all = format!("{post}{next}");
    for size in [1, 2, 3, 7, 40, 1000] {
        let mut caller = Caller::to(daemon.address()).await;
        for piece in all.as_bytes().chunks(size) {
            caller.say(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(caller.message().await.status(), 200, "{size}");
        assert_eq!(caller.message().await.status(), 200, "{size}");
        caller.is_over().await;
        let seen = relayed(&cisco);
        cisco.forget_seen();
        let [first, second] = &seen[..] else {
            panic!("{size}: {seen:?}")
        };
        assert_eq!(first.target, "/simulator/sink?a=%7B%22b%22%7D", "{size}");
        assert_eq!(
            (&first.body[..], first.body_bytes),
            (&b"{\"c|d\"}"[..], 7),
            "{size}"
        );
        assert_eq!(first.header("x-odd"), ["<{|}>"], "{size}");
        assert_eq!(second.target, "/simulator/echo?%C3%A9", "{size}");
    }
}

#[tokio::test]
async fn the_limit_on_the_target_holds_for_the_target_that_is_sent_on() {
    let cisco = simulator(Options::default()).await;
    let limits = "[limits]\ntarget = \"100\"\nhead = \"400\"\n";
    let daemon = Setup::open(&cisco, "").and(limits).start().await;
    let target =
        |quotes: usize, plain: usize| format!("/?{}{}", "\"".repeat(quotes), "a".repeat(plain)).into_bytes();
    // Two characters and three for each quote.
    for (quotes, plain, status) in [
        (32, 2, 200),
        (32, 3, 414),
        (33, 0, 414),
        (98, 0, 414),
        (0, 98, 200),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(get(&target(quotes, plain))).await;
        let answer = caller.message().await;
        let is_ours = answer.field("proxy-status").is_some();
        assert_eq!(is_ours, status != 200, "{quotes} {plain}: {answer:?}");
        if is_ours {
            assert_eq!(answer.status(), status, "{quotes} {plain}: {answer:?}");
            assert!(answer.text().contains("limits.target"), "{answer:?}");
        }
    }
    // The head too: what is encoded makes it longer.
    let head = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(280)
        )
    };
    for (target, status) in [
        ("/?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0),
        ("/?||||||||||||||||||||||||||||||", 431),
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(head(target)).await;
        let answer = caller.message().await;
        if status != 0 {
            answer.is_ours(status, target);
        } else {
            assert_eq!(answer.field("proxy-status"), None, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_character_that_no_target_may_have_is_refused_by_its_name() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    for (target, named) in [
        (&b"/a?b c"[..], "the request's query has a space"),
        (b"/a?b  c", "the request's query has a space"),
        (b"/a b?c", "the request's path has a space"),
        (b"/a?b#c", "the request's query has '#'"),
        (b"/a#b", "the request's path has '#'"),
        (b"/a?b\x07c", "the request's query has the control character 0x07"),
        (b"/a?b\tc", "the request's query has the control character 0x09"),
        (b"/a?b\0c", "the request's query has the control character 0x00"),
        (b"/a?b\rc", "the request's query has the control character 0x0D"),
        (b"/a?b\x7fc", "the request's query has the control character 0x7F"),
        (b"/a\x1bb", "the request's path has the control character 0x1B"),
        (b"/a<b", "the request's path has '<'"),
        (b"/a`b", "the request's path has '`'"),
        (
            "/Ger\u{e4}t".as_bytes(),
            "the request's path has '\u{e4}' (U+00E4)",
        ),
        // What would turn the rest of a line around on a terminal is named by its number alone.
        (
            "/a\u{202e}b".as_bytes(),
            "the request's path has the character U+202E",
        ),
        (b"/Ger\xe4t", "the request's path has the byte 0xE4"),
        (b"/a{b}", "the path has '{'"),
        (b"/a\"b", "the path has '\\\"'"),
        (b"/a^b", "the path has '^'"),
        (b"/a\\b", "the path has a backslash"),
        (b"http://localhost/a b", "the request's target has a space"),
        (b"http://local host/?b", "the request's target has a space"),
    ] {
        let what = target.escape_ascii().to_string();
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(get(target)).await;
        let answer = caller.message().await;
        answer.is_ours(400, &what);
        let detail = answer.text();
        assert!(detail.contains(named), "{what}: {detail}");
    }
    assert!(relayed(&cisco).is_empty());
}

/// Stands in every query of the next test, where nothing that is said may repeat it.
const SECRET: &str = "canary-of-a-query-3f9c";

/// A request with the secret in its query; `more` are further lines.
fn with_secret(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path}?password={SECRET}&q=\"{SECRET}\" HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

/// Requests with the secret in their query: the listener that each goes to, the status that it gets, and itself.
fn refusals() -> Vec<(usize, u16, String)> {
    let get = |path: &str, more: &str| with_secret("GET", path, more);
    let body = "Content-Length: 5000\r\n";
    vec![
        (
            0,
            200,
            with_secret("POST", "/simulator/sink", "Content-Length: 0\r\n"),
        ),
        (0, 404, get("/nowhere", "")),
        (0, 400, get("/a", "").replace("?p", "? p")),
        (0, 400, get("/a", "").replace("&q", "#q")),
        (0, 400, get("/a", "").replace("&q", "\x07q")),
        (0, 400, get("/a", "").replace("/a?", "/a b?")),
        (0, 400, get("/a", "").replace("/a?", "/a\u{e9}?")),
        (0, 400, get("/a{b}", "")),
        (0, 400, get("/a/../b", "")),
        (0, 400, get("/a;b", "")),
        (0, 400, get("/a", "").replace("HTTP/1.1", "HTTP/9.9")),
        (0, 400, get("/a", "").replace("Host: localhost\r\n", "")),
        (0, 400, get("/a", "Host: localhost\r\n")),
        (
            0,
            400,
            get("/a", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (0, 400, get("/a", "X: y\nZ: z\r\n")),
        (0, 400, get("a", "")),
        (
            0,
            400,
            with_secret("POST", "/simulator/sink", "Transfer-Encoding: chunked\r\n") + "zz\r\n",
        ),
        (0, 403, get("/a", "Origin: http://evil.example\r\n")),
        (
            0,
            403,
            get("/a", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n"),
        ),
        (0, 405, with_secret("TRACE", "/a", "")),
        (0, 408, get("/a", "").replace("\r\n\r\n", "\r\nX: ")),
        (0, 413, with_secret("POST", "/a", body)),
        (
            0,
            414,
            get("/a", "").replace("?p", &format!("?{}p", "\"".repeat(100))),
        ),
        (0, 417, get("/a", "Expect: the-unexpected\r\n")),
        (0, 421, get("/a", "").replace("localhost", "evil.example")),
        (0, 421, get("http://evil.example/a", "")),
        (0, 431, get("/a", &"X: y\r\n".repeat(101))),
        (0, 502, get("/reset", "")),
        (0, 502, get("/close", "")),
        (0, 504, get("/hang", "")),
        (0, 508, get("/a", "Via: 1.1 bondgate\r\n")),
        (1, 401, get("/a", "")),
        (1, 401, get("/a", "X-Bondgate-Key: no-key-of-any-caller\r\n")),
        (2, 403, get("/a", "")),
        (3, 403, get("/a", "")),
    ]
}

#[tokio::test]
async fn no_log_line_answer_or_status_repeats_a_query() {
    // From here on every answer, and every daemon's log at its end, is searched for it.
    confidential::keep(SECRET);
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "timeout = { head = \"400ms\" }\nreplay = \"1KiB\"");
    let keys = setup.file("callers", "caller:a-key-of-the-callers\n");
    let daemon = setup
        .listener(
            "127.0.0.1:0",
            &format!("upstream = \"cisco\"\nkeys = {{ file = {keys:?} }}"),
        )
        .listener(
            "127.0.0.1:0",
            "upstream = \"ruled\"\nrequire_header = \"X-Bondgate\"",
        )
        .listener("127.0.0.1:0", "upstream = \"ruled\"")
        .upstream("ruled", &cisco, "demo", DEMO_SECRET, "")
        .and("[limits]\nbody = \"1KiB\"\nfirst_byte = \"300ms\"\ntarget = \"300\"\nin_flight = 8\n")
        .environment("BONDGATE__LISTENER__0__UPSTREAM", "cisco")
        .start()
        .await;
    let addresses = daemon.addresses();
    let fault = |path: &str, kind| cisco.script(Fault::on(On::Path(path.to_owned()), kind).forever());
    fault("/reset", Kind::Reset);
    fault("/hang", Kind::Hang);
    fault("/close", Kind::Close);
    fault("/unauthorized", Kind::status(http::StatusCode::UNAUTHORIZED));
    for (listener, status, request) in refusals() {
        let mut caller = Caller::to(addresses[listener]).await;
        caller.say(&request).await;
        let answer = caller.message().await;
        assert_eq!(answer.status(), status, "{request}: {answer:?}");
    }
    // An upstream that refuses every token, and a body that is not at hand to be sent again.
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(with_secret("GET", "/unauthorized", "")).await;
    assert!([401, 503].contains(&caller.message().await.status()));
    // A caller that leaves before its answer, and one that resets in the middle of its head.
    let half = with_secret("GET", "/a", "").replace("\r\n\r\n", "\r\n");
    for request in [with_secret("GET", "/hang", ""), half] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(&request).await;
        caller.reset();
    }
    // No token at all, and too many connections.
    let tokenless = simulator(Options::default()).await;
    tokenless.script(Fault::on(On::Token, Kind::Reset).forever());
    let mut without = Setup::open(&tokenless, "wait = \"100ms\"")
        .and("[limits]\nconnections = 1\n")
        .environment("BONDGATE__SERVER__WORKERS", "1")
        .start_without_token()
        .await;
    without.logged("no valid token").await;
    let mut caller = Caller::to(without.address()).await;
    let get = with_secret("GET", "/a", "");
    caller.say(&get).await;
    assert_eq!(caller.message().await.status(), 503);
    drop(caller);
    let silent = async {
        loop {
            let silent = TcpStream::connect(without.address()).await.unwrap();
            let mut more = Caller::to(without.address()).await;
            if let Some(answer) = more.try_asked(&get).await
                && answer.error() == "connection_limit_reached"
            {
                break silent;
            }
        }
    };
    drop(
        tokio::time::timeout(crate::harness::PATIENCE, silent)
            .await
            .unwrap(),
    );

    for mut daemon in [daemon, without] {
        for path in ["/", "/status.json", "/metrics", "/readyz?token"] {
            confidential::assert_clean(daemon.ask(path).await.0.as_bytes());
        }
        let asked = daemon.ask(&format!("/nothing?password={SECRET}")).await;
        confidential::assert_clean(asked.0.as_bytes());
        daemon.signal("TERM");
        daemon.ended().await;
        let log = daemon.log();
        assert!(log.iter().any(|line| line.contains("TRACE")));
        confidential::assert_clean(log.join("\n").as_bytes());
    }
    // It did go where it belongs.
    let has_it = |seen: &Seen| seen.target.contains(SECRET) && seen.target.contains("q=%22");
    assert!(relayed(&cisco).iter().any(has_it));
}
