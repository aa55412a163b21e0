//! Hosts without a route and name servers that do not answer, in a network namespace of its own.

use std::net::Ipv4Addr;

use bondgate::simulator::Options;

use super::live::{Injection, NO_WAIT, assert_each_is_reported, both, checked_codes};
use super::{record, run};
use crate::harness::{Setup, simulator};
use crate::resolution::name_server::{NameServer, in_namespace, silent_at};

const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const ALIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);
const HOST: &str = "api.example.test";

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_host_without_a_route_is_named_in_each_place() {
    let test = "problems::unreachable::a_host_without_a_route_is_named_in_each_place";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    // To the first network there is no route (ENETUNREACH), and the second one is rejected (EHOSTUNREACH).
    run("/".as_ref(), "ip route add unreachable 198.51.100.0/24");
    let mut all: Vec<(String, Injection)> = Vec::new();
    for (name, url) in [
        ("no route to the network", "https://192.0.2.1"),
        ("no route to the host", "https://198.51.100.1"),
    ] {
        both(&mut all, name, "network-unreachable", NO_WAIT, move || {
            Box::pin(async move { (url.to_owned(), String::new()) })
        });
    }
    assert_each_is_reported(all).await;
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_name_server_that_does_not_answer_is_named_in_each_place() {
    let test = "problems::unreachable::a_name_server_that_does_not_answer_is_named_in_each_place";
    if !in_namespace(test, &[DEAD]).await {
        return;
    }
    let _dead = silent_at(DEAD).await;
    let mut all: Vec<(String, Injection)> = Vec::new();
    both(&mut all, "name server silent", "resolver-silent", "", || {
        Box::pin(async { (format!("https://{HOST}"), String::new()) })
    });
    assert_each_is_reported(all).await;
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_slow_lookup_is_a_warning_of_the_check_for_the_token_and_for_the_api() {
    let test = "problems::unreachable::a_slow_lookup_is_a_warning_of_the_check_for_the_token_and_for_the_api";
    if !in_namespace(test, &[DEAD, ALIVE]).await {
        return;
    }
    let _dead = silent_at(DEAD).await;
    let _alive = NameServer::at(ALIVE, &[(HOST, Ipv4Addr::LOCALHOST)]).await;
    let options = Options {
        names: vec![HOST.to_owned()],
        ..Options::default()
    };
    let cisco = simulator(options).await;
    let by_name = |url: String| url.replace("localhost", HOST);
    let token_url = by_name(cisco.token_url());
    let name = "BONDGATE__UPSTREAM__CISCO__TOKEN_URL";
    for (call, setup) in [
        ("Token", Setup::open(&cisco, "").environment(name, &token_url)),
        ("Api", Setup::apart(&cisco, &by_name(cisco.url()), "", "")),
    ] {
        let code = "lookup-slow";
        assert_eq!(checked_codes(&setup).await, [code], "{call}");
        let rest = "- nothing fails";
        record("name server slow", call, code, [code, rest, rest, rest]);
    }
}
