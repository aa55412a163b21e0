//! Name servers that do not answer, answer late, or answer with another address, in a network namespace where they are
//! the machine's own: libc, and what it waits for, is the real one.

pub(crate) mod name_server;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bondgate::simulator::{Endpoint, Handle, Options};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::name_server::{NameServer, in_namespace, silent_at};
use crate::corporate::Corporate;
use crate::harness::{Daemon, PATIENCE, PUSH, Setup, bondgate, finished, seen_when, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::{Caller, Message};

const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const ALIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);

const IDENTITY: &str = "id.example.test";
const API: &str = "api.example.test";
const PROXY: &str = "proxy.example.test";

const GET: &str = "GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What libc waits for a dead name server, unless resolv.conf says otherwise.
const LIBC_WAITS: Duration = Duration::from_secs(5);

/// A simulator whose certificate has both names.
async fn named(listen: (Ipv4Addr, u16), token_lifetime: Duration) -> Handle {
    simulator(Options {
        listen: listen.into(),
        names: vec![IDENTITY.to_owned(), API.to_owned()],
        token_lifetime,
        ..Options::default()
    })
    .await
}

/// A daemon that reaches the simulator by its two names; `more` is further TOML of the upstream.
fn by_name(cisco: &Handle, more: &str) -> Setup {
    let port = cisco.address().port();
    let token_url = cisco.token_url().replace("localhost", IDENTITY);
    Setup::apart(cisco, &format!("https://{API}:{port}"), "", more)
        .environment("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", &token_url)
}

/// A daemon whose API alone is reached by name.
fn api_by_name(cisco: &Handle, more: &str) -> Setup {
    Setup::apart(
        cisco,
        &format!("https://{API}:{}", cisco.address().port()),
        "",
        more,
    )
}

/// The answer to a request that always has a connection of its own upstream.
async fn pushed(daemon: &Daemon) -> Message {
    let push = format!("POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    asked(daemon, push).await
}

async fn asked(daemon: &Daemon, request: impl AsRef<[u8]>) -> Message {
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request).await;
    caller.message().await
}

