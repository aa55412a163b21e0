//! The log line of a request: its fields, its level, and the identifiers by which it is followed.

use bondgate::simulator::{Fault, Kind, On, Options};
use http::StatusCode;
use serde_json::Value;

use crate::harness::{Daemon, PULL, Setup, relayed, simulator};

const PUSH: &str = "/sb-partner-oauth-proxy-api/rest/v1/push/call";

/// The lines of requests, of a log in JSON.
fn request_lines(daemon: &Daemon) -> Vec<Value> {
    let lines = daemon.log();
    let lines = lines.iter().filter(|line| line.contains("\"duration_ms\":"));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The line of the request that a daemon completes next.
async fn line_of(daemon: &mut Daemon, request: &str) -> Value {
    let before = request_lines(daemon).len();
    daemon.send(request).await;
    daemon.logged_times("\"duration_ms\":", before + 1).await;
    request_lines(daemon).pop().unwrap()
}

fn push(fields: &str) -> String {
    format!(
        "POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n{fields}\r\n{{}}"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_line_has_what_an_operator_asks_for() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

    let line = line_of(&mut daemon, &push(trace)).await;

    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["message"], "request completed", "{line}");
    assert_eq!(line["upstream"], "cisco", "{line}");
    let listener = format!("127.0.0.1:0 ({})", daemon.address());
    assert_eq!(line["listener"], listener, "as configured, and as bound: {line}");
    assert_eq!(line["address"], "127.0.0.1", "{line}");
    assert_eq!(line["rule"], PUSH, "{line}");
    assert_eq!(line["origin"], "upstream", "{line}");
    assert_eq!(line["sent"], true, "{line}");
    assert_eq!(line["request_bytes"], 2, "{line}");
    assert!(line["response_bytes"].as_u64().unwrap() > 2, "{line}");
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{line}");
    let milliseconds = |field: &str| line[field].as_u64().unwrap();
    assert!(
        milliseconds("upstream_ms") + milliseconds("own_ms") <= milliseconds("duration_ms"),
        "{line}"
    );
    assert!(line.get("problem").is_none(), "{line}");
}

#[tokio::test]
async fn the_time_that_the_api_takes_is_the_apis() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Push, Kind::Slow { ms: 300 }));
    let mut daemon = Setup::at(&cisco).start().await;

    let line = line_of(&mut daemon, &push("")).await;

    assert!(line["upstream_ms"].as_u64().unwrap() >= 300, "{line}");
    assert!(line["own_ms"].as_u64().unwrap() < 300, "{line}");
}

#[tokio::test]
async fn a_stored_message_comes_from_the_spool_and_nothing_is_sent() {
    let cisco = simulator(Options::default()).await;
    cisco.put_raw_message("demo", "{\"Calls\":{\"CustCallID\":\"INC1\"}}");
    let mut daemon = Setup::at(&cisco).start().await;
    let pulled = line_of(&mut daemon, &get(PULL)).await;
    assert_eq!(
        (&pulled["origin"], &pulled["sent"]),
        (&"upstream".into(), &true.into())
    );
    let empty = line_of(&mut daemon, &get(PULL)).await;
    assert_eq!((&empty["pull"], &empty["sent"]), (&"empty".into(), &true.into()));
}

