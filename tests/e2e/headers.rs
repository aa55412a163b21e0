//! Which header fields go through, and which stay: up and back.

use bondgate::simulator::{Fault, Handle, Kind, On, Options, Seen};
use bytes::Bytes;

use crate::harness::{Daemon, Setup, relayed, simulator};
use crate::wire::{Caller, Message};

/// What the upstream sees of a request with these lines.
async fn sent(daemon: &Daemon, cisco: &Handle, lines: &str) -> Seen {
    let request = format!("GET /simulator/echo HTTP/1.1\r\n{lines}\r\n\r\n");
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request).await;
    assert_eq!(caller.message().await.status(), 200, "{lines}");
    relayed(cisco).pop().unwrap()
}

/// The caller's view of an answer with these lines.
async fn answered(daemon: &Daemon, cisco: &Handle, answer: &'static [u8]) -> Message {
    let bytes = Bytes::from_static(answer);
    cisco.script(Fault::on(On::Any, Kind::Raw { bytes }));
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    caller.message().await
}

fn names(seen: &Seen) -> Vec<String> {
    let mut names: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn fields_named_by_any_connection_line_stay_behind() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let seen = sent(
        &daemon,
        &cisco,
        "Host: localhost\r\nConnection: X-A , keep-alive,,x-b\r\nX-A: 1\r\nX-B: 1\r\nconnection: x-c\r\nX-C: 1\r\n\
         X-C: 2\r\nX-D: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X-D\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\nProxy-Connection: keep-alive",
    )
    .await;

    assert_eq!(
        names(&seen),
        ["authorization", "host", "via", "x-correlation-id", "x-d"]
    );
}

#[tokio::test]
async fn exactly_one_authorization_goes_up_and_it_is_ours() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    for lines in [
        "Authorization: Basic dXNlcjpwYXNz",
        "Authorization: Bearer forged",
        "AUTHORIZATION: Bearer forged\r\nAuthorization: Basic dXNlcjpwYXNz",
        "Authorization_: Bearer forged\r\nX_Authorization: Bearer forged",
        "Connection: Authorization",
        "Connection: close, authorization\r\nAuthorization: Bearer forged",
        "Proxy-Authorization: Bearer forged",
        "Connection: host, content-length, content-type",
    ] {
        let seen = sent(&daemon, &cisco, &format!("Host: localhost\r\n{lines}")).await;
        let ours = seen.header("authorization");
        assert_eq!(ours.len(), 1, "{lines}: {ours:?}");
        assert!(ours[0].starts_with("Bearer ") && !ours[0].contains("forged"));
        assert_eq!(seen.token_client.as_deref(), Some("demo"), "{lines}");
        assert!(!seen.headers.iter().any(|(_, value)| value.contains("forged")));
        assert_eq!(seen.header("host").len(), 1, "{lines}");
    }
}

#[tokio::test]
async fn what_says_who_the_caller_is_stays_behind() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let seen = sent(
        &daemon,
        &cisco,
        "Host: localhost\r\nCookie: a=b\r\nCookie: c=d\r\nProxy-Authorization: Basic eA==\r\nProxy-Anything: x\r\n\
         Forwarded: for=10.1.1.1\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n\
         X-Bondgate-Key: k\r\nX-Real-IP: 10.1.1.1\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /admin\r\n\
         User-Agent: ServiceNow/1.0\r\nAccept: application/json",
    )
    .await;

    assert_eq!(
        names(&seen),
        [
            "accept",
            "authorization",
            "host",
            "user-agent",
            "via",
            "x-correlation-id"
        ]
    );
}

#[tokio::test]
async fn a_field_with_several_lines_keeps_them_in_order_both_ways() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let seen = sent(
        &daemon,
        &cisco,
        "X-Many: 1\r\nHost: localhost\r\nX-Many: 2, 3\r\nVia: 1.0 fred\r\nX-Many:\r\nX-Latin: caf\u{e9}",
    )
    .await;
    assert_eq!(seen.header("x-many"), ["1", "2, 3", ""]);
    assert_eq!(seen.header("via"), ["1.0 fred", "1.1 bondgate"]);
    assert_eq!(seen.header("x-latin"), ["caf\u{c3}\u{a9}"], "the same two bytes");

    let answer = answered(
        &daemon,
        &cisco,
        b"HTTP/1.1 200 OK\r\nX-Many: 1\r\nContent-Length: 0\r\nX-Many: 2, 3\r\nLink: </a>\r\nLink: </b>\r\n\r\n",
    )
    .await;
    assert_eq!(answer.head.fields("x-many"), ["1", "2, 3"]);
    assert_eq!(answer.head.fields("link"), ["</a>", "</b>"]);
    assert_eq!(answer.head.fields("via"), ["1.1 bondgate"]);
}

