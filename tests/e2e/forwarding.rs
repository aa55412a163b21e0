//! A request goes up and its answer comes back, byte for byte, whatever its form.

use bondgate::simulator::Options;

use crate::harness::{PULL, Setup, simulator};

#[tokio::test]
async fn a_pulled_message_comes_back_with_the_token_that_the_caller_never_saw() {
    let cisco = simulator(Options::default()).await;
    cisco.put_message(serde_json::json!({ "Calls": { "CustCallID": "INC1" } }));
    let daemon = Setup::at(&cisco).start().await;

    let answer = daemon.get(PULL).await;

    assert_eq!(answer.status(), 200);
    assert!(answer.body().contains("INC1"), "{answer:?}");
    let seen = cisco.seen();
    assert_eq!(seen.last().unwrap().token_client.as_deref(), Some("demo"));
}
