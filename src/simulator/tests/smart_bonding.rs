use reqwest::header::AUTHORIZATION;
use serde_json::json;

use super::cisco::endpoint::TSP_CODES_PATH;
use super::*;

const EMPTY: &str = "No messages available to Send";

#[tokio::test]
async fn pulls_take_messages_in_order_until_the_queue_is_empty() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for number in 1..=2 {
        let message = json!({"number": number});
        fixture.cisco.put_raw_message("demo", message.to_string());
    }
    fixture.cisco.put_raw_message("demo", " {\"a\": 1.50 }\n");
    assert_eq!(json(fixture.pull(&token).await).await["number"], 1);
    let post = fixture.request(Method::POST, PULL_PATH).bearer_auth(&token);
    assert_eq!(json(post.send().await.unwrap()).await["number"], 2);
    let raw = fixture.pull(&token).await.text().await.unwrap();
    assert_eq!(raw, " {\"a\": 1.50 }\n");
    let empty = fixture.pull(&token).await;
    assert_eq!(empty.status(), 200);
    assert_eq!(json(empty).await, json!({"message": EMPTY, "status": "200"}));
    fixture.cisco.options().empty_queue = EmptyQueue::NoContent;
    assert_eq!(fixture.pull(&token).await.status(), 204);
}

#[tokio::test]
async fn a_head_request_takes_no_message() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.put_samples(1);
    let head = fixture.request(Method::HEAD, PULL_PATH).bearer_auth(&token);
    assert_eq!(head.send().await.unwrap().status(), 405);
    assert_eq!(fixture.cisco.queue_len(), 1);
    let sample = json(fixture.pull(&token).await).await;
    assert!(sample["ExtTableValues"]["Field81"].is_string());
}

#[tokio::test]
async fn a_valid_push_is_accepted_and_acknowledged_by_pull() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let ticket = json!({
        "Calls": {"CustCallID": "INC7", "ShortDescription": "down"},
        "CallStates": {"ShortName": "New"},
    });
    let response = fixture.push(&token, ticket.to_string()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(json(response).await["status"], "200");
    let message = json(fixture.pull(&token).await).await;
    assert_eq!(message["Calls"]["CustCallID"], "INC7");
    assert!(message["Calls"]["SPCallID"].is_string());
    assert!(message["Calls"]["Remarks"].is_string());
}

#[tokio::test]
async fn a_wrong_push_is_accepted_too_and_its_errors_come_by_pull() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let ticket = json!({"Calls": {}, "CallStates": {"ShortName": "Open"}});
    assert_eq!(fixture.push(&token, ticket.to_string()).await.status(), 200);
    let message = json(fixture.pull(&token).await).await;
    let remarks = message["Calls"]["Remarks"].as_array().unwrap();
    assert_eq!(remarks.len(), 2);
    for remark in remarks {
        assert!(remark["errorMessage"].is_string() && remark["errorCode"].is_string());
    }
}

#[tokio::test]
async fn a_push_that_is_no_json_object_is_refused_at_once() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for body in ["", "hello", "[]", "{\"a\":"] {
        let refused = fixture.push(&token, body).await;
        assert_eq!(refused.status(), 400, "{body}");
        assert_eq!(json(refused).await["status"], "400");
    }
    assert_eq!(fixture.cisco.queue_len(), 0);
}

#[tokio::test]
async fn every_client_has_its_own_queue() {
    let fixture = Fixture::with(Options {
        clients: vec![client("demo", "demo-secret"), client("other", "x")],
        ..Options::default()
    })
    .await;
    fixture.cisco.put_raw_message("other", "{}");
    let token = fixture.token().await;
    assert_eq!(json(fixture.pull(&token).await).await["message"], EMPTY);
    assert_eq!(fixture.cisco.queue_len(), 1);
}

#[tokio::test]
async fn exactly_one_valid_bearer_is_accepted() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let pull = || fixture.request(Method::GET, PULL_PATH);
    for request in [
        pull(),
        pull().bearer_auth("unknown"),
        pull().header(AUTHORIZATION, format!("bearer {token}")),
        pull().header(AUTHORIZATION, &token),
        pull().basic_auth("demo", Some("demo-secret")),
        pull().bearer_auth(&token).bearer_auth(&token),
        pull().header(AUTHORIZATION, &b"Bearer \xff"[..]),
    ] {
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(json(refused).await["status"], "401");
    }
    assert_eq!(fixture.pull(&token).await.status(), 200);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_the_next_one_is_not() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.cisco.tokens.revoke(None);
    assert_eq!(fixture.pull(&token).await.status(), 401);
    let token = fixture.token().await;
    assert_eq!(fixture.pull(&token).await.status(), 200);
}

#[tokio::test]
async fn a_mashery_rejection_is_a_403_with_its_code() {
    let fixture = Fixture::start().await;
    fixture.cisco.options().bearer_rejection = BearerRejection::Mashery;
    let refused = fixture.pull("unknown").await;
    assert_eq!(refused.status(), 403);
    let code = refused.headers()["x-mashery-error-code"].to_str().unwrap();
    assert_eq!(code, "ERR_403_NOT_AUTHORIZED");
}

#[tokio::test]
async fn a_request_with_a_correlation_id_gets_a_transaction_id() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let request = fixture.pull_request(&token).header("x-correlation-id", "7");
    let response = request.send().await.unwrap();
    assert!(response.headers().contains_key("x-transaction-id"));
    let response = fixture.pull(&token).await;
    assert!(!response.headers().contains_key("x-transaction-id"));
}

#[tokio::test]
async fn the_tsp_codes_come_in_one_response() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let request = fixture.request(Method::GET, TSP_CODES_PATH);
    let reply = json(request.bearer_auth(&token).send().await.unwrap()).await;
    assert_eq!(reply["tspCodes"].as_array().unwrap().len(), 19_000);
}

#[tokio::test]
async fn unknown_paths_and_methods_get_errors_in_ciscos_shape() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (method, path, status) in [
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, PUSH_PATH, StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, PULL_PATH, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let request = fixture.request(method, path).bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(json(response).await["status"], status.as_str());
    }
}
