//! An identity service that fails in any way: callers do not notice while the token is valid, get a response at once when
//! it has expired, and succeed again after the first successful fetch.

use std::time::{Duration, Instant};

use bondgate::simulator::{Fault, Handle, Kind, On};
use http::StatusCode;
use tokio::task::JoinSet;

use crate::door::Door;
use crate::harness::Setup;
use crate::inside::{Inside, fast_simulator};

const MINUTE: Duration = Duration::from_secs(60);
const ECHO: &str = "/simulator/echo";

fn setup(cisco: &Handle) -> Setup {
    Setup::open(cisco, "")
}

/// What may be wrong with an identity service and passes, each by its name.
fn token_faults() -> Vec<(&'static str, Kind)> {
    let html = |status| Kind::Html { status };
    let raw = |bytes: &'static str| Kind::Raw { bytes: bytes.into() };
    let json = |body: &'static str| Kind::Status {
        code: 200,
        headers: Vec::new(),
        body: body.to_owned(),
    };
    vec![
        ("hangs", Kind::Hang),
        ("resets", Kind::Reset),
        ("closes", Kind::Close),
        ("responds with 503", Kind::status(StatusCode::SERVICE_UNAVAILABLE)),
        (
            "responds with 500",
            Kind::status(StatusCode::INTERNAL_SERVER_ERROR),
        ),
        ("responds with 408", Kind::status(StatusCode::REQUEST_TIMEOUT)),
        ("responds with 425", Kind::status(StatusCode::TOO_EARLY)),
        (
            "responds with 429",
            Kind::RateLimited {
                retry_after: None,
                reset_in: 2,
            },
        ),
        ("responds with 200 with nothing", Kind::Empty),
        ("responds with 200 with HTML", html(200)),
        ("responds with 403 with HTML", html(403)),
        ("responds with 200 with half of its JSON", Kind::TruncatedJson),
        ("responds with 200 without access_token", Kind::NoAccessToken),
        ("responds with a token with line breaks", Kind::BadToken),
        (
            "responds with expires_in 0",
            json(r#"{"access_token":"t","expires_in":0}"#),
        ),
        (
            "responds with expires_in -1",
            json(r#"{"access_token":"t","expires_in":-1}"#),
        ),
        (
            "responds with expires_in of words",
            json(r#"{"access_token":"t","expires_in":"soon"}"#),
        ),
        ("responds with what is not HTTP", raw("220 mail ready\r\n")),
        (
            "redirects",
            raw("HTTP/1.1 307 Moved\r\nLocation: https://localhost:1/\r\nContent-Length: 0\r\n\r\n"),
        ),
    ]
}

#[tokio::test]
async fn no_failure_of_the_identity_service_affects_a_caller_while_the_token_is_valid() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let mut runs = JoinSet::new();
    for (what, kind) in token_faults() {
        // A few at once: each has a clock that outruns a machine with too much to do.
        if runs.len() == 3 {
            runs.join_next().await.unwrap().unwrap();
        }
        runs.spawn(async move {
            // A minute of token time is two seconds.
            let cisco = fast_simulator(30, MINUTE).await;
            let daemon = Inside::start(setup(&cisco), 30);
            let fails = || cisco.script(Fault::on(On::Token, kind.clone()).forever());
            assert_unnoticed(what, &cisco, &daemon, fails, || cisco.faults().clear()).await;
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn an_identity_service_that_stops_affects_no_caller_while_the_token_is_valid() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(30, MINUTE).await;
    let door = Door::to(cisco.address());
    let token_url = cisco
        .token_url()
        .replace(&cisco.address().port().to_string(), &door.port().to_string());
    let setup = setup(&cisco).environment("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", &token_url);
    let daemon = Inside::start(setup, 30);
    assert_unnoticed("dies", &cisco, &daemon, || door.close(), || door.open()).await;
}

/// A daemon with a good token whose identity service fails from one moment to another.
async fn assert_unnoticed(what: &str, cisco: &Handle, daemon: &Inside, fails: impl Fn(), heals: impl Fn()) {
    daemon.has_token().await;
    assert_eq!(daemon.get(ECHO).await.status(), 200);
    fails();
    let expires = daemon.token().await["expires"].as_str().unwrap().to_owned();
    let expires = humantime::parse_rfc3339(&expires).unwrap();

    let mut served = 0;
    let last = loop {
        let response = daemon.get(ECHO).await;
        if response.status() != 200 {
            break response;
        }
        served += 1;
    };

    let rounding = Duration::from_secs(1);
    assert!(
        daemon.clock.now().wall + rounding >= expires,
        "{what}: served to the end"
    );
    assert!(served > 10, "{what}: {served}");
    assert_eq!(last.status(), 503, "{what}");
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let response = daemon.get(ECHO).await;
        times.push(began.elapsed());
        assert_eq!(response.status(), 503, "{what}");
        assert!(response.field("retry-after").is_some() && response.body().contains("was not executed"));
    }
    times.sort();
    // The middle one, since machines are shared; and none waited for a token.
    assert!(times[10] < Duration::from_millis(50), "{what}: {times:?}");
    assert!(times[20] < Duration::from_secs(1), "{what}: {times:?}");
    assert_eq!(daemon.token().await["state"], "expired", "{what}");
    // At that moment one may have been on its way.
    assert!(cisco.tokens.refused() <= 1, "{what}: no expired token was sent");

    // Well again with the first attempt.
    let before = cisco.tokens.count();
    heals();
    // Ten seconds of token time, and what a machine with much to do may need beside.
    let soon = Duration::from_secs(10) / 30 + Duration::from_secs(2);
    let attempt = tokio::time::timeout(soon, cisco.tokens.wait_for(before + 1)).await;
    assert!(attempt.is_ok(), "{what}: no attempt within {soon:?}");
    let attempt = Instant::now();
    while daemon.get(ECHO).await.status() != 200 {
        assert!(attempt.elapsed() < Duration::from_secs(2), "{what}");
    }
    assert!(cisco.tokens.max_concurrent() == 1, "{what}");
    println!("{what}: {served} served, 503 in {:?}", times[10]);
}