#[tokio::test]
async fn what_the_upstream_says_of_its_connection_or_of_its_name_does_not_come_back() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let answer = answered(
        &daemon,
        &cisco,
        b"HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 1\r\nX-C: 1\r\n\
          Keep-Alive: timeout=5\r\nUpgrade: h2\r\nProxy-Connection: close\r\nProxy-Authenticate: Basic\r\n\
          Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nSet-Cookie2: e=f\r\nClear-Site-Data: \"*\"\r\nNEL: {}\r\nReport-To: {}\r\n\
          Public-Key-Pins: x\r\nExpect-CT: x\r\nStrict-Transport-Security: max-age=1\r\nAlt-Svc: h3=\":443\"\r\n\
          Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nServer: gateway\r\n\
          Content-Length: 2\r\n\r\nok",
    )
    .await;

    let mut names: Vec<String> = answer
        .head
        .0
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-length",
            "date",
            "server",
            "via",
            "x-c",
            "x-correlation-id"
        ]
    );
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn a_field_that_repeats_our_token_does_not_come_back_and_is_logged() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "").start().await;
    let seen = sent(&daemon, &cisco, "Host: localhost").await;
    let token = seen.header("authorization")[0]
        .trim_start_matches("Bearer ")
        .to_owned();

    for status in ["200 OK", "302 Found", "403 Forbidden"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nX-Echo: {token}\r\nLocation: https://elsewhere.example/?access_token={token}&a\r\n\
             WWW-Authenticate: Bearer realm=\"a\"\r\nWWW-Authenticate: Bearer token=\"{token}\"\r\nServer: gateway\r\n\
             Content-Length: 0\r\n\r\n"
        );
        cisco.script(Fault::on(On::Any, Kind::Raw { bytes: answer.into() }));
        let mut caller = Caller::to(daemon.address()).await;
        caller.say("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        // Every answer is searched for tokens as it is read.
        let answer = caller.message().await;
        assert_eq!(answer.status(), status[..3].parse::<u16>().unwrap());
        for name in ["x-echo", "location", "www-authenticate"] {
            assert_eq!(answer.field(name), None, "{status}");
        }
        assert_eq!(answer.field("server"), Some("gateway"));
    }
    daemon.logged_times("contains the access token", 9).await;
}

#[tokio::test]
async fn what_is_sent_again_after_a_401_has_exactly_one_authorization_too() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.tokens.revoke(None);

    let request = "POST /simulator/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer forged\r\n\
                   Connection: authorization, content-type\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi";
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request).await;
    assert_eq!(caller.message().await.status(), 200);

    let seen = relayed(&cisco);
    assert_eq!(
        seen.iter().map(|seen| seen.status).collect::<Vec<_>>(),
        [Some(401), Some(200)]
    );
    let tokens: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert!(
        tokens
            .iter()
            .all(|lines| lines.len() == 1 && !lines[0].contains("forged")),
        "{tokens:?}"
    );
    assert_ne!(tokens[0], tokens[1]);
    assert!(seen.iter().all(|seen| seen.header("content-type") == ["a/b"]));
}

#[tokio::test]
async fn the_upstreams_close_is_not_the_callers() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    cisco.script(Fault::on(On::Any, Kind::Raw { bytes }).times(3));

    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..3 {
        caller
            .say("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let answer = caller.message().await;
        assert_eq!((answer.text(), answer.field("connection")), ("ok", None));
    }
}

#[tokio::test]
async fn redirects_and_unknown_statuses_pass_as_they_are() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let elsewhere = "https://evil.example/a%2Fb?c#d";

    let mut caller = Caller::to(daemon.address()).await;
    for code in [301, 302, 303, 307, 308, 418, 429, 451, 500, 596, 999] {
        cisco.script(Fault::on(
            On::Any,
            Kind::Status {
                code,
                headers: vec![("location".to_owned(), elsewhere.to_owned())],
                body: format!("<{code}>"),
            },
        ));
        caller
            .say("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let answer = caller.message().await;
        assert_eq!(
            (answer.status(), answer.text()),
            (code, format!("<{code}>").as_str())
        );
        assert_eq!(answer.field("location"), Some(elsewhere));
        assert_eq!(answer.field("proxy-status"), None, "{code}");
    }
    assert_eq!(relayed(&cisco).len(), 11, "nothing is followed or tried again");
}

#[tokio::test]
async fn an_encoded_body_is_not_decoded() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let answer = answered(
        &daemon,
        &cisco,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n\
          \x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
    )
    .await;

    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    assert_eq!(answer.field("content-length"), Some("22"));
    assert_eq!(
        answer.body,
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00"
    );
    let seen = sent(&daemon, &cisco, "Host: localhost").await;
    assert!(
        seen.header("accept-encoding").is_empty(),
        "nothing is asked for unasked"
    );
}

#[tokio::test]
async fn a_correlation_id_goes_up_and_the_transaction_id_comes_back() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\nX-Correlation-ID: INC1/7\r\n\r\n")
        .await;
    let answer = caller.message().await;

    assert_eq!(relayed(&cisco)[0].header("x-correlation-id"), ["INC1/7"]);
    assert_eq!(answer.field("x-transaction-id").map(str::len), Some(32));
}

#[tokio::test]
async fn a_request_that_was_here_before_is_a_loop() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let answer = daemon
        .send(
            "GET /a HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 squid, 1.1 bondgate\r\nConnection: close\r\n\r\n",
        )
        .await;

    assert_eq!(answer.status(), 508);
    assert!(
        answer
            .field("proxy-status")
            .unwrap()
            .contains("proxy_loop_detected")
    );
    assert!(relayed(&cisco).is_empty());
}
