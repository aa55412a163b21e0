//! More callers than the limits allow: they are refused, one cannot crowd the others out, and what keeps the
//! daemon alive goes on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Options, Seen};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::harness::{Daemon, PATIENCE, Setup, bondgate, relayed, seen_when, send, simulator};
use crate::wire::{Caller, Message};

const GET: &str = "GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Starts a daemon that may open so many files.
async fn with_descriptors(setup: Setup, count: u32) -> Daemon {
    let directory = setup.into_file();
    let program = bondgate();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -n {count} && exec \"$0\" run --config \"$1\""),
        ])
        .arg(program.get_program())
        .arg(directory.path().join("bondgate.toml"))
        .env_clear()
        .env("BONDGATE_LOG", "info");
    let mut daemon = Daemon::spawn(command, directory);
    daemon.logged("token acquired").await;
    daemon
}

/// Connects from a loopback address of its own.
pub(crate) async fn caller_from(from: [u8; 4], to: SocketAddr) -> Caller {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = tokio::time::timeout(PATIENCE, socket.connect(to)).await;
    Caller::over(stream.unwrap().unwrap())
}

pub(crate) async fn asked(caller: &mut Caller) -> Message {
    caller.say(GET).await;
    caller.message().await
}

/// An answer by which there was no place.
pub(crate) fn is_crowded(answer: &Message) {
    answer.is_ours(503, "crowded");
    assert_eq!(answer.error(), "connection_limit_reached", "{answer:?}");
    assert_eq!(
        (answer.field("retry-after"), answer.field("connection")),
        (Some("1"), Some("close"))
    );
    assert!(answer.text().contains("safe to send it again"), "{answer:?}");
}

fn token_requests(cisco: &Handle) -> usize {
    let seen = cisco.seen();
    seen.iter()
        .filter(|seen| seen.endpoint == Endpoint::Token)
        .count()
}

