//! Authorization as a whole, by requests.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::config::Config;
use crate::proxy::early_response::oneshot;
use crate::server::{Peer, ProblemResponse};

const UPSTREAM: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n[[listener]]\n";
const PULL: &str = "/sb-partner-oauth-proxy-api/rest/v1/pull/call";

fn authorization(listener: &str) -> Authorization {
    let config = Config::parse(&format!("{UPSTREAM}{listener}"), "f", []).unwrap();
    Authorization::new(
        &config.listeners[0],
        &config.upstreams[0],
        "http://localhost:9180/",
    )
    .unwrap()
}

/// The layer's response to a request from an address; 200 where the request is allowed.
fn respond(
    authorization: &Authorization,
    from: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = with_record(request.body(Body::empty()).unwrap(), from);
    let record = request.extensions().get::<RequestRecord>().cloned();
    let mut response = oneshot(|request| authorization.respond(request), request);
    let is_passed_on = response.status() == StatusCode::NO_CONTENT;
    assert_eq!(record.unwrap().lock().options.is_some(), is_passed_on);
    if is_passed_on {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// A request as the layers above pass it on.
fn with_record(mut request: Request<Body>, from: &str) -> Request<Body> {
    let peer = Peer {
        address: Some(SocketAddr::new(from.parse().unwrap(), 1)),
        ..Peer::default()
    };
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(RequestRecord::default());
    request
}

fn status(
    authorization: &Authorization,
    from: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> u16 {
    respond(authorization, from, method, path, fields)
        .status()
        .as_u16()
}

#[test]
fn the_record_names_the_caller_of_an_allowed_and_of_a_refused_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "snow:k1\n").unwrap();
    let authorization = authorization(&format!("keys = {{ file = {:?} }}", file.path()));
    for (key, name) in [("k1", Some("snow")), ("wrong", None)] {
        let request = Request::get(PULL).header("x-bondgate-key", key);
        let request = with_record(request.body(Body::empty()).unwrap(), "10.0.0.1");
        let _ = authorization.respond(&request);
        let caller = RequestRecord::of(&request).lock().caller.take().unwrap();
        assert_eq!(caller.name.as_deref(), name);
        assert_eq!(caller.address, "10.0.0.1".parse().ok());
    }
}

#[test]
fn a_plain_caller_gets_through_by_the_rules_alone() {
    let authorization = authorization("");
    let ask = |method: &str, path: &str| {
        status(
            &authorization,
            "127.0.0.1",
            method,
            path,
            &[("host", "localhost:8080")],
        )
    };
    assert_eq!(ask("GET", PULL), 200);
    assert_eq!(ask("POST", PULL), 200);
    assert_eq!(ask("DELETE", PULL), 403);
    assert_eq!(ask("GET", "/admin"), 403);
    assert_eq!(ask("GET", &format!("/{PULL}")), 400);
    assert_eq!(
        ask("GET", "/sb-partner-oauth-proxy-api/rest/%2e%2e/%2e%2e/admin"),
        400
    );
}

#[test]
fn a_web_page_and_a_foreign_host_do_not_get_through() {
    let authorization = authorization("");
    let ask = |fields: &[_]| status(&authorization, "127.0.0.1", "GET", PULL, fields);
    assert_eq!(ask(&[("host", "evil.example")]), 421);
    assert_eq!(ask(&[("host", "0.0.0.0:8080")]), 421);
    assert_eq!(
        ask(&[("host", "localhost"), ("origin", "https://evil.example")]),
        403
    );
    assert_eq!(ask(&[("host", "localhost"), ("sec-fetch-mode", "navigate")]), 403);
    assert_eq!(ask(&[("host", "stage.sbnprd.xylem.cisco.com")]), 200);
    assert_eq!(ask(&[("host", "localhost"), ("via", "1.1 bondgate")]), 508);
}

#[test]
fn only_allowed_networks_get_through_and_a_trusted_proxy_names_its_caller() {
    let authorization =
        authorization("allow = [\"10.1.0.0/16\", \"10.9.0.1\"]\ntrusted_proxies = [\"10.9.0.0/16\"]");
    let ask = |from, forwarded| {
        status(
            &authorization,
            from,
            "GET",
            PULL,
            &[("host", "10.0.0.1"), ("x-forwarded-for", forwarded)],
        )
    };
    assert_eq!(ask("10.1.2.3", "1.1.1.1"), 200);
    assert_eq!(ask("127.0.0.1", "10.1.2.3"), 403);
    assert_eq!(ask("10.9.0.1", "10.1.2.3"), 200);
    assert_eq!(ask("10.9.0.1", "10.1.2.3, 10.9.0.7"), 200);
    assert_eq!(ask("10.9.0.1", "10.1.2.3, 1.1.1.1"), 403);
    // Taken for the proxy, it would come in by the proxy's own network.
    assert_eq!(ask("10.9.0.1", "unknown"), 403);
    assert_eq!(ask("::ffff:10.9.0.1", "::ffff:10.1.2.3"), 200);
}

#[test]
fn a_key_opens_by_basic_or_by_its_own_field() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# callers\nsnow:k1\nmid:k:2\n").unwrap();
    let authorization = authorization(&format!("keys = {{ file = {:?} }}", file.path()));
    let ask = |name, value: &str| {
        status(
            &authorization,
            "127.0.0.1",
            "GET",
            PULL,
            &[("host", "localhost"), (name, value)],
        )
    };
    let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
    assert_eq!(ask("authorization", &basic("snow:k1")), 200);
    assert_eq!(
        ask(
            "authorization",
            &basic("mid:k:2").to_lowercase().replace("basic", "BASIC")
        ),
        401
    );
    assert_eq!(
        ask("authorization", &basic("mid:k:2").replace("Basic", "basic")),
        200
    );
    assert_eq!(ask("x-bondgate-key", "k1"), 200);
    for (name, value) in [
        ("authorization", basic("snow:k:2")),
        ("authorization", "Bearer k1".into()),
        ("x-bondgate-key", "k".into()),
        ("accept", "*/*".into()),
    ] {
        assert_eq!(ask(name, &value), 401, "{name}: {value}");
    }
}