#[tokio::test]
async fn a_failed_request_is_a_warning_or_an_error_with_the_code_of_its_problem_alone() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;

    let refused = line_of(&mut daemon, &get("/elsewhere")).await;
    assert_eq!(
        (&refused["level"], &refused["status"]),
        (&"WARN".into(), &403.into())
    );
    assert_eq!(refused["origin"], "bondgate", "{refused}");
    assert_eq!(refused["sent"], false, "{refused}");
    assert_eq!(refused["problem"], "path-not-allowed", "{refused}");
    assert!(
        refused.get("reason").is_none() && refused.get("rule").is_none(),
        "{refused}"
    );

    cisco.script(Fault::on(
        On::Push,
        Kind::status(StatusCode::INTERNAL_SERVER_ERROR),
    ));
    let failed = line_of(&mut daemon, &push("")).await;
    assert_eq!(
        (&failed["level"], &failed["status"]),
        (&"ERROR".into(), &500.into())
    );
    assert_eq!(failed["origin"], "upstream", "{failed}");

    cisco.script(Fault::on(On::Push, Kind::status(StatusCode::BAD_REQUEST)));
    let rejected = line_of(&mut daemon, &push("")).await;
    assert_eq!(
        (&rejected["level"], &rejected["status"]),
        (&"WARN".into(), &400.into())
    );

    // Its connection ends after the request was read: it may have been executed.
    cisco.script(Fault::on(On::Push, Kind::Reset));
    let unknown = line_of(&mut daemon, &push("")).await;
    assert_eq!(
        (&unknown["level"], &unknown["status"]),
        (&"ERROR".into(), &502.into())
    );
    assert_eq!(
        (&unknown["origin"], &unknown["sent"]),
        (&"bondgate".into(), &true.into())
    );
}

#[tokio::test]
async fn a_problem_of_requests_is_explained_once_and_then_counted() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    for _ in 0..3 {
        line_of(&mut daemon, &get("/elsewhere")).await;
    }
    let log = daemon.log();
    let explanations: Vec<_> = log.iter().filter(|line| line.contains("\"fix\":")).collect();
    assert_eq!(explanations.len(), 1, "{explanations:?}");
    assert!(
        explanations[0].contains("no rule of upstream cisco allows this path"),
        "{explanations:?}"
    );
    let metrics = daemon.ask("/metrics").await;
    let counted = "bondgate_own_answers_total{upstream=\"cisco\",error=\"http_request_denied\"} 3";
    assert!(metrics.body().contains(counted), "{}", metrics.body());
}

#[tokio::test]
async fn a_request_is_followed_by_one_id_from_its_caller_to_cisco_in_both_forms_of_the_log() {
    for (form, field) in [("json", "\"correlation_id\":\""), ("text", "correlation_id=\"")] {
        let cisco = simulator(Options::default()).await;
        let setup = Setup::at(&cisco).environment("BONDGATE__LOG__FORMAT", form);
        let mut daemon = setup.start().await;
        for own in [None, Some("INC1/7")] {
            let line = own.map_or(String::new(), |id| format!("X-Correlation-ID: {id}\r\n"));
            let response = daemon.send(push(&line)).await;
            let sent = relayed(&cisco).pop().unwrap();
            let sent = sent.header("x-correlation-id");
            assert_eq!(sent.len(), 1, "{form}: {sent:?}");
            daemon.logged(&format!("{field}{}\"", sent[0])).await;
            match own {
                Some(own) => assert_eq!(sent, [own], "{form}"),
                None => assert_eq!(response.fields("x-correlation-id"), sent, "{form}"),
            }
        }
    }
}

#[tokio::test]
async fn a_refused_request_has_an_id_too() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let response = daemon.get("/elsewhere").await;
    let id = response.field("x-correlation-id").unwrap();
    daemon.logged(&format!("\"correlation_id\":\"{id}\"")).await;

    let own =
        "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nX-Correlation-ID: INC1\r\nConnection: close\r\n\r\n";
    assert_eq!(daemon.send(own).await.fields("x-correlation-id"), ["INC1"]);
}

#[tokio::test]
async fn an_empty_id_counts_as_none_and_a_long_method_is_cut_in_the_log() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let method = "M".repeat(20_000);
    let head =
        format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nX-Correlation-ID:\r\nConnection: close\r\n\r\n");
    let line = line_of(&mut daemon, &head).await;
    assert_eq!(line["method"], "M".repeat(32), "{line}");
    assert_eq!(line["correlation_id"].as_str().unwrap().len(), 36, "{line}");
}

#[tokio::test]
async fn no_id_is_added_where_the_configuration_says_so() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "correlation_id = false\n").start().await;
    let line = line_of(&mut daemon, &get("/simulator/echo")).await;
    assert!(line.get("correlation_id").is_none(), "{line}");
    assert!(relayed(&cisco)[0].header("x-correlation-id").is_empty());
}
