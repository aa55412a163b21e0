//! At the cap on connections one that idles makes room, the one that has idled longest; who is served, or has begun to
//! speak, keeps its place.

use std::time::Duration;

use bondgate::simulator::{Fault, Handle, Kind, On, Options};
use tokio::net::TcpStream;

use crate::harness::{Daemon, PATIENCE, Setup, relayed, seen_when, simulator};
use crate::overload::{asked, caller_from, is_crowded};
use crate::wire::{Caller, End, Line};

const GET: &str = "GET /simulator/bytes/1 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A daemon with so many places. On one worker everything happens in the order of its requests.
async fn daemon(cisco: &Handle, connections: usize, workers: usize) -> Daemon {
    Setup::open(cisco, "")
        .and(&format!("[limits]\nconnections = {connections}\n"))
        .environment("BONDGATE__SERVER__WORKERS", &workers.to_string())
        .start()
        .await
}

/// Callers of these numbers, each from an address of its own, each served once or more.
async fn in_turn(daemon: &Daemon, numbers: std::ops::Range<u8>) -> Vec<Caller> {
    let mut callers = Vec::new();
    for number in numbers {
        let mut caller = caller_from([127, 0, 1, number], daemon.address()).await;
        assert_eq!(asked(&mut caller).await.status(), 200, "{number}");
        callers.push(caller);
    }
    // Once more, now that places are few: each idles from here on, in this order.
    for caller in &mut callers {
        assert_eq!(asked(caller).await.status(), 200);
    }
    callers
}

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let answer = daemon.ask("/metrics").await;
    let line = answer.body().lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {answer:?}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn at_the_cap_the_connection_that_has_idled_longest_is_closed_and_the_newcomer_served() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = daemon(&cisco, 8, 1).await;
    let mut callers = in_turn(&daemon, 1..9).await;
    // The first one has just been served again: the second has idled longest.
    assert_eq!(asked(&mut callers[0]).await.status(), 200);

    let mut newcomer = caller_from([127, 0, 1, 9], daemon.address()).await;
    assert_eq!(asked(&mut newcomer).await.status(), 200);
    let mut second = callers.remove(1);
    second.is_over().await;
    for caller in callers.iter_mut().chain([&mut newcomer]) {
        assert_eq!(
            asked(caller).await.status(),
            200,
            "no other connection was closed"
        );
    }
    assert_eq!(metric(&daemon, "bondgate_refused_connections_total ").await, 0);
    assert_eq!(metric(&daemon, "bondgate_evicted_connections_total ").await, 1);
    daemon.logged("idle ones are closed for new ones").await;
}

#[tokio::test]
async fn a_parked_connection_makes_room_on_any_worker_and_over_tls() {
    let (cisco, certificates) = (
        simulator(Options::default()).await,
        crate::tls_listeners::Certificates::new(),
    );
    let setup = crate::listeners::setup(&cisco);
    let certificate = setup.file("server.pem", &certificates.server.0);
    let key = setup.file("server-key.pem", &certificates.server.1);
    let tls =
        format!("tls = {{ certificate_file = {certificate:?}, key_file = {key:?} }}\nhealth = \"/healthz\"");
    let daemon = setup
        .listener("127.0.0.1:0", &tls)
        .and("[limits]\nconnections = 8\n")
        .environment("BONDGATE__SERVER__WORKERS", "4")
        .start()
        .await;
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = tokio::task::JoinSet::new();
    // Three times as many as there are places; each keeps its connection, and from the ninth on one has to go.
    for number in 1..25 {
        let stream = caller_from([127, 0, 1, number], daemon.address()).await;
        let mut caller = Line::new(certificates.opened(stream.into_stream()).await);
        caller.say(get).await;
        assert_eq!(caller.message().await.status(), 200, "{number}");
        kept.spawn(async move { caller.rest().await });
        if number == 8 {
            let quiet = tokio::time::timeout(Duration::from_millis(1300), kept.join_next());
            assert!(quiet.await.is_err(), "they are parked, and stay");
        }
    }
    for _ in 8..24 {
        let closed = tokio::time::timeout(PATIENCE, kept.join_next()).await.unwrap();
        // TLS says goodbye, too: else this would be no orderly end.
        assert_eq!(closed.unwrap().unwrap(), (Vec::new(), End::Closed));
    }
    assert_eq!(metric(&daemon, "bondgate_evicted_connections_total ").await, 16);
    assert_eq!(metric(&daemon, "bondgate_refused_connections_total ").await, 0);
}