/// The preset's rules: a push goes out on a connection of its own.
const FRESH_PUSHES: &str = "rules = [ { methods = [\"POST\"], path = \"/sb-partner-oauth-proxy-api/rest/v1/push/call\", fresh = true }, { methods = [\"GET\"], path = \"/simulator/*\" } ]\n";

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_dead_first_name_server_delays_the_first_request_and_no_later_one() {
    let test = "resolution::a_dead_first_name_server_delays_the_first_request_and_no_later_one";
    if !in_namespace(test, &[DEAD, ALIVE]).await {
        return;
    }
    let (local, dead) = (Ipv4Addr::LOCALHOST, silent_at(DEAD).await);
    let names = [(IDENTITY, local), (API, local), (PROXY, local)];
    let _alive = NameServer::at(ALIVE, &names).await;
    let cisco = named((local, 0), Duration::from_secs(3600)).await;
    let corporate = Corporate::start().await;
    let proxy = format!(
        "proxy = \"http://{PROXY}:{}\"\n{FRESH_PUSHES}",
        corporate.address.port()
    );

    let began = Instant::now();
    let (direct, proxied) = tokio::join!(
        by_name(&cisco, FRESH_PUSHES).start(),
        Setup::open(&cisco, &proxy).start()
    );
    let token = began.elapsed();
    for daemon in [&direct, &proxied] {
        assert_eq!(asked(daemon, GET).await.status(), 200);
    }
    let first = began.elapsed();
    assert!(dead.lookups(IDENTITY) + dead.lookups(PROXY) >= 2, "it was asked");

    let began = Instant::now();
    for _ in 0..5 {
        for daemon in [&direct, &proxied] {
            assert_eq!(pushed(daemon).await.status(), 200);
        }
    }
    let later = began.elapsed();
    println!(
        "tokens after {token:?}, responses after {first:?}, ten requests on new connections in {later:?}"
    );
    assert!(
        later < LIBC_WAITS,
        "{later:?}: none waited for the dead name server"
    );
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn no_part_of_a_proxy_url_that_is_not_percent_encoded_reaches_a_name_server() {
    let test = "resolution::no_part_of_a_proxy_url_that_is_not_percent_encoded_reaches_a_name_server";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    let local = Ipv4Addr::LOCALHOST;
    let alive = NameServer::at(ALIVE, &[("user", local), (PROXY, local)]).await;
    let cisco = named((local, 0), Duration::from_secs(3600)).await;
    for password in ["123#x", "123/x", "123?x", "p@ss"] {
        let proxy = format!("proxy = \"http://user:{password}@{PROXY}:3128\"");
        let file = Setup::open(&cisco, &proxy);
        for arguments in [&["check", "--live"][..], &["run"]] {
            let mut command = bondgate();
            command.args(arguments).arg("--config").arg(file.config_file());
            let ended = finished(command).await;
            assert_eq!(
                (alive.lookups("user"), alive.lookups(PROXY)),
                (0, 0),
                "{password}"
            );
            assert_eq!(ended.code, Some(3), "{password}");
        }
    }
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_corporate_proxy_that_waits_for_a_dead_name_server_itself_is_waited_for() {
    let test = "resolution::a_corporate_proxy_that_waits_for_a_dead_name_server_itself_is_waited_for";
    if !in_namespace(test, &[DEAD, ALIVE]).await {
        return;
    }
    let (local, _dead) = (Ipv4Addr::LOCALHOST, silent_at(DEAD).await);
    let _alive = NameServer::at(ALIVE, &[(IDENTITY, local), (API, local)]).await;
    let cisco = named((local, 0), Duration::from_secs(3600)).await;
    // It resolves both names here, by the libc of this test.
    let corporate = Corporate::start().await;
    let proxy = format!("proxy = \"http://{}\"\n", corporate.address);

    let daemon = by_name(&cisco, &proxy).start().await;
    assert_eq!(asked(&daemon, GET).await.status(), 200);
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn check_live_waits_for_a_dead_first_name_server_and_says_so() {
    let test = "resolution::check_live_waits_for_a_dead_first_name_server_and_says_so";
    if !in_namespace(test, &[DEAD, ALIVE]).await {
        return;
    }
    let (local, _dead) = (Ipv4Addr::LOCALHOST, silent_at(DEAD).await);
    let _alive = NameServer::at(ALIVE, &[(IDENTITY, local), (API, local)]).await;
    let cisco = named((local, 0), Duration::from_secs(3600)).await;
    let setup = by_name(&cisco, "");
    let mut command = bondgate();
    command
        .args(["check", "--live", "--config"])
        .arg(setup.config_file())
        .envs(setup.environment);

    let began = Instant::now();
    let ended = finished(command).await;

    println!("{}", ended.stdout);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // musl asks all name servers at once, and finds nothing slow here.
    if began.elapsed() >= LIBC_WAITS {
        assert!(ended.stdout.contains("/etc/resolv.conf"), "{}", ended.stdout);
    }
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn with_every_name_server_dead_the_last_known_addresses_serve_requests_and_tokens() {
    let test = "resolution::with_every_name_server_dead_the_last_known_addresses_serve_requests_and_tokens";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    let local = Ipv4Addr::LOCALHOST;
    let server = NameServer::at(ALIVE, &[(IDENTITY, local), (API, local)]).await;
    let cisco = named((local, 0), Duration::from_secs(3)).await;
    let daemon = by_name(&cisco, FRESH_PUSHES).start().await;
    assert_eq!(pushed(&daemon).await.status(), 200);
    let tokens = |seen: &[bondgate::simulator::Seen]| {
        let tokens = seen.iter().filter(|seen| seen.endpoint == Endpoint::Token);
        tokens.count()
    };

    server.hold();
    let before = tokens(&cisco.seen());
    let began = Instant::now();
    let renewed = seen_when(&cisco, |seen| tokens(seen) >= before + 3);
    let mut requests = 0;
    tokio::pin!(renewed);
    loop {
        tokio::select! {
            biased;
            _ = &mut renewed => break,
            answer = pushed(&daemon) => assert_eq!(answer.status(), 200, "{answer:?}"),
        }
        requests += 1;
    }
    println!(
        "three tokens and {requests} requests on new connections in {:?}, without a name server",
        began.elapsed()
    );
    assert!(requests > 20, "{requests}: they did not wait");
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_changed_address_is_used_within_max_age_under_steady_traffic() {
    let test = "resolution::a_changed_address_is_used_within_max_age_under_steady_traffic";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    let (old, new) = (Ipv4Addr::new(127, 0, 0, 10), Ipv4Addr::new(127, 0, 0, 11));
    let server = NameServer::at(ALIVE, &[(API, old)]).await;
    let identity = simulator(Options::default()).await;
    let before = RawUpstream::bind_at((old, 0), API).await;
    let port = before.address().port();
    let after = RawUpstream::bind_at((new, port), API).await;
    let ca_pem = format!("{}{}", before.ca_pem, after.ca_pem);
    let url = format!("https://{API}:{port}");
    let daemon = Setup::apart(&identity, &url, &ca_pem, "max_age = \"2s\"\n")
        .start()
        .await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    tokio::spawn(answer_all(before, answered.clone(), old));
    tokio::spawn(answer_all(after, answered, new));
    let mut caller = Caller::to(daemon.address()).await;
    let mut next = async || {
        caller.say(GET).await;
        assert_eq!(caller.message().await.status(), 200);
        answers.recv().await.unwrap()
    };
    assert_eq!(next().await, old);

    server.set(API, new);
    let changed = Instant::now();
    let mut stayed = 0;
    while next().await == old {
        stayed += 1;
        assert!(
            changed.elapsed() < PATIENCE,
            "{stayed} requests went to the old address"
        );
    }
    println!(
        "the new address is used {:?} after the change, {stayed} requests went to the old one",
        changed.elapsed()
    );
    for _ in 0..100 {
        assert_eq!(next().await, new);
    }
}

/// Answers every request on every connection, and tells by which address.
async fn answer_all(upstream: RawUpstream, answered: mpsc::UnboundedSender<Ipv4Addr>, by: Ipv4Addr) {
    loop {
        let mut line = upstream.accept().await;
        let answered = answered.clone();
        tokio::spawn(async move {
            while line.has_more().await {
                line.message().await;
                let _ = answered.send(by);
                line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        });
    }
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_lookup_that_outlives_its_callers_is_one_and_serves_the_next() {
    const CALLERS: usize = 20;
    let test = "resolution::a_lookup_that_outlives_its_callers_is_one_and_serves_the_next";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    let server = NameServer::at(ALIVE, &[(API, Ipv4Addr::LOCALHOST)]).await;
    server.hold();
    let cisco = named((Ipv4Addr::LOCALHOST, 0), Duration::from_secs(3600)).await;
    let daemon = api_by_name(&cisco, "timeout = { head = \"1s\" }").start().await;

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let address = daemon.address();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            caller.say(GET).await;
            caller.message().await
        });
    }
    while let Some(answer) = callers.join_next().await {
        let answer = answer.unwrap();
        answer.is_ours(503, "a name that is not resolved");
        assert_eq!(answer.error(), "dns_timeout", "{answer:?}");
        assert!(answer.text().contains(API), "{answer:?}");
    }
    assert_eq!(server.lookups(API), 1, "one lookup for all of them");

    server.release();
    // It went on without them.
    let answer = loop {
        let answer = asked(&daemon, GET).await;
        if answer.status() == 200 || answer.error() != "dns_timeout" {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(server.lookups(API) <= 2, "the first one's result is used");
}

#[tokio::test]
#[ignore = "needs root or user namespaces, unshare and iproute2; .ci/run runs it"]
async fn a_name_that_does_not_exist_yet_is_503_and_found_when_it_does() {
    let test = "resolution::a_name_that_does_not_exist_yet_is_503_and_found_when_it_does";
    if !in_namespace(test, &[ALIVE]).await {
        return;
    }
    let server = NameServer::at(ALIVE, &[]).await;
    let cisco = named((Ipv4Addr::LOCALHOST, 0), Duration::from_secs(3600)).await;
    let daemon = api_by_name(&cisco, "").start().await;

    let answer = asked(&daemon, GET).await;
    answer.is_ours(503, "a name that does not exist");
    assert_eq!(answer.error(), "dns_error", "{answer:?}");

    let waiting = asked(&daemon, GET);
    let looked_up = server.lookups(API);
    let appears = async {
        server.looked_up(API, looked_up + 1).await;
        server.set(API, Ipv4Addr::LOCALHOST);
    };
    let (answer, ()) = tokio::join!(waiting, appears);
    assert_eq!(
        answer.status(),
        200,
        "a request waits a moment for it: {answer:?}"
    );
}