#[test]
fn a_required_header_may_have_any_value() {
    let authorization = authorization("require_header = \"X-Bondgate\"");
    let ask = |fields: &[_]| status(&authorization, "127.0.0.1", "GET", PULL, fields);
    assert_eq!(ask(&[("host", "localhost")]), 403);
    assert_eq!(ask(&[("host", "localhost"), ("x-bondgate", "")]), 200);
}

#[test]
fn a_navigation_gets_a_command_line_that_is_safe_to_paste_into_a_shell() {
    let detail = |listener: &str, path: &str| {
        let fields = [("host", "localhost:8443"), ("sec-fetch-mode", "navigate")];
        let response = respond(&authorization(listener), "127.0.0.1", "GET", path, &fields);
        response.extensions().get::<ProblemResponse>().unwrap().detail()
    };
    let line = |detail: &str| detail.split('`').nth(1).unwrap().to_owned();
    assert_eq!(
        line(&detail("", PULL)),
        format!("curl -i http://localhost:8443{PULL}")
    );
    assert!(detail("", PULL).ends_with("the status page is at http://localhost:9180/"));
    let tls = "tls = { certificate_file = \"/c\", key_file = \"/k\" }";
    assert!(line(&detail(tls, "/a,b=c%20d")).ends_with("https://localhost:8443/a,b=c%20d"));
    for path in [
        "/a;id", "/$(id)", "/a&id", "/a|id", "/'id'", "/a`id`", "/a>b", "/*", "/a\\b",
    ] {
        let Ok(uri) = path.parse::<http::Uri>() else {
            continue;
        };
        assert_eq!(
            line(&detail("", &uri.to_string())),
            "curl -i http://localhost:8443/",
            "{path}"
        );
    }
}

#[test]
fn our_own_via_is_a_loop_in_every_spelling() {
    for via in [
        "1.1 bondgate",
        "1.0 fred, 1.1 bondgate (x)",
        "1.0 fred,1.1 BondGate",
        "HTTP/1.1 bondgate",
        "1.1\tBONDGATE\t, 2 bob",
        "1.1   bondgate , 1.1 bob",
    ] {
        assert!(is_loop(&via_lines(&[via])), "{via}");
        assert!(is_loop(&via_lines(&["1.1 a", via])), "{via}");
    }
    let mut latin = HeaderMap::new();
    latin.append(
        VIA,
        HeaderValue::from_bytes(b"1.1 caf\xe9, 1.1 bondgate").unwrap(),
    );
    assert!(is_loop(&latin));
    for via in [
        "1.1 bondgate2",
        "bondgate",
        "1.1 a.bondgate",
        "1.1 x bondgate",
        "",
    ] {
        assert!(!is_loop(&via_lines(&[via])), "{via}");
    }
}

fn via_lines(lines: &[&'static str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| (VIA, HeaderValue::from_static(line)))
        .collect()
}
