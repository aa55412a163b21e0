//! Ten rollovers of a token that the identity service returns until it expires.

use std::time::Duration;

use bondgate::simulator::ExpiresIn;

use crate::harness::Setup;
use crate::token_reuse::{call_until, repeating, token_requests};

#[tokio::test]
#[ignore = "takes two minutes; run by .ci/soak"]
async fn ten_rollovers_of_a_repeated_token_of_12_seconds_fail_none_of_a_thousand_calls() {
    let cisco = repeating(Duration::from_secs(12), ExpiresIn::Lifetime).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let calls = call_until(&cisco, daemon.address(), 11, Duration::from_millis(200)).await;
    println!(
        "{} of {} calls failed over ten rollovers, the slowest took {:?}; {} token requests, {} calls with an expired \
         token",
        calls.failed.len(),
        calls.made,
        calls.slowest,
        token_requests(&cisco),
        cisco.tokens.refused(),
    );
    assert!(calls.failed.is_empty(), "{calls:?}");
    assert!(calls.made >= 1000, "{calls:?}");
}
