//! Kept connections: one that the upstream has closed costs no request, and none is kept too long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bondgate::simulator::Options;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{Daemon, PATIENCE, Setup, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::Caller;

const POST: &str = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn before(upstream: &RawUpstream, more: &str) -> Daemon {
    let cisco = simulator(Options::default()).await;
    Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, more)
        .start()
        .await
}

async fn heard<T>(events: &mut mpsc::UnboundedReceiver<T>) -> T {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    event.expect("the upstream does its part").unwrap()
}

/// Whether the system still takes a connection for open both ways at its end of this address: with much to
/// do, it delivers a FIN later than what was sent after it on another connection.
fn is_established(at: SocketAddr) -> bool {
    let SocketAddr::V4(at) = at else {
        panic!("{at} is bound as IPv4")
    };
    let address = format!("{:08X}:{:04X}", u32::from(*at.ip()).swap_bytes(), at.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next(), words.nth(1)) == (Some(&*address), Some("01"))
    })
}

/// Whether anybody's end of a connection to this address is open both ways, as far as the system knows.
fn is_connected(to: SocketAddr) -> bool {
    let port = format!(":{:04X}", to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|remote| remote.ends_with(&port)) && words.next() == Some("01")
    })
}

/// Answers one request on each connection, and closes it after a while without having said so.
async fn closing(
    upstream: RawUpstream,
    after: Duration,
    is_reset: bool,
    closed: mpsc::UnboundedSender<usize>,
) {
    for number in 1.. {
        let mut line = upstream.accept().await;
        let closed = closed.clone();
        tokio::spawn(async move {
            let message = line.message().await;
            assert_eq!(message.body, b"hello");
            line.say(ANSWER).await;
            tokio::time::sleep(after).await;
            let stream = line.into_stream();
            let tcp = stream.get_ref().0;
            let daemon = tcp.peer_addr().unwrap();
            if is_reset {
                tcp.set_zero_linger().unwrap();
            }
            drop(stream);
            while is_established(daemon) {
                tokio::task::yield_now().await;
            }
            let _ = closed.send(number);
        });
    }
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_costs_no_request() {
    // A reset right behind the answer could take the answer with it.
    for (after, is_reset) in [(0, false), (50, false), (50, true)] {
        let upstream = RawUpstream::bind().await;
        let daemon = before(&upstream, "").await;
        let (sender, mut closed) = mpsc::unbounded_channel();
        let after = Duration::from_millis(after);
        let serving = tokio::spawn(closing(upstream, after, is_reset, sender));

        let mut caller = Caller::to(daemon.address()).await;
        for number in 1..=30 {
            caller.say(POST).await;
            assert_eq!(
                caller.message().await.status(),
                200,
                "{number}, {after:?} {is_reset}"
            );
            assert_eq!(heard(&mut closed).await, number);
        }
        serving.abort();
    }
}

#[tokio::test]
async fn a_pool_full_of_closed_connections_costs_no_request() {
    const CALLERS: usize = 24;
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;

    for _ in 0..5 {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let address = daemon.address();
            callers.spawn(async move {
                let mut caller = Caller::to(address).await;
                caller.say(POST).await;
                assert_eq!(caller.message().await.status(), 200);
            });
        }
        // All of them are under way before one is answered, so each has a connection of its own.
        let mut lines = Vec::new();
        for _ in 0..CALLERS {
            let mut line = upstream.accept().await;
            line.message().await;
            lines.push(line);
        }
        for line in &mut lines {
            line.say(ANSWER).await;
        }
        while let Some(called) = callers.join_next().await {
            called.unwrap();
        }
    }
}

#[tokio::test]
async fn a_crowd_opens_no_more_connections_than_it_has_callers() {
    const CALLERS: usize = 16;
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    // One handshake after the other: most requests go out on a connection that another one has done with.
    let (sender, mut opened) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        let mut lines = JoinSet::new();
        loop {
            let mut line = upstream.accept().await;
            let _ = sender.send(());
            lines.spawn(async move {
                loop {
                    line.message().await;
                    line.say(ANSWER).await;
                }
            });
        }
    });

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let address = daemon.address();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            for _ in 0..50 {
                caller.say(POST).await;
                assert_eq!(caller.message().await.status(), 200);
            }
        });
    }
    while let Some(called) = callers.join_next().await {
        called.unwrap();
    }

    serving.abort();
    let mut count = 0;
    while opened.recv().await.is_some() {
        count += 1;
    }
    assert!((1..=CALLERS).contains(&count), "{count} connections");
}