#[tokio::test]
async fn who_is_served_or_silent_or_has_begun_a_head_keeps_its_place_and_the_newcomer_gets_503() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Path("/hang".to_owned()), Kind::Hang).forever());
    let daemon = daemon(&cisco, 4, 1).await;
    let mut busy = Vec::new();
    for number in 1..3 {
        let mut caller = caller_from([127, 0, 1, number], daemon.address()).await;
        caller.say(GET.replace("/simulator/bytes/1", "/hang")).await;
        busy.push(caller);
    }
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| seen.target == "/hang").count() == 2
    })
    .await;
    let mut begun = caller_from([127, 0, 1, 3], daemon.address()).await;
    assert_eq!(asked(&mut begun).await.status(), 200);
    begun.say("GET /simul").await;
    let mut silent = caller_from([127, 0, 1, 4], daemon.address()).await;

    // A newcomer that comes before the worker has seen the others' connections still finds a place.
    let crowded = async {
        loop {
            let mut newcomer = caller_from([127, 0, 1, 5], daemon.address()).await;
            let answer = asked(&mut newcomer).await;
            if answer.status() == 503 {
                break answer;
            }
        }
    };
    is_crowded(&tokio::time::timeout(PATIENCE, crowded).await.unwrap());
    begun
        .say("ator/bytes/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(begun.message().await.status(), 200);
    assert_eq!(asked(&mut silent).await.status(), 200);
    assert_eq!(metric(&daemon, "bondgate_evicted_connections_total ").await, 0);
}

#[tokio::test]
async fn a_caller_with_three_quarters_of_the_places_loses_its_own_and_nobody_else_s() {
    let cisco = simulator(Options::default()).await;
    let daemon = daemon(&cisco, 8, 1).await;
    let mut own = Vec::new();
    for _ in 0..6 {
        let mut caller = caller_from([127, 0, 2, 1], daemon.address()).await;
        assert_eq!(asked(&mut caller).await.status(), 200);
        own.push(caller);
    }
    let mut others = in_turn(&daemon, 1..3).await;
    for caller in others.iter_mut().chain(&mut own) {
        assert_eq!(asked(caller).await.status(), 200);
    }
    // The others have idled longest.
    for _ in 0..3 {
        let mut newcomer = caller_from([127, 0, 2, 1], daemon.address()).await;
        assert_eq!(asked(&mut newcomer).await.status(), 200);
        own.remove(0).is_over().await;
        own.push(newcomer);
    }
    for caller in &mut others {
        assert_eq!(asked(caller).await.status(), 200);
    }
    assert_eq!(metric(&daemon, "bondgate_refused_connections_total ").await, 0);
    assert_eq!(metric(&daemon, "bondgate_evicted_connections_total ").await, 3);
    // With none of its own idle it is refused, though others idle.
    cisco.script(Fault::on(On::Path("/hang".to_owned()), Kind::Hang).forever());
    for caller in &mut own {
        caller.say(GET.replace("/simulator/bytes/1", "/hang")).await;
    }
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| seen.target == "/hang").count() == 6
    })
    .await;
    let mut newcomer = caller_from([127, 0, 2, 1], daemon.address()).await;
    is_crowded(&asked(&mut newcomer).await);
    for caller in &mut others {
        assert_eq!(asked(caller).await.status(), 200);
    }
}

#[tokio::test]
async fn a_caller_that_sends_just_as_it_is_closed_is_served_in_full_or_was_not_executed() {
    let cisco = simulator(Options::default()).await;
    let daemon = daemon(&cisco, 1, 2).await;
    let address = daemon.address();
    let (mut served, mut closed, mut crowded) = (0, 0, 0);
    let mut caller = loop {
        // The place of the one before is free a moment after its end.
        let mut caller = Caller::to(address).await;
        if asked(&mut caller).await.status() == 200 {
            break caller;
        }
    };
    for round in 0..300_u32 {
        cisco.forget_seen();
        let own = format!("GET /simulator/echo?own{round} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let other = own.replace("own", "other");
        let mut newcomer = Caller::over(TcpStream::connect(address).await.unwrap());
        // The one who comes is accepted and the one who is there speaks, as good as at once.
        for _ in 0..round % 7 {
            std::hint::spin_loop();
        }
        let (answer, response) = tokio::join!(caller.try_asked(&own), newcomer.try_asked(&other));
        let has_run = relayed(&cisco)
            .iter()
            .any(|seen| seen.target.ends_with(&format!("own{round}")));
        if let Some(answer) = answer {
            assert_eq!((answer.status(), has_run), (200, true), "{round}");
            served += 1;
        } else {
            assert!(!has_run, "{round}: executed and not answered");
            closed += 1;
        }
        let response = response.expect("a new connection gets a response");
        if response.status() == 200 {
            caller = newcomer;
        } else {
            is_crowded(&response);
            crowded += 1;
        }
    }
    println!("{served} served and {closed} closed at the moment of the close; {crowded} new ones refused");
    assert!(closed > 0);
}

#[tokio::test]
async fn a_burst_of_newcomers_finds_room_for_each_while_enough_idle() {
    let cisco = simulator(Options::default()).await;
    let daemon = daemon(&cisco, 64, 2).await;
    let mut idle = in_turn(&daemon, 1..65).await;
    let address = daemon.address();
    let mut newcomers = tokio::task::JoinSet::new();
    for number in 65..113 {
        newcomers.spawn(async move {
            let mut caller = caller_from([127, 0, 1, number], address).await;
            (asked(&mut caller).await.status(), caller)
        });
    }
    let newcomers = newcomers.join_all().await;
    assert!(newcomers.iter().all(|(status, _)| *status == 200));
    for caller in idle.drain(..48) {
        let mut caller = caller;
        caller.is_over().await;
    }
    for caller in &mut idle {
        assert_eq!(asked(caller).await.status(), 200);
    }
}
