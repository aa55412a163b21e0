//! `/metrics`: both of its formats, and what each number counts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bondgate::simulator::{Fault, Kind, On, Options};
use rcgen::{CertificateParams, KeyPair};

use crate::harness::{Answer, Daemon, PULL, Setup, TSP_CODES, seen_when, send, simulator};
use crate::wire::Caller;

/// The metrics as a scraper with this `Accept` gets them.
async fn scraped(daemon: &Daemon, accept: &str) -> Answer {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}Connection: close\r\n\r\n");
    send(daemon.admin(), request).await
}

/// The value of a sample, given with its labels; `None` if there is no such sample.
async fn sample(daemon: &Daemon, name: &str) -> Option<f64> {
    let metrics = scraped(daemon, "").await;
    let mut lines = metrics.body().lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

async fn assert_sample(daemon: &Daemon, name: &str, expected: f64) {
    let found = sample(daemon, name).await;
    assert_eq!(found, Some(expected), "{name}");
}

fn now() -> f64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.unwrap().as_secs_f64()
}

#[tokio::test]
async fn the_text_is_prometheus_own_unless_open_metrics_is_asked_for() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let prometheus = scraped(&daemon, "").await;
    assert_eq!(
        prometheus.field("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\n";
    let open_metrics = scraped(&daemon, accept).await;
    assert_eq!(
        open_metrics.field("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open_metrics.body().ends_with("# EOF\n"));
    assert!(open_metrics.body().contains("\n# UNIT "));
    assert!(!prometheus.body().contains("# EOF") && !prometheus.body().contains("# UNIT"));
    let names = |metrics: &Answer| {
        let samples = metrics.body().lines().filter(|line| !line.starts_with('#'));
        let names = samples.filter_map(|line| line.rsplit_once(' '));
        names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&prometheus), names(&open_metrics));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn under_the_sandbox_the_metrics_of_the_process_are_read() {
    let cisco = simulator(Options::default()).await;
    let begin = now();
    let mut daemon = Setup::at(&cisco).start().await;
    daemon.logged("Landlock (files, ports, signals), seccomp").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max open files"));
    let limit = limit.unwrap().split_ascii_whitespace().nth(3).unwrap();
    assert_sample(&daemon, "process_max_fds", limit.parse().unwrap()).await;
    for (name, plausible) in [
        ("process_cpu_seconds_total", 0.001..1000.0),
        ("process_start_time_seconds", begin..now()),
        ("process_resident_memory_bytes", 1e6..1e9),
        ("process_virtual_memory_bytes", 1e6..1e12),
        ("process_threads", 3.0..100.0),
        ("process_open_fds", 10.0..1000.0),
    ] {
        let value = sample(&daemon, name).await;
        assert!(
            value.is_some_and(|value| plausible.contains(&value)),
            "{name}: {value:?}"
        );
    }
}

#[tokio::test]
async fn a_refused_request_counts_by_the_code_of_its_problem() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "rules = [{ methods = [\"GET\"], path = \"/*\" }]")
        .and("[limits]\nin_flight = 1\n")
        .start()
        .await;
    let held = "/simulator/sink";
    cisco.script(Fault::on(On::Path(held.to_owned()), Kind::Hang).forever());
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!("GET {held} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    seen_when(&cisco, |seen| seen.iter().any(|seen| seen.target == held)).await;
    for (request, status, code) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n", 503, "too-many-requests"),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n",
            403,
            "method-not-allowed",
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
            400,
            "request-malformed",
        ),
    ] {
        let name = format!("bondgate_refusals_total{{reason=\"{code}\"}}");
        assert_eq!(sample(&daemon, &name).await, None, "{code}");
        for times in [1.0, 2.0] {
            let response = daemon.send(format!("{request}Connection: close\r\n\r\n")).await;
            assert_eq!(response.status(), status, "{response:?}");
            assert_sample(&daemon, &name, times).await;
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_count_as_refusals() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "")
        .and("[limits]\nconnections = 1\n")
        .start()
        .await;
    let held = "/simulator/sink";
    cisco.script(Fault::on(On::Path(held.to_owned()), Kind::Hang).forever());
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!("GET {held} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    seen_when(&cisco, |seen| seen.iter().any(|seen| seen.target == held)).await;
    assert_eq!(daemon.get(PULL).await.status(), 503);
    let name = "bondgate_refusals_total{reason=\"too-many-connections\"}";
    assert_sample(&daemon, name, 1.0).await;
    assert_sample(&daemon, "bondgate_refused_connections_total", 1.0).await;
}

#[tokio::test]
async fn limits_stand_beside_what_they_limit() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco)
        .and("[limits]\nconnections = 70\nin_flight = 8\n[spool]\nmessages = 30\nmemory = \"2MiB\"\n")
        .start()
        .await;
    for (name, limit) in [
        ("bondgate_connections", 70.0),
        ("bondgate_requests_in_flight", 8.0),
        ("bondgate_spool_messages", 30.0),
        ("bondgate_spool_bytes", 2_097_152.0),
    ] {
        assert_sample(&daemon, &format!("{name}_limit"), limit).await;
    }
}

