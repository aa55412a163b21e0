//! How long a connection waits for a head, and what ends the wait.

mod delivery;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::head_filter::{HeadFilter, Stalled};
use super::state::Connection;
use crate::config::{Config, Limits};
use crate::problems::request::too_many_connections;
use crate::server::limits::{ConnectionLimit, ConnectionPermit};
use crate::server::{Phase, ServerContext, stopping};
use crate::telemetry::metrics::Metrics;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PARK_AFTER: Duration = Duration::from_secs(1);
const LAST_CALL: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(3);

/// A connection without hyper, and the caller's end of it.
struct Stand {
    filter: HeadFilter,
    connection: Connection,
    stop: watch::Sender<Phase>,
    caller: UnixStream,
}

fn limits() -> Arc<Limits> {
    let text =
        "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
    Arc::new(Config::parse(text, "test.toml", []).unwrap().limits)
}

fn stand(permit: Option<ConnectionPermit>) -> Stand {
    let (caller, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(ours).unwrap();
    let (stop, stopping) = stopping();
    let context = ServerContext {
        limits: limits(),
        connections: ConnectionLimit::new(1, 1, too_many_connections),
        metrics: Metrics::new(),
        activity: Arc::default(),
        stop: stopping,
    };
    let filter = HeadFilter::new(Box::new(stream), &context, permit);
    Stand {
        connection: filter.connection.clone(),
        filter,
        stop,
        caller,
    }
}

/// A connection that idles, or is parked.
fn idle(permit: Option<ConnectionPermit>, is_parked: bool) -> Stand {
    let mut stand = stand(permit);
    stand.connection.lock().idle_for_test(is_parked);
    stand.filter.shrink();
    stand
}

/// So many connections of a limit, and one more that is `is_parked` or idles.
fn limited(
    connections: usize,
    others: usize,
    is_parked: bool,
) -> (Stand, ConnectionLimit, Vec<ConnectionPermit>) {
    let limit = ConnectionLimit::new(connections, 1, too_many_connections);
    let others = (0..others).map(|_| limit.permit()).collect();
    (idle(Some(limit.permit()), is_parked), limit, others)
}

#[derive(Debug, PartialEq)]
enum Next {
    Request,
    Parked,
    End,
}

impl Stand {
    /// How long the connection waits, and for what.
    async fn wait(&mut self) -> (Duration, Next) {
        let began = Instant::now();
        std::future::poll_fn(|cx| self.filter.poll_head(cx)).await;
        let state = self.connection.lock();
        let next = match (state.is_serving(), state.is_parked()) {
            (true, _) => Next::Request,
            (_, true) => Next::Parked,
            _ => Next::End,
        };
        (began.elapsed(), next)
    }

    fn refusal(&self) -> Option<u16> {
        self.connection
            .lock()
            .refusal()
            .map(|problem| problem.status.as_u16())
    }
}

fn is_near(time: Duration, expected: Duration) -> bool {
    time.abs_diff(expected) < Duration::from_millis(10)
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_a_parked_connection_ends_unless_something_has_arrived() {
    let mut stand = idle(None, true);
    stand.stop.send_replace(Phase::Draining);
    // The runtime does not know of it yet.
    stand.caller.write_all(REQUEST).unwrap();
    assert_eq!(stand.wait().await.1, Next::Request);

    let mut stand = idle(None, true);
    stand.stop.send_replace(Phase::Draining);
    assert_eq!(stand.wait().await, (Duration::ZERO, Next::End));
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_a_new_connection_gets_a_last_call() {
    let mut stand = stand(None);
    stand.stop.send_replace(Phase::Draining);
    let (time, next) = stand.wait().await;
    assert!(is_near(time, LAST_CALL) && next == Next::End, "{time:?}");
    assert!(stand.refusal().is_none());
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_a_connection_that_has_just_had_its_response_waits_until_it_is_parked() {
    let mut stand = idle(None, false);
    stand.stop.send_replace(Phase::Draining);
    let (time, next) = stand.wait().await;
    assert!(is_near(time, PARK_AFTER) && next == Next::Parked, "{time:?}");
    assert_eq!(stand.wait().await, (Duration::ZERO, Next::End));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_is_awaited_in_a_drain_and_refused_at_the_deadline() {
    let mut first = stand(None);
    first.stop.send_replace(Phase::Draining);
    first.caller.write_all(b"GET / HT").unwrap();
    let (time, next) = first.wait().await;
    assert!(
        is_near(time, limits().first_byte) && next == Next::End,
        "{time:?}"
    );
    assert_eq!(first.refusal(), Some(408));

    let mut second = stand(None);
    second.caller.write_all(b"GET / HT").unwrap();
    let stop = second.stop.clone();
    let deadline = async {
        tokio::time::sleep(SOON).await;
        stop.send_replace(Phase::Deadline);
    };
    let waited = tokio::time::timeout(SOON * 2, second.wait());
    let (waited, ()) = tokio::join!(waited, deadline);
    // The connection's task is woken by `serve`, and not here.
    let next = match waited {
        Ok((_, next)) => next,
        Err(_) => second.wait().await.1,
    };
    assert_eq!((next, second.refusal()), (Next::End, Some(503)));
    second.filter.close(std::future::pending()).await.unwrap();
    let mut response = String::new();
    second.caller.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_ends_when_it_is_asked_to_close() {
    let (mut stand, limit, _others) = limited(4, 1, true);
    let ask = async {
        tokio::time::sleep(SOON).await;
        Some(limit.ask().expect("it idles"))
    };
    let (waited, permit) = tokio::join!(stand.wait(), ask);
    assert!(is_near(waited.0, SOON) && waited.1 == Next::End);
    assert!(stand.refusal().is_none());
    drop(stand);
    assert!(permit.unwrap().try_recv().is_ok(), "its permit is handed over");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_something_has_arrived_declines_to_close_and_serves_it() {
    for is_written_first in [false, true] {
        let (mut stand, limit, _others) = limited(4, 1, true);
        let mut caller = stand.caller.try_clone().unwrap();
        let ask = async {
            tokio::time::sleep(SOON).await;
            // The runtime does not know of it when the connection is asked.
            if is_written_first {
                caller.write_all(REQUEST).unwrap();
            }
            let mut permit = limit.ask().expect("it idles");
            if !is_written_first {
                caller.write_all(REQUEST).unwrap();
            }
            tokio::time::sleep(SOON).await;
            assert!(
                matches!(permit.try_recv(), Err(TryRecvError::Closed)),
                "{is_written_first}"
            );
        };
        let (waited, ()) = tokio::join!(stand.wait(), ask);
        assert_eq!(waited.1, Next::Request);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_asked_before_it_is_parked_only_while_permits_are_scarce() {
    for (others, is_asked) in [(2, false), (3, true)] {
        let (mut stand, limit, _others) = limited(5, others, false);
        let ask = async {
            tokio::time::sleep(PARK_AFTER / 2).await;
            limit.ask()
        };
        let (waited, asked) = tokio::join!(stand.wait(), ask);
        assert_eq!(asked.is_some(), is_asked);
        let expected = if is_asked {
            (PARK_AFTER / 2, Next::End)
        } else {
            (PARK_AFTER, Next::Parked)
        };
        assert!(
            is_near(waited.0, expected.0) && waited.1 == expected.1,
            "{waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_new_or_has_begun_a_head_is_never_asked_to_close() {
    for begun in [&b""[..], b"GET / HT"] {
        let limit = ConnectionLimit::new(1, 1, too_many_connections);
        let mut stand = stand(Some(limit.permit()));
        stand.caller.write_all(begun).unwrap();
        let ask = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(limit.ask().is_none());
        };
        tokio::join!(stand.wait(), ask);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_five_minutes_by_default() {
    let mut stand = idle(None, false);
    let (parked_after, next) = stand.wait().await;
    assert_eq!(next, Next::Parked);
    let (kept_for, next) = stand.wait().await;
    assert_eq!(next, Next::End);
    assert!(
        is_near(parked_after + kept_for, Duration::from_secs(300)),
        "{kept_for:?}"
    );

    // A client that polls every 80 s is served each time.
    let mut stand = idle(None, true);
    let mut caller = stand.caller.try_clone().unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_secs(80)).await;
        caller.write_all(REQUEST).unwrap();
    };
    let (waited, ()) = tokio::join!(stand.wait(), later);
    assert_eq!(waited.1, Next::Request);
}

/// A connection that serves a request whose response is longer than the socket's buffers.
async fn writing() -> (Stand, Vec<u8>) {
    let mut stand = stand(None);
    stand.caller.write_all(REQUEST).unwrap();
    assert_eq!(stand.wait().await.1, Next::Request);
    (stand, vec![0; 8 << 20])
}

#[tokio::test(start_paused = true)]
async fn a_write_fails_when_the_caller_reads_nothing_for_the_limit() {
    let (mut stand, response) = writing().await;
    let began = Instant::now();
    stand.filter.write_all(&response).await.unwrap_err();
    assert!(began.elapsed() >= limits().stall);
    assert_eq!(stand.filter.stalled, Some(Stalled::Response));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_slowly_is_served_to_the_end() {
    let (mut stand, response) = writing().await;
    let mut caller = stand.caller.try_clone().unwrap();
    let length = response.len();
    let slow = async {
        let mut buffer = vec![0; 1 << 20];
        let mut read = 0;
        while read < length {
            tokio::time::sleep(limits().stall * 9 / 10).await;
            read += caller.read(&mut buffer).unwrap();
        }
    };
    let (written, ()) = tokio::join!(stand.filter.write_all(&response), slow);
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_input_buffer_is_released_when_a_request_body_has_passed() {
    let mut stand = stand(None);
    let (at_once, later) = (vec![b'x'; 20_000], vec![b'y'; 20_000]);
    let length = at_once.len() + later.len();
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stand
        .caller
        .write_all(&[head.as_bytes(), &at_once].concat())
        .unwrap();
    assert_eq!(stand.wait().await.1, Next::Request);
    let mut passed = vec![0; head.len() + at_once.len()];
    stand.filter.read_exact(&mut passed).await.unwrap();
    assert!(passed.ends_with(&at_once));
    assert!(!stand.filter.input.try_reclaim(10_000));
    stand.caller.write_all(&[&later, REQUEST].concat()).unwrap();
    let mut passed = vec![0; later.len()];
    stand.filter.read_exact(&mut passed).await.unwrap();
    assert_eq!(passed, later);
    assert!(!stand.filter.input.try_reclaim(10_000));
    assert_eq!(stand.filter.input, REQUEST, "the next request stays here");
}
