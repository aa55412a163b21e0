//! An identity service that returns the same token until it expires, and counts `expires_in` down to 0, while
//! the API responds 401 from the moment that the token expires.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bondgate::simulator::{Endpoint, ExpiresIn, Handle, Options, Seen, TokenReuse};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::harness::{PATIENCE, Setup, seen_when, simulator};
use crate::wire::Caller;

const ECHO: &str = "/simulator/echo";

/// An identity service whose tokens live for `lifetime` and are repeated until then.
pub(crate) async fn repeating(lifetime: Duration, expires_in: ExpiresIn) -> Handle {
    simulator(Options {
        token_lifetime: lifetime,
        token_reuse: TokenReuse::UntilExpiry,
        expires_in,
        ..Options::default()
    })
    .await
}

/// How a number of calls went.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) made: usize,
    /// The status of each call that did not get 200.
    pub(crate) failed: Vec<u16>,
    pub(crate) slowest: Duration,
}

/// GET and POST by turns, by two callers at a steady pace, until so many tokens were issued.
pub(crate) async fn call_until(cisco: &Handle, address: SocketAddr, tokens: usize, pace: Duration) -> Calls {
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let cisco = cisco.clone();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            let mut pace = tokio::time::interval(pace);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut calls = Calls {
                made: 0,
                failed: Vec::new(),
                slowest: Duration::ZERO,
            };
            while cisco.tokens.count() < tokens {
                pace.tick().await;
                let request = if calls.made.is_multiple_of(2) {
                    format!("GET {ECHO} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                } else {
                    format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
                };
                let began = Instant::now();
                caller.say(&request).await;
                let response = caller.message().await;
                calls.slowest = calls.slowest.max(began.elapsed());
                calls.made += 1;
                if response.status() != 200 {
                    calls.failed.push(response.status());
                }
            }
            calls
        });
    }
    callers
        .join_all()
        .await
        .into_iter()
        .reduce(|one, other| Calls {
            made: one.made + other.made,
            failed: [one.failed, other.failed].concat(),
            slowest: one.slowest.max(other.slowest),
        })
        .unwrap()
}

fn is_token(seen: &Seen) -> bool {
    seen.endpoint == Endpoint::Token
}

pub(crate) fn token_requests(cisco: &Handle) -> usize {
    cisco.seen().iter().filter(|seen| is_token(seen)).count()
}

#[tokio::test]
async fn a_token_that_is_repeated_until_it_expires_is_replaced_without_a_failed_request() {
    let mut runs = JoinSet::new();
    // Rounded up, the token expires before its reply says so.
    for expires_in in [ExpiresIn::Lifetime, ExpiresIn::RoundedUp] {
        runs.spawn(async move {
            let cisco = repeating(Duration::from_secs(2), expires_in.clone()).await;
            let daemon = Setup::open(&cisco, "").start().await;
            let calls = call_until(&cisco, daemon.address(), 4, Duration::from_millis(20)).await;
            let (requests, refused) = (token_requests(&cisco), cisco.tokens.refused());
            println!(
                "{expires_in:?}: {calls:?}, {requests} token requests, {refused} calls with an expired token"
            );
            assert!(calls.failed.is_empty(), "{expires_in:?}: {calls:?}");
            assert!(calls.made > 50, "{expires_in:?}: {calls:?}");
            // At half of its lifetime, at its end, and every 250 ms while a second or less is left.
            assert!(requests <= 4 * 8, "{expires_in:?}: {requests} token requests");
            if expires_in == ExpiresIn::Lifetime {
                // At the moment of its expiry one of each caller may have been on its way.
                assert!(refused <= 2 * 3, "{expires_in:?}: {refused}");
            }
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_token_is_requested_again_when_it_expires_and_not_before() {
    let lifetime = Duration::from_secs(3);
    let cisco = repeating(lifetime, ExpiresIn::Lifetime).await;
    let began = Instant::now();
    let daemon = Setup::open(&cisco, "").start().await;
    // At the start, at half of its lifetime, and then.
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| is_token(seen)).count() == 3
    })
    .await;
    assert!(
        began.elapsed() >= lifetime,
        "requested after {:?}",
        began.elapsed()
    );
    assert_eq!(daemon.get(ECHO).await.status(), 200);
}

#[tokio::test]
async fn a_rejected_token_that_is_issued_again_is_not_sent_and_the_request_waits_for_its_successor() {
    let cisco = repeating(Duration::from_secs(3), ExpiresIn::Lifetime).await;
    let daemon = Setup::open(&cisco, "wait = \"20s\"").start().await;
    // Half of its lifetime is over: it is repeated for 1.4 to 1.6 s more.
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| is_token(seen)).count() == 2
    })
    .await;
    cisco.tokens.revoke(None);

    let response = tokio::time::timeout(PATIENCE, daemon.get(ECHO)).await.unwrap();

    assert_eq!(response.status(), 200, "{response:?}");
    assert_eq!(cisco.tokens.refused(), 1, "it was sent once");
    assert_eq!(cisco.tokens.count(), 2);
    let requests = token_requests(&cisco);
    assert!((4..=12).contains(&requests), "{requests} token requests");
}