#[tokio::test]
async fn idle_callers_beyond_the_cap_starve_neither_admin_nor_refresh_nor_others_nor_the_stop() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "wait = \"10s\"").environment("BONDGATE_LOG", "info");
    let mut daemon = with_descriptors(setup, 256).await;
    daemon.logged("limits.connections is 84 and not 8192").await;
    // Another caller than the crowd, which would make room with idle connections of its own.
    let mut old = caller_from([127, 0, 0, 3], daemon.address()).await;
    assert_eq!(asked(&mut old).await.status(), 200);

    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(TcpStream::connect(daemon.address()).await.unwrap());
    }
    daemon.logged("too many connections, new ones get 503").await;

    // One more gets 503 unless another one is being refused at the moment; then it may be closed.
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut more = Caller::to(daemon.address()).await;
            if let Some(answer) = more.try_asked(GET).await {
                break answer;
            }
        }
    });
    is_crowded(&refused.await.expect("one is refused"));
    assert_eq!(asked(&mut old).await.status(), 200, "who is in stays in");
    let mut other = caller_from([127, 0, 0, 2], daemon.address()).await;
    assert_eq!(asked(&mut other).await.status(), 200, "another caller comes in");
    assert_eq!(daemon.ask("/readyz").await.status(), 200);
    let status = daemon.status().await;
    let refusal = &status["refusals"][0];
    assert_eq!(refusal["problem"], "too-many-connections", "{status}");
    assert_eq!(refusal["callers"], serde_json::json!(["127.0.0.1"]), "{status}");
    let metrics = daemon.ask("/metrics").await;
    let open = metrics
        .body()
        .lines()
        .find(|line| line.starts_with("bondgate_connections "));
    println!("with a thousand callers: {open:?}");
    let before = token_requests(&cisco);
    cisco.tokens.revoke(None);
    assert_eq!(asked(&mut other).await.status(), 200);
    assert_eq!(token_requests(&cisco), before + 1, "the token is refreshed");

    drop(crowd);
    let began = std::time::Instant::now();
    let well = async {
        loop {
            let mut new = Caller::to(daemon.address()).await;
            if new
                .try_asked(GET)
                .await
                .is_some_and(|answer| answer.status() == 200)
            {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, well)
        .await
        .expect("it is well again");
    println!("well again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(daemon.address()).await.unwrap());
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let warned = daemon
        .log()
        .iter()
        .filter(|line| line.contains("too many connections,"))
        .count();
    assert!(warned <= 3, "an episode is logged once: {warned}");
}

#[tokio::test]
async fn too_many_connections_to_the_admin_listener_are_not_those_of_a_setting() {
    let cisco = simulator(Options::default()).await;
    let daemon = with_descriptors(Setup::open(&cisco, ""), 256).await;
    let mut open = Vec::new();
    let refused = async {
        loop {
            let mut unfinished = Caller::to(daemon.admin()).await;
            unfinished.say("GET /livez HTTP/1.1\r\n").await;
            open.push(unfinished);
            let answer = daemon.ask("/livez").await;
            if answer.status() != 200 {
                break answer;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(
        refused.body().contains("admin-too-many-connections"),
        "{refused:?}"
    );
    assert!(!refused.body().contains("limits.connections"), "{refused:?}");
}

#[tokio::test]
async fn one_caller_cannot_take_every_request_in_flight() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "")
        .and("[limits]\nin_flight = 8\n")
        .start()
        .await;
    let slow = "/simulator/sink";
    cisco.script(Fault::on(On::Path(slow.to_owned()), Kind::Hang).forever());
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut caller = Caller::to(daemon.address()).await;
        caller
            .say(format!(
                "POST {slow} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        held.push(caller);
    }
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| seen.target == slow).count() == 6
    })
    .await;

    let mut greedy = Caller::to(daemon.address()).await;
    let refused = asked(&mut greedy).await;
    refused.is_ours(503, "greedy");
    assert!(refused.text().contains("limits.in_flight") && refused.text().contains("safe to send it again"));
    let mut other = caller_from([127, 0, 0, 2], daemon.address()).await;
    assert_eq!(asked(&mut other).await.status(), 200);

    for caller in held {
        caller.reset();
    }
    let left = |seen: &[Seen]| seen.iter().filter(|seen| seen.abandoned).count() == 6;
    seen_when(&cisco, left).await;
    assert_eq!(asked(&mut greedy).await.status(), 200, "on the same connection");
}

#[tokio::test]
async fn fewer_connections_than_sockets_and_workers_starve_no_socket() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::new()
        .upstream("cisco", &cisco, "demo", crate::harness::DEMO_SECRET, "")
        .listener("localhost:0", "health = \"/healthz\"")
        .and("[limits]\nconnections = 1\n")
        .environment("BONDGATE__SERVER__WORKERS", "4")
        .start()
        .await;
    let port = daemon.address().port();
    let mut addresses = vec![daemon.address()];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
        addresses.push((IpAddr::from(Ipv6Addr::LOCALHOST), port).into());
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for round in 0..20 {
        for address in &addresses {
            // The place of the one before is free when its connection is over.
            let answer = async {
                loop {
                    let answer = send(*address, request).await;
                    if answer.status() == 200 {
                        break;
                    }
                    assert_eq!(answer.status(), 503, "{answer:?}");
                }
            };
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            assert!(answer.is_ok(), "{round} {address}");
        }
    }
    let in_at_last = async {
        loop {
            let mut first = Caller::to(daemon.address()).await;
            first
                .say("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            let answer = first.message().await;
            if answer.status() == 200 {
                break first;
            }
            is_crowded(&answer);
        }
    };
    let mut first = tokio::time::timeout(PATIENCE, in_at_last).await.expect("a place");
    // While it idles it would make room.
    first.say("GET /").await;
    for address in addresses {
        let mut second = Caller::to(address).await;
        is_crowded(&asked(&mut second).await);
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_caller_that_sends_a_body_with_its_head() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "")
        .and("[limits]\nconnections = 1\n")
        .start()
        .await;
    let _holder = TcpStream::connect(daemon.address()).await.unwrap();
    // Another worker may accept the next one first. Whoever asks for the metrics is one of the two.
    while !daemon
        .ask("/metrics")
        .await
        .body()
        .contains("\nbondgate_connections 2\n")
    {
        tokio::task::yield_now().await;
    }
    for (method, has_body) in [("POST", true), ("HEAD", false)] {
        let mut caller = Caller::to(daemon.address()).await;
        let head = format!("{method} /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
        caller.say(head + &"a".repeat(100_000)).await;
        if has_body {
            is_crowded(&caller.message().await);
        } else {
            assert_eq!(caller.head().await.status(), 503);
        }
        caller.is_over().await;
    }
    assert!(relayed(&cisco).is_empty());
}

/// A soft limit below what is open already; the hard one stays.
fn none_more() -> Rlimit {
    Rlimit {
        current: Some(3),
        ..rustix::process::getrlimit(Resource::Nofile)
    }
}

#[tokio::test]
async fn without_descriptors_those_who_are_in_are_served_and_new_ones_when_it_is_over() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "")
        .environment("BONDGATE_LOG", "info")
        .start()
        .await;
    let mut old = Caller::to(daemon.address()).await;
    assert_eq!(asked(&mut old).await.status(), 200);
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let all = prlimit(pid, Resource::Nofile, none_more()).unwrap();

    let mut new = Caller::to(daemon.address()).await;
    new.say(GET).await;
    daemon.logged("cannot accept connections").await;
    for _ in 0..20 {
        assert_eq!(asked(&mut old).await.status(), 200);
    }
    let is_served = tokio::time::timeout(Duration::from_millis(300), new.head()).await;
    assert!(is_served.is_err(), "there is no descriptor for it");

    prlimit(pid, Resource::Nofile, all).unwrap();
    assert_eq!(new.message().await.status(), 200, "it waited in the backlog");
    let logged = daemon
        .log()
        .iter()
        .filter(|line| line.contains("cannot accept"))
        .count();
    assert_eq!(logged, 1);

    prlimit(pid, Resource::Nofile, none_more()).unwrap();
    let mut waiting = TcpStream::connect(daemon.address()).await.unwrap();
    waiting.write_all(GET.as_bytes()).await.unwrap();
    daemon.signal("TERM");
    assert_eq!(
        daemon.ended().await.code(),
        Some(0),
        "a stop is not missed meanwhile"
    );
}