const OPEN: &str = "bondgate_upstream_connections{upstream=\"cisco\"}";
const OPENED: &str = "bondgate_upstream_connections_opened_total{upstream=\"cisco\"}";
const REUSED: &str = "bondgate_upstream_connections_reused_total{upstream=\"cisco\"}";

#[tokio::test]
async fn a_connection_to_the_api_counts_as_opened_once_and_as_reused_by_each_later_request() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    for name in [OPEN, OPENED, REUSED] {
        assert_sample(&daemon, name, 0.0).await;
    }
    // One connection, so that one worker serves all of it.
    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..3 {
        caller
            .say(format!("GET {TSP_CODES} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(caller.message().await.status(), 200);
    }
    for (name, value) in [(OPEN, 1.0), (OPENED, 1.0), (REUSED, 2.0)] {
        assert_sample(&daemon, name, value).await;
    }
    // A pull has a connection of its own, which is closed before its response is passed on.
    daemon.get(PULL).await;
    for (name, value) in [(OPEN, 1.0), (OPENED, 2.0), (REUSED, 2.0)] {
        assert_sample(&daemon, name, value).await;
    }
}

#[tokio::test]
async fn a_connection_that_fails_counts_by_its_reason() {
    let cisco = simulator(Options::default()).await;
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let daemon = Setup::apart(&cisco, &format!("https://{closed}"), "", "")
        .start()
        .await;
    assert_eq!(daemon.get("/a").await.status(), 503);
    let name = "bondgate_upstream_connections_failed_total{upstream=\"cisco\",reason=\"connection_refused\"}";
    assert_sample(&daemon, name, 1.0).await;
    assert_sample(&daemon, OPEN, 0.0).await;
}

#[tokio::test]
async fn pulls_count_by_their_result_and_the_last_success_has_a_time() {
    const LAST: &str = "bondgate_last_successful_pull_timestamp_seconds{upstream=\"cisco\"}";
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::at(&cisco).start().await;
    let counts = async |expected: [f64; 3]| {
        for (result, count) in ["message", "empty", "failed"].into_iter().zip(expected) {
            let name = format!("bondgate_pulls_total{{upstream=\"cisco\",result=\"{result}\"}}");
            assert_sample(&daemon, &name, count).await;
        }
    };
    counts([0.0, 0.0, 0.0]).await;
    cisco.script(Fault::on(On::Pull, Kind::Reset));
    assert_eq!(daemon.get(PULL).await.status(), 502);
    counts([0.0, 0.0, 1.0]).await;
    assert_eq!(sample(&daemon, LAST).await, None);

    let begin = now();
    assert_eq!(daemon.get(PULL).await.status(), 200);
    counts([0.0, 1.0, 1.0]).await;
    let empty = sample(&daemon, LAST).await.unwrap();
    assert!((begin..now()).contains(&empty), "{empty}");

    cisco.put_samples(1);
    assert_eq!(daemon.get(PULL).await.status(), 200);
    counts([1.0, 1.0, 1.0]).await;
    assert!(sample(&daemon, LAST).await.unwrap() > empty);
}

#[tokio::test]
async fn the_expiry_of_a_listeners_certificate_follows_its_file() {
    let issued = |year| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let expiry = params.not_after.unix_timestamp();
        let certificate = params.self_signed(&key).unwrap();
        (
            certificate.pem(),
            key.serialize_pem(),
            Duration::from_secs(expiry.try_into().unwrap()),
        )
    };
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let (certificate, key, expiry) = issued(2040);
    let paths = [
        setup.file("server.pem", &certificate),
        setup.file("key.pem", &key),
    ];
    let tls = format!(
        "tls = {{ certificate_file = {:?}, key_file = {:?} }}",
        paths[0], paths[1]
    );
    let mut daemon = setup.listener("127.0.0.1:0", &tls).start().await;
    let name = |daemon: &Daemon| {
        let listener = daemon.addresses()[1];
        format!("bondgate_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}}")
    };
    assert_sample(&daemon, &name(&daemon), expiry.as_secs_f64()).await;

    let (certificate, key, expiry) = issued(2041);
    std::fs::write(&paths[0], certificate).unwrap();
    std::fs::write(&paths[1], key).unwrap();
    daemon.signal("HUP");
    daemon.logged("reload applied").await;
    assert_sample(&daemon, &name(&daemon), expiry.as_secs_f64()).await;
}

#[tokio::test]
async fn a_problem_of_an_upstream_that_a_reload_replaced_is_over_with_it() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let file = daemon.directory.path().join("bondgate.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    let problem = "bondgate_problem{upstream=\"cisco\",call=\"token\",code=\"client-id-unknown\"}";

    std::fs::write(
        &file,
        right.replace("client_id = \"demo\"", "client_id = \"demmo\""),
    )
    .unwrap();
    daemon.signal("HUP");
    daemon.logged("reload applied").await;
    daemon.logged("\"problem\":\"client-id-unknown\"").await;
    assert_sample(&daemon, problem, 1.0).await;

    std::fs::write(&file, right).unwrap();
    daemon.signal("HUP");
    daemon.logged_times("reload applied", 2).await;
    daemon.logged_times("token acquired", 2).await;
    assert_eq!(sample(&daemon, problem).await, None);
}
