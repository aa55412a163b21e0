//! A request goes up and its answer comes back, byte for byte, whatever its form.

use bondgate::simulator::{Fault, Kind, On, Options};
use http::StatusCode;

use crate::harness::{PATIENCE, PULL, PUSH, Setup, relayed, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::{Caller, End};

#[tokio::test]
async fn a_pulled_message_comes_back_with_the_token_that_the_caller_never_saw() {
    let cisco = simulator(Options::default()).await;
    cisco.put_raw_message("demo", r#"{"Calls": {"CustCallID": "INC1"}}"#);
    let daemon = Setup::at(&cisco).start().await;

    let answer = daemon.get(PULL).await;

    assert_eq!(answer.status(), 200);
    assert!(answer.body().contains("INC1"), "{answer:?}");
    let seen = cisco.seen();
    assert_eq!(seen.last().unwrap().token_client.as_deref(), Some("demo"));
}

#[tokio::test]
async fn a_pushed_body_goes_up_byte_for_byte_and_so_does_a_pulled_one_come_back() {
    let cisco = simulator(Options::default()).await;
    let ticket =
        "{ \"Calls\":{\"CustCallID\" : \"INC1\",\"Remarks\":\"caf\u{e9} \\u00e9\\/ \" }, \"n\":1.0e2 }\n";
    let message = "{\"Remarks\" : [ ],\"n\":1.50, \"n\":2}\r\n";
    cisco.put_raw_message("demo", message);
    let daemon = Setup::at(&cisco).start().await;
    let mut caller = Caller::to(daemon.address()).await;

    let push = format!(
        "POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{ticket}",
        ticket.len()
    );
    caller.say(push).await;
    assert_eq!(caller.message().await.status(), 200);
    caller
        .say(format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    assert_eq!(caller.message().await.text(), message);

    assert_eq!(relayed(&cisco)[0].body, ticket.as_bytes());
}

#[tokio::test]
async fn path_and_a_query_that_a_uri_may_have_go_upstream_byte_for_byte() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let targets = [
        "/,=*:%2C%c3%A9?a=b&c=%2F+x&&",
        "/product/v1/WIC-1T=",
        "/",
        "/?",
        "/a/?",
        "/a?x=//../%2e%2e;b%5cc&http://evil.example/",
        "/a?100%&%zz",
        "/a?%7bb:%5B1%5d%7D'",
        "/$&'()!+@~/...",
        "/a?q=?&?",
    ];

    let mut caller = Caller::to(daemon.address()).await;
    for target in targets {
        caller
            .say(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(caller.message().await.status(), 404, "{target}");
    }

    let seen = relayed(&cisco);
    assert_eq!(
        seen.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(),
        targets
    );
}

#[tokio::test]
async fn the_base_path_of_the_url_is_put_before_the_path_that_the_rules_judged() {
    let cisco = simulator(Options::default()).await;
    let url = format!("{}/simulator/", cisco.url());
    let rules = "rules = [{ methods = [\"GET\"], path = \"/bytes/*\" }]";
    let daemon = Setup::apart(&cisco, &url, "", rules).start().await;

    assert_eq!(daemon.get("/bytes/5").await.status(), 200);
    assert_eq!(daemon.get("/simulator/bytes/5").await.status(), 403);

    let seen = relayed(&cisco);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/simulator/bytes/5");
}

#[tokio::test]
async fn a_target_in_absolute_form_is_served_by_its_path_and_the_upstream_sees_its_own_host() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let targets = [
        ("http://localhost/a,b?c=%2f", "/a,b?c=%2f"),
        ("HTTP://127.0.0.1:8080/a?", "/a?"),
        ("https://localhost/", "/"),
        ("http://localhost", "/"),
        ("http://localhost?x=1", "/?x=1"),
    ];

    let mut caller = Caller::to(daemon.address()).await;
    for (target, _) in targets {
        caller
            .say(format!("GET {target} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"))
            .await;
        assert_eq!(caller.message().await.status(), 404, "{target}");
    }

    let host = format!("localhost:{}", cisco.address().port());
    for (seen, (_, expected)) in relayed(&cisco).iter().zip(targets) {
        assert_eq!(seen.target, expected);
        assert_eq!(seen.header("host"), [host.as_str()]);
    }
    let foreign = "GET http://evil.example/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(daemon.send(foreign).await.status(), 421);
    assert_eq!(relayed(&cisco).len(), targets.len());
}

#[tokio::test]
async fn every_method_goes_through_where_any_request_may() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "x-odd!",
    ];

    let mut caller = Caller::to(daemon.address()).await;
    for method in methods {
        caller
            .say(format!(
                "{method} /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ))
            .await;
        let head = caller.head().await;
        assert_eq!(head.status(), 200, "{method}");
        if method != "HEAD" {
            let echo = caller.body_of(head).await;
            assert!(
                echo.text().contains(&format!("\"method\":\"{method}\"")),
                "{echo:?}"
            );
        }
    }

    let seen = relayed(&cisco);
    assert_eq!(
        seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(),
        methods
    );
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    for count in 0..100 {
        let body = "x".repeat(count);
        caller
            .say(format!(
                "POST /simulator/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {count}\r\n\r\n{body}"
            ))
            .await;
        let answer = caller.message().await;
        assert!(
            answer.text().contains(&format!("\"bytes\":{count},")),
            "{answer:?}"
        );
    }

    let seen = relayed(&cisco);
    assert!(
        seen.iter().all(|one| one.connection == seen[0].connection),
        "the upstream's connection is kept too"
    );
}

#[tokio::test]
async fn twenty_pipelined_requests_are_answered_in_their_order() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    let requests: Vec<String> = (0..20)
        .map(|number| format!("GET /simulator/echo?{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    caller.say(requests.concat()).await;

    for number in 0..20 {
        let answer = caller.message().await;
        assert!(
            answer.text().contains(&format!("/echo?{number}\"")),
            "{number}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_pipelined_bad_request_is_refused_behind_the_answer_before_it() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(
            "POST /simulator/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\nx\r\n0\r\n\r\nGET /simulator/echo HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .await;

    assert_eq!(caller.message().await.status(), 200);
    let refusal = caller.message().await;
    assert_eq!(refusal.status(), 400);
    assert!(refusal.text().contains("Host is missing"), "{refusal:?}");
    caller.is_over().await;
    assert_eq!(relayed(&cisco).len(), 1);
}

#[tokio::test]
async fn a_half_closed_caller_still_gets_its_answer() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.script(Fault::on(On::Any, Kind::Slow { ms: 300 }).times(2));

    for request in [
        "GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /simulator/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request).await;
        caller.finish().await;

        assert_eq!(caller.message().await.status(), 200);
        caller.is_over().await;
    }
}

#[tokio::test]
async fn a_caller_that_resets_ends_the_upstream_request() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.script(Fault::on(On::Path("/simulator/echo".to_owned()), Kind::Hang));

    for (request, begun) in [
        ("GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
        (
            "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhello",
            5,
        ),
    ] {
        cisco.forget_seen();
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request).await;
        cisco
            .wait_for(|seen| seen.last().is_some_and(|last| last.body_bytes == begun))
            .await;
        caller.reset();

        // The simulator answers an upload that breaks off with 400, for what is left of its client.
        let gone = cisco.wait_for(|seen| seen.iter().any(|one| one.abandoned || one.status.is_some()));
        let gone = tokio::time::timeout(PATIENCE, gone).await;
        let gone = &gone.expect("the daemon leaves too")[0];
        assert!(gone.abandoned || !gone.body_complete, "{gone:?}");
        assert_ne!(gone.status, Some(200), "{request}");
    }
}

#[tokio::test]
async fn an_early_answer_comes_back_before_the_upload_has_ended() {
    let cisco = simulator(Options::default()).await;
    let too_large = Kind::status(StatusCode::PAYLOAD_TOO_LARGE);
    let daemon = Setup::open(&cisco, "").start().await;
    cisco.script(Fault::on(On::Any, too_large).early().times(2));

    for framing in [
        "Content-Length: 1000000\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!(
                "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n{framing}"
            ))
            .await;
        let answer = caller.message().await;
        assert_eq!(answer.status(), 413);
        assert_eq!(
            answer.field("proxy-status"),
            None,
            "this is the upstream's answer"
        );
        // What is left of the upload can no longer be told from a next request.
        let (rest, end) = caller.rest().await;
        assert_eq!((rest.len(), end), (0, End::Closed));
    }
}

#[tokio::test]
async fn an_answer_before_the_upload_and_a_close_come_back_whole() {
    let cisco = simulator(Options::default()).await;
    let api = RawUpstream::bind().await;
    let daemon = Setup::apart(&cisco, &api.url(), &api.ca_pem, "").start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    let mut upstream = api.accept().await;
    upstream.head().await;
    upstream
        .say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        .await;
    upstream.finish().await;

    let answer = caller.message().await;
    assert_eq!((answer.status(), answer.text()), (403, "no"));
}
