//! What a stop finds half way: callers who have just come, heads that have begun, answers under way. Each is
//! answered; at the deadline by bondgate itself.

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Answer, Daemon, PATIENCE, PULL, PUSH, Setup, relayed, seen_when, simulator};
use crate::raw_upstream::RawUpstream;
use crate::shutdown::refused;
use crate::tls_listeners::Certificates;
use crate::wire::{Caller, Message};

const ECHO: &str = "GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn daemon() -> (Handle, Daemon) {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    (cisco, daemon)
}

/// Waits until so many callers' connections are open.
async fn connected(daemon: &Daemon, callers: usize) {
    // The connection of this request is counted, too.
    let line = format!("bondgate_connections {}", callers + 1);
    let measured = async {
        while !daemon
            .ask("/metrics")
            .await
            .body()
            .lines()
            .any(|found| found == line)
        {
            tokio::task::yield_now().await;
        }
    };
    let measured = tokio::time::timeout(PATIENCE, measured).await;
    measured.unwrap_or_else(|_| panic!("the metrics say {line:?}"));
}

fn is_last(answer: &Answer) {
    assert_eq!(
        (answer.status(), answer.field("connection")),
        (200, Some("close")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn who_has_just_come_and_whose_head_has_begun_are_answered() {
    let (_cisco, mut daemon) = daemon().await;
    let mut silent = Caller::to(daemon.address()).await;
    let mut half = Caller::to(daemon.address()).await;
    let (first, second) = ECHO.split_at(20);
    half.say(first).await;
    connected(&daemon, 2).await;

    daemon.signal("TERM");
    refused(&daemon).await;
    silent.say(ECHO).await;
    half.say(second).await;

    for mut caller in [silent, half] {
        is_last(&caller.message().await.head);
        caller.is_over().await;
    }
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn who_has_just_come_and_stays_silent_does_not_hold_a_stop() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "").environment("BONDGATE__SERVER__DRAIN", "10m");
    let mut daemon = setup.start().await;
    let mut silent = Caller::to(daemon.address()).await;
    connected(&daemon, 1).await;
    daemon.signal("TERM");
    silent.is_over().await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn who_was_not_told_to_go_is_answered_once_more_when_a_long_answer_ends_in_a_drain() {
    let (cisco, upstream) = (simulator(Options::default()).await, RawUpstream::bind().await);
    let setup = Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, "");
    let mut daemon = setup.start().await;
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(ECHO).await;
    let mut line = upstream.accept().await;
    line.head().await;
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nlong").await;
    let head = caller.head().await;
    assert_eq!(head.field("connection"), None);

    daemon.signal("TERM");
    refused(&daemon).await;
    line.say(" one").await;
    assert_eq!(caller.body_of(head).await.text(), "long one");
    caller.say(ECHO).await;
    line.head().await;
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
        .await;

    let answer = caller.message().await;
    is_last(&answer.head);
    assert_eq!(answer.text(), "again");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_tls_handshake_that_ends_in_a_drain_is_followed_by_an_answer() {
    let (cisco, certificates) = (simulator(Options::default()).await, Certificates::new());
    let mut daemon = certificates.daemon(&cisco, false).await;
    let stream = TcpStream::connect(daemon.address()).await.unwrap();
    connected(&daemon, 1).await;

    daemon.signal("TERM");
    refused(&daemon).await;
    let (_, answer) = certificates.pulled_over(stream, &[], false).await.unwrap();

    // Nothing is pulled any more in a drain.
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.body().contains("bondgate is stopping"), "{answer:?}");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn slow_answers_are_completed_and_the_exit_code_is_0() {
    let (cisco, mut daemon) = daemon().await;
    cisco.put_raw_message("demo", "{\"Calls\":{}}");
    cisco.script(Fault::on(On::Any, Kind::Slow { ms: 1500 }).forever());
    let mut callers = JoinSet::new();
    let mut begin = |method: &str, target: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let address = daemon.address();
        callers.spawn(async move {
            let mut caller = Caller::to(address).await;
            caller.say(request).await;
            caller.message().await
        });
    };
    for number in 0..20 {
        begin("GET", &format!("/simulator/bytes/{}", number << 18), "");
        begin("POST", "/simulator/echo", "hello");
    }
    begin("GET", PULL, "");
    seen_when(&cisco, |seen| {
        seen.iter()
            .filter(|seen| seen.endpoint != Endpoint::Token)
            .count()
            == 41
    })
    .await;

    daemon.signal("TERM");
    refused(&daemon).await;

    assert_eq!(
        callers.try_join_next().map(drop_answer),
        None,
        "all are under way"
    );
    for answer in callers.join_all().await {
        // Read by its Content-Length, so it is whole.
        is_last(&answer.head);
    }
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert_eq!(relayed(&cisco).len(), 41);
}

fn drop_answer(answer: Result<Message, tokio::task::JoinError>) -> u16 {
    answer.unwrap().status()
}

/// Stops a daemon that cannot finish these requests, and judges what they are answered with.
async fn is_forced(mut daemon: Daemon, callers: Vec<Caller>, status: u16, promise: &str) {
    connected(&daemon, callers.len()).await;
    daemon.signal("TERM");
    for mut caller in callers {
        let answer = caller.message().await;
        answer.is_ours(status, promise);
        assert!(answer.text().contains(promise), "{answer:?}");
        assert_eq!(answer.field("retry-after").is_some(), status == 503, "{answer:?}");
        assert_eq!(answer.field("connection"), Some("close"));
        caller.is_over().await;
    }
    assert_eq!(daemon.ended().await.code(), Some(1));
}

async fn callers(daemon: &Daemon, requests: &[&str]) -> Vec<Caller> {
    let mut callers = Vec::new();
    for request in requests {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request).await;
        callers.push(caller);
    }
    callers
}

fn post() -> String {
    format!("POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
}

fn pull() -> String {
    format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn at_the_deadline_what_was_not_sent_is_503_and_the_exit_code_is_1() {
    let cisco = simulator(Options::default()).await;
    // Takes connections, and never shakes hands.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let setup = Setup::apart(&cisco, &url, "", "").environment("BONDGATE__SERVER__DRAIN", "1s");
    let daemon = setup.start().await;

    let half = &ECHO[..30];
    let callers = callers(&daemon, &[ECHO, &post(), &pull(), half]).await;
    let mut connected = Vec::new();
    for _ in 0..3 {
        connected.push(silent.accept().await.unwrap());
    }

    is_forced(daemon, callers, 503, "it is safe to send it again").await;
}

#[tokio::test]
async fn at_the_deadline_what_was_sent_is_504_and_the_exit_code_is_1() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "").environment("BONDGATE__SERVER__DRAIN", "1s");
    let daemon = setup.start().await;
    cisco.script(Fault::on(On::Any, Kind::Hang).forever());

    let callers = callers(&daemon, &[ECHO, &post(), &pull()]).await;
    seen_when(&cisco, |seen| {
        seen.iter()
            .filter(|seen| seen.endpoint != Endpoint::Token)
            .count()
            == 3
    })
    .await;

    is_forced(daemon, callers, 504, "may have executed the request").await;
}
