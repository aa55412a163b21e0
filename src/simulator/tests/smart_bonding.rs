use reqwest::header::AUTHORIZATION;
use serde_json::json;

use super::super::smart_bonding::TSP_CODES_PATH;
use super::*;

const EMPTY: &str = "No messages available to Send";

#[tokio::test]
async fn pulls_take_messages_in_order_until_the_queue_is_empty() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    for number in 1..=2 {
        stand.cisco.put_message(json!({"number": number}));
    }
    stand.cisco.put_raw_message("demo", " {\"a\": 1.50 }\n");
    assert_eq!(json(stand.pull(&token).await).await["number"], 1);
    let post = stand.request(Method::POST, PULL_PATH).bearer_auth(&token);
    assert_eq!(json(post.send().await.unwrap()).await["number"], 2);
    let raw = stand.pull(&token).await.text().await.unwrap();
    assert_eq!(raw, " {\"a\": 1.50 }\n");
    let empty = stand.pull(&token).await;
    assert_eq!(empty.status(), 200);
    assert_eq!(json(empty).await, json!({"message": EMPTY, "status": "200"}));
    stand.cisco.set_behaviour(Behaviour {
        empty_queue: EmptyQueue::NoContent,
        ..Behaviour::default()
    });
    assert_eq!(stand.pull(&token).await.status(), 204);
}

#[tokio::test]
async fn a_head_request_takes_no_message() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.put_samples(1);
    let head = stand.request(Method::HEAD, PULL_PATH).bearer_auth(&token);
    assert_eq!(head.send().await.unwrap().status(), 405);
    assert_eq!(stand.cisco.queue_len(), 1);
    let sample = json(stand.pull(&token).await).await;
    assert!(sample["ExtTableValues"]["Field81"].is_string());
}

#[tokio::test]
async fn a_good_push_is_taken_and_acknowledged_by_pull() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let ticket = json!({
        "Calls": {"CustCallID": "INC7", "ShortDescription": "down"},
        "CallStates": {"ShortName": "New"},
    });
    let answer = stand.push(&token, ticket.to_string()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json(answer).await["status"], "200");
    let message = json(stand.pull(&token).await).await;
    assert_eq!(message["Calls"]["CustCallID"], "INC7");
    assert!(message["Calls"]["SPCallID"].is_string());
    assert!(message["Calls"]["Remarks"].is_string());
}

#[tokio::test]
async fn a_wrong_push_is_taken_too_and_its_faults_come_by_pull() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let ticket = json!({"Calls": {}, "CallStates": {"ShortName": "Open"}});
    assert_eq!(stand.push(&token, ticket.to_string()).await.status(), 200);
    let message = json(stand.pull(&token).await).await;
    let remarks = message["Calls"]["Remarks"].as_array().unwrap();
    assert_eq!(remarks.len(), 2);
    for remark in remarks {
        assert!(remark["errorMessage"].is_string() && remark["errorCode"].is_string());
    }
}

#[tokio::test]
async fn a_push_that_is_no_json_object_is_refused_at_once() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    for body in ["", "hello", "[]", "{\"a\":"] {
        let refused = stand.push(&token, body).await;
        assert_eq!(refused.status(), 400, "{body}");
        assert_eq!(json(refused).await["status"], "400");
    }
    assert_eq!(stand.cisco.queue_len(), 0);
}

#[tokio::test]
async fn every_client_has_a_queue_of_its_own() {
    let stand = Stand::with(Options {
        clients: vec![client("demo", "demo-secret"), client("other", "x")],
        ..Options::default()
    })
    .await;
    stand.cisco.put_message_for("other", json!({}));
    let token = stand.token().await;
    assert_eq!(json(stand.pull(&token).await).await["message"], EMPTY);
    assert_eq!(stand.cisco.queue_len_of("other"), 1);
}

#[tokio::test]
async fn a_bearer_must_be_live_and_stand_alone() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let pull = || stand.request(Method::GET, PULL_PATH);
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
    assert_eq!(stand.pull(&token).await.status(), 200);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_the_next_one_is_not() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    stand.cisco.revoke("somebody else");
    assert_eq!(stand.pull(&token).await.status(), 200);
    stand.cisco.revoke("demo");
    assert_eq!(stand.pull(&token).await.status(), 401);
    let token = stand.token().await;
    stand.cisco.revoke_all();
    assert_eq!(stand.pull(&token).await.status(), 401);
    let token = stand.token().await;
    assert_eq!(stand.pull(&token).await.status(), 200);
}

#[tokio::test]
async fn masherys_refusal_is_a_403_with_its_code() {
    let stand = Stand::start().await;
    stand.cisco.set_behaviour(Behaviour {
        bearer_rejection: BearerRejection::Mashery,
        ..Behaviour::default()
    });
    let refused = stand.pull("unknown").await;
    assert_eq!(refused.status(), 403);
    let code = refused.headers()["x-mashery-error-code"].to_str().unwrap();
    assert_eq!(code, "ERR_403_NOT_AUTHORIZED");
}

#[tokio::test]
async fn a_correlated_request_gets_a_transaction_id() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let request = stand.pull_request(&token).header("x-correlation-id", "7");
    let answer = request.send().await.unwrap();
    assert!(answer.headers().contains_key("x-transaction-id"));
    let answer = stand.pull(&token).await;
    assert!(!answer.headers().contains_key("x-transaction-id"));
}

#[tokio::test]
async fn the_tsp_codes_come_in_one_reply() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    let request = stand.request(Method::GET, TSP_CODES_PATH);
    let reply = json(request.bearer_auth(&token).send().await.unwrap()).await;
    assert_eq!(reply["tspCodes"].as_array().unwrap().len(), 19_000);
}

#[tokio::test]
async fn what_is_not_there_is_told_in_ciscos_shape() {
    let stand = Stand::start().await;
    let token = stand.token().await;
    for (method, path, status) in [
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, PUSH_PATH, StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, PULL_PATH, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let request = stand.request(method, path).bearer_auth(&token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(json(answer).await["status"], status.as_str());
    }
}
