//! An upstream that dies and comes back: nothing is executed twice, and where nothing was under way nothing
//! fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bondgate::simulator::{Fault, Handle, Kind, On, Options};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::door::Door;
use crate::harness::{Daemon, PATIENCE, Setup, relayed, simulator};
use crate::wire::Caller;

const ECHO: &str = "/simulator/echo";

/// GETs by kept connections, POSTs each by one of its own.
const RULES: &str = "rules = [ { methods = [\"GET\"], path = \"/simulator/*\" }, \
                     { methods = [\"POST\"], path = \"/simulator/*\", fresh = true } ]";

async fn behind_a_door() -> (Handle, Door, Daemon) {
    let cisco = simulator(Options::default()).await;
    let door = Door::to(cisco.address());
    let url = format!("https://localhost:{}", door.port());
    let setup = Setup::apart(&cisco, &url, "", RULES);
    (cisco, door, setup.start().await)
}

/// Each request's number, and the status of its answer.
type Answers = Vec<(String, u16)>;

/// Callers that ask and ask, each request with a number of its own.
#[derive(Default)]
struct Load {
    answered: AtomicUsize,
    progress: Notify,
    is_over: AtomicBool,
}

impl Load {
    fn start(daemon: &Daemon, callers: usize) -> (Arc<Self>, JoinSet<Answers>) {
        let load = Arc::new(Self::default());
        let mut running = JoinSet::new();
        for caller in 0..callers {
            running.spawn(load.clone().ask(daemon.address(), caller));
        }
        (load, running)
    }

    async fn ask(self: Arc<Self>, address: std::net::SocketAddr, caller: usize) -> Answers {
        let mut line = Caller::to(address).await;
        let mut answers = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let id = format!("{caller}-{}", answers.len());
            line.say(request(&id, answers.len())).await;
            answers.push((id, line.message().await.status()));
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.progress.notify_waiters();
        }
        answers
    }

    /// Lets each caller have the answer that it waits for.
    async fn end(&self, mut running: JoinSet<Answers>) -> Answers {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Answers::new();
        while let Some(answers) = running.join_next().await {
            all.extend(answers.unwrap());
        }
        all
    }

    /// Waits for so many answers more.
    async fn goes_on(&self, by: usize) {
        let until = self.answered.load(Ordering::Relaxed) + by;
        let reached = async {
            while self.answered.load(Ordering::Relaxed) < until {
                self.progress.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("the load goes on");
    }
}

fn request(id: &str, number: usize) -> String {
    if number.is_multiple_of(2) {
        format!("GET {ECHO}?id={id} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    } else {
        format!("POST {ECHO}?id={id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
    }
}

/// How often each number reached the upstream.
fn executed(cisco: &Handle) -> HashMap<String, usize> {
    let mut executed = HashMap::new();
    for seen in relayed(cisco) {
        let (_, id) = seen.target.split_once("?id=").unwrap();
        *executed.entry(id.to_owned()).or_default() += 1;
    }
    executed
}

#[tokio::test]
async fn nothing_is_executed_twice_though_the_upstream_dies_again_and_again() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let (cisco, door, daemon) = behind_a_door().await;
    // So that each death finds requests under way.
    cisco.script(Fault::on(On::Path(ECHO.to_owned()), Kind::Slow { ms: 10 }).forever());
    let (load, running) = Load::start(&daemon, 16);

    for down in [0, 100, 300, 0, 700, 50, 0, 200] {
        load.goes_on(300).await;
        door.close();
        tokio::time::sleep(Duration::from_millis(down)).await;
        door.open();
    }
    load.goes_on(100).await;
    let answers = load.end(running).await;

    let executed = executed(&cisco);
    let mut counts = HashMap::<u16, usize>::new();
    for (id, status) in answers {
        *counts.entry(status).or_default() += 1;
        let times = executed.get(&id).copied().unwrap_or(0);
        match status {
            200 => assert_eq!(times, 1, "{id}"),
            502 => assert!(times <= 1, "{id} was executed {times} times"),
            503 => assert_eq!(times, 0, "{id}"),
            _ => panic!("{id} is answered with {status} and was executed {times} times"),
        }
    }
    println!("answers by status: {counts:?}");
    assert!(counts.get(&502).is_some_and(|cut| *cut > 0), "{counts:?}");
}

#[tokio::test]
async fn connections_refused_for_two_seconds_cost_no_request() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let (cisco, door, daemon) = behind_a_door().await;
    let (load, running) = Load::start(&daemon, 16);
    load.goes_on(200).await;
    let warm = load.end(running).await;
    assert!(warm.iter().all(|(_, status)| *status == 200), "{warm:?}");
    cisco.forget_seen();

    door.close();
    let began = Instant::now();
    let (load, running) = Load::start(&daemon, 32);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        load.answered.load(Ordering::Relaxed),
        0,
        "nothing can be answered yet"
    );
    door.open();
    load.goes_on(200).await;
    let answers = load.end(running).await;

    assert!(answers.iter().all(|(_, status)| *status == 200), "{answers:?}");
    println!(
        "{} answered, none failed, in {:?}",
        answers.len(),
        began.elapsed()
    );
    let once: HashMap<_, _> = answers.into_iter().map(|(id, _)| (id, 1)).collect();
    assert_eq!(executed(&cisco), once, "each was executed once");
}

#[tokio::test]
async fn handshakes_that_break_are_tried_again_and_the_request_goes_out_once() {
    let cisco = simulator(Options::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let daemon = Setup::apart(&cisco, &url, "", "").start().await;
    let to = cisco.address();
    // Closes, resets, and speaks no TLS; then it is well.
    let upstream = tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        listener.accept().await.unwrap().0.set_zero_linger().unwrap();
        let (mut caller, _) = listener.accept().await.unwrap();
        let mut inside = tokio::net::TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut inside).await;
    });

    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("1", 1)).await;

    assert_eq!(caller.message().await.status(), 200);
    assert_eq!(relayed(&cisco).len(), 1);
    drop(daemon);
    upstream.await.unwrap();
}

#[tokio::test]
async fn a_connect_that_outlasts_timeout_head_is_503_since_nothing_was_sent() {
    let cisco = simulator(Options::default()).await;
    // Accepts by its backlog, and never shakes hands.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let timeout = "timeout = { head = \"300ms\" }";
    let daemon = Setup::apart(&cisco, &url, "", timeout).start().await;

    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("1", 1)).await;

    let answer = caller.message().await;
    answer.is_ours(503, "no connection");
    assert_eq!(answer.error(), "connection_timeout");
    assert!(answer.text().contains("safe to send it again"), "{answer:?}");
}
