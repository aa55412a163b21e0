//! A caller that dies in the middle of each ticket, for fifteen minutes: no ticket counts as delivered that was not
//! read in full, none becomes a dead letter, other callers are served, and one command restores everything.
//!
//! The fifteen minutes and the pauses after failed deliveries are shortened by the same factor, so that as many
//! deliveries fail as in fifteen minutes with the default pauses. `.ci/soak` runs them at their full length.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bondgate::simulator::{Handle, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::pauses;
use crate::harness::{
    Answer, DEMO_SECRET, Daemon, Ended, PATIENCE, PULL, Setup, bondgate, finished, simulator,
};
use crate::wire::reset;

const TICKETS: usize = 20;
const SIZE: usize = 60_000;
/// How much of a ticket the caller reads before it dies.
const READ: usize = 4096;
/// How long a caller crashes.
const TIME: Duration = Duration::from_secs(15 * 60);
/// The default pauses in seconds.
const PAUSES: [u32; 6] = [0, 1, 5, 30, 120, 600];
/// What the time and the pauses are divided by.
const SHORTENED: u32 = 300;
/// After a refused request a caller waits for so long, whatever Retry-After says. With every pause shortened,
/// waiting for full seconds would leave deliveries out.
const RETRY: Duration = Duration::from_millis(5);

/// How a caller ends in the middle of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It resets the connection, as Windows does for a program that exits with an open socket.
    Reset,
    /// Its system has received and acknowledged everything; it is killed and leaves most of it unread.
    Unread,
}

/// What a caller that dies again and again saw.
#[derive(Debug, Default)]
struct Crashes {
    /// Responses with a ticket that it died in.
    deaths: usize,
    /// The tickets that it died in.
    tickets: BTreeSet<usize>,
    refused: usize,
    empty: usize,
    /// When the queue was empty for the first time.
    emptied_after: Option<Duration>,
    /// A 503 that it got.
    refusal: Option<String>,
}

/// A whole response.
#[derive(Debug)]
enum Response {
    Ticket { number: usize, is_redelivered: bool },
    Empty,
    Refused(String),
}

/// A daemon and its queue.
struct Stand {
    cisco: Handle,
    daemon: Daemon,
}

fn body(number: usize) -> String {
    let start = format!("{{\"Calls\":{{\"CustCallID\":\"INC{number:07}\",\"Remarks\":\"");
    let filling = "x".repeat(SIZE - start.len() - 3);
    format!("{start}{filling}\"}}}}")
}

fn number(text: &str) -> usize {
    let (_, number) = text.split_once("\"CustCallID\":\"INC").unwrap();
    number[..7].parse().unwrap()
}

fn request(key: &str) -> String {
    format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nX-Bondgate-Key: {key}\r\n\r\n")
}

impl Stand {
    /// Twenty tickets, and two callers that have keys.
    async fn new(shortened: u32) -> Self {
        let cisco = simulator(Options::default()).await;
        let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, "");
        let keys = setup.file("callers", "crasher:key-of-crasher\nother:key-of-other\n");
        let directory = setup.directory.path().join("spool");
        let pauses = if shortened == 1 {
            String::new()
        } else {
            let shortened = PAUSES.map(|pause| format!("{}ms", pause * 1000 / shortened));
            pauses(&shortened.each_ref().map(String::as_str))
        };
        let daemon = setup
            .listener("127.0.0.1:0", &format!("keys = {{ file = {keys:?} }}"))
            .and(&format!("[spool]\ndirectory = {directory:?}\n{pauses}"))
            .environment("BONDGATE_LOG", "bondgate=info")
            .start()
            .await;
        for number in 1..=TICKETS {
            cisco.put_raw_message("demo", body(number));
        }
        Self { cisco, daemon }
    }

    /// A pull by the caller that reads everything and closes in order.
    async fn pull(&self) -> Response {
        let answer = pull(self.daemon.address(), "key-of-other", |_| None).await;
        match answer {
            Ok(response) => response,
            Err(death) => unreachable!("it does not die: {death:?}"),
        }
    }

    /// Pulls until "No messages".
    async fn pull_all(&self) -> Vec<(usize, bool)> {
        let mut received = Vec::new();
        let all = async {
            loop {
                match self.pull().await {
                    Response::Ticket {
                        number,
                        is_redelivered,
                    } => received.push((number, is_redelivered)),
                    Response::Empty => break,
                    Response::Refused(_) => tokio::time::sleep(RETRY).await,
                }
            }
        };
        let all = tokio::time::timeout(PATIENCE, all).await;
        assert!(all.is_ok(), "the queue is not emptied; so far: {received:?}");
        received
    }

    async fn counter(&self, name: &str) -> u64 {
        let metrics = self.daemon.ask("/metrics").await;
        let line = format!("bondgate_spool_{name}_total ");
        let value = metrics.body().lines().find_map(|found| found.strip_prefix(&line));
        value
            .and_then(|value| value.parse().ok())
            .expect("there is such a counter")
    }

    /// `bondgate spool …` beside the running daemon.
    async fn spool(&self, arguments: &[&str]) -> Ended {
        let mut command = bondgate();
        command.arg("spool").args(arguments);
        command.arg("--directory").arg(super::spool_of(&self.daemon));
        finished(command).await
    }
}