#[tokio::test]
async fn connections_that_were_never_used_cost_no_request_once_the_upstream_has_closed_them() {
    const WAITING: usize = 5;
    let upstream = RawUpstream::bind().await;
    let cisco = simulator(Options::default()).await;
    let setup = Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, "");
    let daemon = setup.environment("BONDGATE__SERVER__WORKERS", "1").start().await;
    let mut callers = Vec::new();
    for _ in 0..=WAITING {
        callers.push(Caller::to(daemon.address()).await);
    }

    // One has a connection, and the others wait for theirs.
    callers[0].say(POST).await;
    let mut first = upstream.accept().await;
    first.message().await;
    for caller in &mut callers[1..] {
        caller.say(POST).await;
    }
    let in_flight = format!(
        "bondgate_requests_in_flight{{upstream=\"cisco\"}} {}",
        WAITING + 1
    );
    while !daemon.ask("/metrics").await.body().contains(&in_flight) {
        tokio::task::yield_now().await;
    }
    // All of them are served by the first one, before theirs are there.
    for _ in 0..WAITING {
        first.say(ANSWER).await;
        first.message().await;
    }
    first.say(ANSWER).await;
    for caller in &mut callers {
        assert_eq!(caller.message().await.status(), 200);
    }
    let mut unused = Vec::new();
    for _ in 0..WAITING {
        unused.push(upstream.accept().await);
    }
    drop((first, unused));
    while is_connected(upstream.address()) {
        tokio::task::yield_now().await;
    }

    callers[0].say(POST).await;
    let mut line = upstream.accept().await;
    line.message().await;
    line.say(ANSWER).await;
    assert_eq!(callers[0].message().await.status(), 200);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_keep_alive_and_then_closed_by_us() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "keep_alive = \"300ms\"").await;
    let mut caller = Caller::to(daemon.address()).await;

    caller.say(POST).await;
    let mut line = upstream.accept().await;
    for _ in 0..3 {
        line.message().await;
        line.say(ANSWER).await;
        assert_eq!(caller.message().await.status(), 200);
        caller.say(POST).await;
    }
    line.message().await;
    line.say(ANSWER).await;
    assert_eq!(caller.message().await.status(), 200);

    line.is_over().await;
    drop(daemon);
}

#[tokio::test]
async fn with_keep_alive_0_each_request_has_a_connection_of_its_own() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "keep_alive = \"0s\"").await;
    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..3 {
        caller.say(POST).await;
        let mut line = upstream.accept().await;
        line.message().await;
        line.say(ANSWER).await;
        assert_eq!(caller.message().await.status(), 200);
        line.is_over().await;
    }
}

#[tokio::test]
async fn a_connection_in_use_outlives_max_age_and_is_closed_after_its_answer() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "max_age = \"300ms\"").await;
    let mut caller = Caller::to(daemon.address()).await;

    caller.say(POST).await;
    let mut line = upstream.accept().await;
    line.message().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    line.say(ANSWER).await;
    assert_eq!(caller.message().await.status(), 200);
    line.is_over().await;

    caller.say(POST).await;
    let mut line = upstream.accept().await;
    line.message().await;
    line.say(ANSWER).await;
    assert_eq!(caller.message().await.status(), 200);
    // This one reaches its age while it idles, long before keep_alive is over.
    let began = Instant::now();
    line.is_over().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn under_steady_traffic_connections_are_replaced_at_max_age_and_no_request_notices() {
    const CALLERS: usize = 4;
    const REPLACED: usize = 5;
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "max_age = \"300ms\"").await;
    let (sender, mut opened) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        let mut lines = JoinSet::new();
        loop {
            let mut line = upstream.accept().await;
            let _ = sender.send(());
            lines.spawn(async move {
                while line.has_more().await {
                    line.message().await;
                    line.say(ANSWER).await;
                }
            });
        }
    });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let address = daemon.address();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            loop {
                caller.say(POST).await;
                assert_eq!(caller.message().await.status(), 200);
            }
        });
    }
    for _ in 0..CALLERS * REPLACED {
        tokio::select! {
            () = heard(&mut opened) => {}
            Some(failed) = callers.join_next() => failed.unwrap(),
        }
    }
    serving.abort();
}

#[tokio::test]
async fn a_shorter_keep_alive_of_the_upstream_is_kept_with_a_second_to_spare() {
    let upstream = RawUpstream::bind().await;
    let daemon = before(&upstream, "").await;
    let mut caller = Caller::to(daemon.address()).await;
    // Two seconds are there for the next request, and one of the three for the way.
    for (announced, kept) in [("timeout=3, max=100", 2), ("max=5,Timeout=\"1\"", 0)] {
        caller.say(POST).await;
        let mut line = upstream.accept().await;
        line.message().await;
        let answer = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {announced}\r\nContent-Length: 2\r\n\r\nok");
        line.say(answer).await;
        let answered = Instant::now();
        assert_eq!(caller.message().await.status(), 200);
        line.is_over().await;
        let closed = answered.elapsed();
        // A busy machine may be late, but keep_alive is far away.
        let kept = Duration::from_secs(kept);
        assert!(
            closed >= kept && closed < Duration::from_secs(15),
            "{announced}: {closed:?}"
        );
    }
}
