//! What the responses of the API say about it beyond one request.

use bondgate::simulator::{Fault, Kind, On, Options, Then};
use http::StatusCode;
use serde_json::Value;

use crate::harness::{PULL, Setup, TSP_CODES, simulator};
use crate::spool::on_disk;

const ECHO: &str = "/simulator/echo";

#[tokio::test]
async fn a_route_that_the_api_forbids_is_a_problem_until_it_is_allowed() {
    let cisco = simulator(Options::default()).await;
    let forbidden = Kind::Status {
        code: 403,
        headers: Vec::new(),
        body: "{}".to_owned(),
    };
    cisco.script(Fault::on(On::Path(ECHO.to_owned()), forbidden).times(2));
    let mut daemon = Setup::open(&cisco, "").start().await;
    for _ in 0..2 {
        assert_eq!(daemon.get(ECHO).await.status(), 403);
        assert_eq!(daemon.get(TSP_CODES).await.status(), 200);
    }
    // Another method is another route.
    let post =
        format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(daemon.send(&post).await.status(), 200);
    daemon.logged("\"problem\":\"api-forbidden\"").await;
    let problem = &daemon.status().await["problems"][0];
    assert_eq!(problem["code"], "api-forbidden");
    assert!(problem["cause"].as_str().unwrap().contains(ECHO), "{problem}");
    let gauge = "bondgate_problem{upstream=\"cisco\",call=\"api\",code=\"api-forbidden\"}";
    assert!(daemon.ask("/metrics").await.body().contains(gauge));

    assert_eq!(daemon.get(ECHO).await.status(), 200);
    daemon.logged("requests to the API succeed again").await;
    assert!(daemon.status().await["problems"].as_array().unwrap().is_empty());
    assert!(!daemon.ask("/metrics").await.body().contains(gauge));
    let log = daemon.log();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("requests to the API fail"), 1, "{log:?}");
}

#[tokio::test]
async fn an_api_that_has_only_answered_401_has_responded() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "").start().await;
    let api = &daemon.status().await["upstreams"][0]["api"];
    assert_eq!([&api["state"], &api["text"]], ["no_response", "no response yet"]);
    cisco.script(Fault::on(On::TspCodes, Kind::status(StatusCode::UNAUTHORIZED)));
    cisco.script(Fault::on(On::Token, Kind::status(StatusCode::SERVICE_UNAVAILABLE)).forever());
    // There is no newer token to send it again with.
    assert_eq!(daemon.get(TSP_CODES).await.status(), 503);
    daemon.logged("token refresh failed").await;

    let status = daemon.status().await;
    let api = &status["upstreams"][0]["api"];
    assert_eq!(
        [&api["state"], &api["text"], &api["last_status"]],
        [
            &Value::from("token_rejected"),
            &"rejected the token".into(),
            &401.into()
        ]
    );
    let page = daemon.ask("/").await;
    assert!(page.body().contains("rejected the token</span>"), "{page:?}");
}

#[tokio::test]
async fn a_response_that_is_cut_is_a_problem_until_one_is_whole() {
    let cisco = simulator(Options::default()).await;
    for then in [Then::Reset, Then::Close] {
        cisco.script(Fault::on(On::TspCodes, Kind::Half { then }).times(1));
    }
    let mut daemon = Setup::open(&cisco, "").start().await;
    for _ in 0..2 {
        daemon.get(TSP_CODES).await;
    }
    // Once for the API, and in the line of each request.
    daemon.logged_times("\"problem\":\"api-response-cut\"", 3).await;
    assert_eq!(
        daemon.status().await["upstreams"][0]["api"]["problem"]["code"],
        "api-response-cut"
    );
    daemon.get(TSP_CODES).await;
    daemon.logged("requests to the API succeed again").await;
    assert!(daemon.status().await["problems"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_login_page_in_place_of_a_message_is_not_stored_and_the_message_may_be_lost() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Pull, Kind::Html { status: 200 }).times(1));
    let mut daemon = on_disk(&cisco).start().await;

    let page = daemon.get(PULL).await;

    assert_eq!(page.status(), 502, "{page:?}");
    assert!(
        page.body().contains("urn:bondgate:problem:login-page"),
        "{page:?}"
    );
    assert!(page.body().contains("may have executed"), "{page:?}");
    daemon.logged("\"problem\":\"login-page\"").await;
    daemon.logged("a message may be lost").await;
    let spool = &daemon.status().await["spool"];
    assert_eq!(
        (&spool["messages"], &spool["perhaps_lost"]),
        (&0.into(), &1.into())
    );
    let next = daemon.get(PULL).await;
    assert_eq!(
        (next.status(), next.field("x-bondgate-redelivered")),
        (200, None),
        "{next:?}"
    );
    let problems = &daemon.status().await["problems"];
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    assert_eq!(problems[0]["code"], "messages-lost");
}

#[tokio::test]
async fn only_a_page_is_one_and_not_json_that_is_called_html() {
    let cisco = simulator(Options::default()).await;
    let json = Kind::Status {
        code: 200,
        headers: vec![("content-type".to_owned(), "text/html".to_owned())],
        body: "[]".to_owned(),
    };
    let mut daemon = Setup::open(&cisco, "").start().await;
    let problems = async || daemon.status().await["problems"].clone();
    cisco.script(Fault::on(On::TspCodes, json.clone()).times(1));
    assert_eq!(daemon.get(TSP_CODES).await.body(), "[]");
    assert_eq!(problems().await, serde_json::json!([]));

    cisco.script(Fault::on(On::TspCodes, Kind::Html { status: 200 }).times(2));
    for _ in 0..2 {
        daemon.get(TSP_CODES).await;
        assert_eq!(problems().await[0]["code"], "login-page");
    }
    cisco.script(Fault::on(On::TspCodes, json).times(1));
    daemon.get(TSP_CODES).await;
    assert_eq!(problems().await, serde_json::json!([]));
    daemon.logged_times("requests to the API", 2).await;
}