/// Pulls once; dies where `death` says so of the beginning of a ticket.
async fn pull(
    to: SocketAddr,
    key: &str,
    death: impl Fn(usize) -> Option<Death>,
) -> Result<Response, (usize, Death)> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request(key).as_bytes()).await.unwrap();
    let mut response = vec![0; READ];
    let mut filled = 0;
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut response[filled..])).await;
        let count = read.expect("a response comes").unwrap();
        filled += count;
        let length = whole_length(&response[..filled]);
        if count == 0 || length.is_some_and(|length| filled >= length) {
            response.truncate(filled);
            break;
        }
        if filled < READ {
            continue;
        }
        let text = String::from_utf8_lossy(&response[..READ]).into_owned();
        if response.len() == READ
            && let Some(death) = death(number(&text))
        {
            if death == Death::Unread {
                received(&stream, length.unwrap_or(READ) - READ).await;
                drop(stream);
            } else {
                reset(&stream);
            }
            return Err((number(&text), death));
        }
        response.resize(length.unwrap_or(filled) + 1, 0);
    }
    let answer = Answer(String::from_utf8_lossy(&response).into_owned());
    Ok(match answer.status() {
        200 if answer.body().contains("No messages available") => Response::Empty,
        200 => {
            let number = number(answer.body());
            assert_eq!(answer.body(), body(number), "the ticket is as Cisco sent it");
            Response::Ticket {
                number,
                is_redelivered: answer.field("bondgate-redelivered").is_some(),
            }
        }
        503 => Response::Refused(answer.0),
        status => panic!("status {status}: {answer:?}"),
    })
}

/// Waits until the rest of a response is in this system's buffer: all of it is acknowledged then.
async fn received(stream: &TcpStream, rest: usize) {
    let received = async {
        while rustix::io::ioctl_fionread(stream).unwrap() < rest as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let received = tokio::time::timeout(PATIENCE, received).await;
    received.expect("the rest of the response comes");
}

/// How long a response is in all, once its head is there.
fn whole_length(response: &[u8]) -> Option<usize> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = Answer(String::from_utf8_lossy(&response[..end]).into_owned());
    let length: usize = head.field("content-length")?.parse().ok()?;
    Some(end + length)
}

/// Pulls as fast as it can and dies in each ticket, by turns in both ways.
async fn crash(to: SocketAddr, time: Duration) -> Crashes {
    let began = Instant::now();
    let mut crashes = Crashes::default();
    while began.elapsed() < time {
        let death = if crashes.deaths % 2 == 0 {
            Death::Reset
        } else {
            Death::Unread
        };
        match pull(to, "key-of-crasher", |_| Some(death)).await {
            Err((number, _)) => {
                crashes.deaths += 1;
                crashes.tickets.insert(number);
            }
            Ok(Response::Refused(response)) => {
                crashes.refused += 1;
                crashes.refusal.get_or_insert(response);
                tokio::time::sleep(RETRY).await;
            }
            Ok(Response::Empty) => {
                crashes.empty += 1;
                crashes.emptied_after.get_or_insert(began.elapsed());
                tokio::time::sleep(RETRY).await;
            }
            Ok(Response::Ticket { number, .. }) => unreachable!("{number} was read in full"),
        }
    }
    crashes
}

