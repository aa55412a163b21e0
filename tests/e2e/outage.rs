//! An identity service that fails in any way: callers notice nothing while the token lives, are answered at
//! once when it is over, and are well again with the first attempt.

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
        ("answers 503", Kind::status(StatusCode::SERVICE_UNAVAILABLE)),
        ("answers 500", Kind::status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("answers 408", Kind::status(StatusCode::REQUEST_TIMEOUT)),
        ("answers 425", Kind::status(StatusCode::TOO_EARLY)),
        (
            "answers 429",
            Kind::RateLimited {
                retry_after: None,
                reset_in: 2,
            },
        ),
        ("answers 200 with nothing", Kind::Empty),
        ("answers 200 with HTML", html(200)),
        ("answers 403 with HTML", html(403)),
        ("answers 200 with half of its JSON", Kind::TruncatedJson),
        ("answers 200 without access_token", Kind::NoAccessToken),
        ("answers a token with line breaks", Kind::BadToken),
        (
            "answers expires_in 0",
            json(r#"{"access_token":"t","expires_in":0}"#),
        ),
        (
            "answers expires_in -1",
            json(r#"{"access_token":"t","expires_in":-1}"#),
        ),
        (
            "answers expires_in of words",
            json(r#"{"access_token":"t","expires_in":"soon"}"#),
        ),
        ("answers what is not HTTP", raw("220 mail ready\r\n")),
        (
            "redirects",
            raw("HTTP/1.1 307 Moved\r\nLocation: https://localhost:1/\r\nContent-Length: 0\r\n\r\n"),
        ),
    ]
}

#[tokio::test]
async fn whatever_the_identity_service_does_callers_notice_nothing_while_the_token_lives() {
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
async fn an_identity_service_that_dies_is_unnoticed_while_the_token_lives() {
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
        let answer = daemon.get(ECHO).await;
        if answer.status() != 200 {
            break answer;
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
        let answer = daemon.get(ECHO).await;
        times.push(began.elapsed());
        assert_eq!(answer.status(), 503, "{what}");
        assert!(answer.field("retry-after").is_some() && answer.body().contains("was not executed"));
    }
    times.sort();
    // The middle one, since machines are shared; and none waited for a token.
    assert!(times[10] < Duration::from_millis(50), "{what}: {times:?}");
    assert!(times[20] < Duration::from_secs(1), "{what}: {times:?}");
    assert_eq!(daemon.token().await["state"], "expired", "{what}");
    // At that moment one may have been on its way.
    assert!(cisco.refused_tokens() <= 1, "{what}: no expired token was sent");

    // Well again with the first attempt.
    let before = cisco.token_count();
    heals();
    // Ten seconds of token time, and what a machine with much to do may need beside.
    let soon = Duration::from_secs(10) / 30 + Duration::from_secs(2);
    let attempt = tokio::time::timeout(soon, cisco.wait_for_tokens(before + 1)).await;
    assert!(attempt.is_ok(), "{what}: no attempt within {soon:?}");
    let attempt = Instant::now();
    while daemon.get(ECHO).await.status() != 200 {
        assert!(attempt.elapsed() < Duration::from_secs(2), "{what}");
    }
    assert!(cisco.max_concurrent_token_requests() == 1, "{what}");
    println!("{what}: {served} served, 503 in {:?}", times[10]);
}