/// Fifteen minutes of crashes, shortened; another caller takes some tickets meanwhile.
async fn crash_loop(shortened: u32) {
    // While the crashing caller has a ticket, another caller gets the next one.
    const OTHERS: usize = 6;
    let stand = Stand::new(shortened).await;
    let time = TIME / shortened;
    let dying = tokio::spawn(crash(stand.daemon.address(), time));
    let mut meanwhile = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut period = tokio::time::interval(time / (u32::try_from(OTHERS).unwrap() + 1));
    period.tick().await;
    for _ in 0..OTHERS {
        period.tick().await;
        let began = Instant::now();
        meanwhile.push(stand.pull().await);
        slowest = slowest.max(began.elapsed());
    }
    let crashes = dying.await.unwrap();
    let dead_letters = stand.counter("set_aside").await;
    let delivered = stand.counter("delivered").await;
    let ready = stand.daemon.ask("/readyz").await;
    let requeue = stand.spool(&["requeue", "--all"]).await;
    let restored = stand.pull_all().await;

    let figures = format!(
        "{TICKETS} tickets of {SIZE} bytes, {time:?} of crashes after {READ} bytes (a 1/{shortened} of fifteen \
         minutes and of the pauses):\n\
         died in {} responses, of the tickets {:?}; refused {} times; \"No messages\" {} times, first after {:?}\n\
         first refusal: {:?}\n\
         the other caller meanwhile, {slowest:?} at most: {meanwhile:?}\n\
         dead letters: {dead_letters}; counted as delivered: {delivered}; at Cisco: {}\n\
         /readyz: {} {:?}\n\
         spool requeue --all: {requeue:?}\n\
         the other caller afterwards (number, is redelivered): {restored:?}",
        crashes.deaths,
        crashes.tickets,
        crashes.refused,
        crashes.empty,
        crashes.emptied_after,
        crashes.refusal,
        stand.cisco.queue_len(),
        ready.status(),
        ready.body(),
    );
    println!("{figures}");
    let numbers: Vec<_> = meanwhile
        .iter()
        .filter_map(|response| match response {
            Response::Ticket { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers.len(), OTHERS, "the other caller is served each time");
    let distinct: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), OTHERS, "no ticket comes twice: {numbers:?}");
    assert_eq!(dead_letters, 0, "no ticket becomes a dead letter");
    assert_eq!(
        delivered, OTHERS as u64,
        "only what was read in full is delivered"
    );
    assert!(crashes.deaths > PAUSES.len(), "the caller died often enough");
    let refusal = Answer(
        crashes
            .refusal
            .expect("a caller that failed is refused for a while"),
    );
    assert!(refusal.field("retry-after").is_some(), "{refusal:?}");
    assert_eq!(requeue.code, Some(0), "{requeue:?}");
    let restored: Vec<_> = restored.into_iter().map(|(number, _)| number).collect();
    assert_eq!(
        restored,
        (1..=TICKETS).collect::<Vec<_>>(),
        "everything is restored, in order"
    );
}

#[tokio::test]
async fn a_caller_that_dies_in_each_ticket_makes_no_dead_letter_and_one_command_restores_everything() {
    let _turn = crate::harness::heavy_or_hasty().await;
    crash_loop(SHORTENED).await;
}

#[tokio::test]
#[ignore = "takes fifteen minutes; run by .ci/soak"]
async fn a_caller_that_dies_in_each_ticket_for_fifteen_minutes_makes_no_dead_letter() {
    crash_loop(1).await;
}

#[tokio::test]
async fn a_caller_that_is_repaired_gets_every_ticket_it_died_in_once_and_in_order() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let stand = Stand::new(SHORTENED).await;
    let to = stand.daemon.address();
    let crashes = crash(to, TIME / SHORTENED).await;
    println!("{crashes:?}");
    let mut received = Vec::new();
    let repaired = async {
        while let Ok(response) = pull(to, "key-of-crasher", |_| None).await {
            match response {
                Response::Ticket { number, .. } => received.push(number),
                Response::Empty => break,
                Response::Refused(_) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    let repaired = tokio::time::timeout(PATIENCE, repaired).await;
    assert!(repaired.is_ok(), "the queue is not emptied; so far: {received:?}");
    assert_eq!(received, (1..=TICKETS).collect::<Vec<_>>());
    assert_eq!(stand.counter("set_aside").await, 0);
}

#[tokio::test]
async fn the_one_ticket_that_its_caller_dies_in_becomes_a_dead_letter_and_can_be_requeued() {
    const POISON: usize = 3;
    let _turn = crate::harness::heavy_or_hasty().await;
    let stand = Stand::new(SHORTENED).await;
    let to = stand.daemon.address();
    let (mut received, mut deaths) = (Vec::new(), 0);
    let all = async {
        loop {
            let dies = |number| (number == POISON).then_some(Death::Unread);
            match pull(to, "key-of-crasher", dies).await {
                Err(_) => deaths += 1,
                Ok(Response::Ticket { number, .. }) => received.push(number),
                Ok(Response::Empty) => break,
                Ok(Response::Refused(_)) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    let all = tokio::time::timeout(PATIENCE, all).await;
    println!("died {deaths} times; received {received:?}");
    assert!(all.is_ok(), "the queue is not emptied");
    let others: Vec<_> = (1..=TICKETS).filter(|number| *number != POISON).collect();
    assert_eq!(received, others);
    assert_eq!(deaths, 5);
    assert_eq!(stand.counter("set_aside").await, 1);
    let listed = stand.spool(&["list"]).await;
    println!("{}", listed.stdout);
    let requeue = stand.spool(&["requeue", "--all"]).await;
    assert_eq!(requeue.code, Some(0), "{requeue:?}");
    // The dead letter and what was delivered come again, in the order in which they were pulled, and say so.
    let restored = stand.pull_all().await;
    let expected: Vec<_> = (1..=TICKETS).map(|number| (number, true)).collect();
    assert_eq!(restored, expected);
}
