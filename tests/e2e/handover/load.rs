//! Callers of every honest kind, who never send anything a second time: what they get no whole answer to is
//! lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::PULL;
use crate::wire::{Caller, Message};

/// How a caller uses its connections, and how it puts a request on the wire.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Keeps its connection until a response closes it, and sends requests without a pause.
    Kept,
    /// The same, with pauses.
    Pausing,
    /// The same, with each request in two pieces.
    InPieces,
    /// Opens a connection for each request, with `Connection: close`.
    OneShot,
    /// The same, but comes some time before it speaks.
    Early,
    /// Opens a connection for each request, and closes it without announcing that.
    Leaving,
}

const MANNERS: [Manner; 8] = [
    Manner::Kept,
    Manner::OneShot,
    Manner::Pausing,
    Manner::Kept,
    Manner::Leaving,
    Manner::InPieces,
    Manner::OneShot,
    Manner::Early,
];

/// Longer than any pause on a kept connection.
pub(super) const LAME_DUCK: Duration = Duration::from_millis(500);
const PAUSE: u64 = 200;

/// What became of one caller's requests.
#[derive(Default, Debug)]
pub(super) struct Fates {
    /// The numbers of those that were answered with 200.
    pub(super) answered: Vec<String>,
    /// What was answered with something else, or not at all.
    pub(super) lost: Vec<String>,
    /// The messages that were pulled.
    pub(super) messages: Vec<String>,
    /// How many pulls were answered with 503: nothing was asked of Cisco.
    pub(super) put_off: usize,
}

#[derive(Default)]
struct State {
    answered: AtomicUsize,
    progress: Notify,
    is_over: AtomicBool,
}

/// The load of many callers.
pub(super) struct Load {
    state: Arc<State>,
    callers: JoinSet<Fates>,
}

impl Load {
    /// So many callers who send GET and POST, and some who pull.
    pub(super) fn start(address: SocketAddr, callers: usize, pullers: usize) -> Self {
        let state = Arc::new(State::default());
        let mut running = JoinSet::new();
        for (number, manner) in MANNERS.into_iter().cycle().take(callers).enumerate() {
            let asking = Asking::new(&state, address, number, manner);
            running.spawn(asking.relay());
        }
        for (number, manner) in [Manner::Kept, Manner::OneShot]
            .into_iter()
            .cycle()
            .take(pullers)
            .enumerate()
        {
            let asking = Asking::new(&state, address, callers + number, manner);
            running.spawn(asking.pull());
        }
        Self {
            state,
            callers: running,
        }
    }

    /// How many requests have been answered.
    pub(super) fn answered(&self) -> usize {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// Waits for so many answers in all.
    pub(super) async fn reached(&self, count: usize) {
        let mut seen = self.answered();
        while seen < count {
            let progress = self.state.progress.notified();
            let patience = crate::harness::PATIENCE;
            let going = tokio::time::timeout(patience, progress).await;
            assert!(going.is_ok() || self.answered() > seen, "the load goes on");
            seen = self.answered();
        }
    }

    /// Ends the load: each caller still gets the answer that it waits for.
    pub(super) async fn end(self) -> Fates {
        self.state.is_over.store(true, Ordering::Relaxed);
        let mut all = Fates::default();
        for fates in self.callers.join_all().await {
            all.answered.extend(fates.answered);
            all.lost.extend(fates.lost);
            all.messages.extend(fates.messages);
            all.put_off += fates.put_off;
        }
        all
    }
}

/// One caller at work.
struct Asking {
    state: Arc<State>,
    address: SocketAddr,
    number: usize,
    manner: Manner,
    random: Rng,
    line: Option<Caller>,
    fates: Fates,
}

impl Asking {
    fn new(state: &Arc<State>, address: SocketAddr, number: usize, manner: Manner) -> Self {
        Self {
            state: state.clone(),
            address,
            number,
            manner,
            random: Rng::with_seed(number as u64),
            line: None,
            fates: Fates::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.state.is_over.load(Ordering::Relaxed)
    }

    /// GET and POST in turns, each with a number of its own.
    async fn relay(mut self) -> Fates {
        let mut count = 0;
        while !self.is_over() {
            let id = format!("{}-{count}", self.number);
            let (method, body) = if count % 2 == 0 {
                ("GET", "")
            } else {
                ("POST", "hello")
            };
            let target = format!("/simulator/echo?id={id}");
            let answer = self.ask(method, &target, body).await;
            let got = answer.map(|answer| (answer.status(), answer.text().contains(&format!("?id={id}\""))));
            match got {
                Ok((200, true)) => self.fates.answered.push(id),
                got => self
                    .fates
                    .lost
                    .push(format!("{:?} {method} {id}: {got:?}", self.manner)),
            }
            self.state.answered.fetch_add(1, Ordering::Relaxed);
            self.state.progress.notify_waiters();
            count += 1;
        }
        self.fates
    }

    async fn pull(mut self) -> Fates {
        while !self.is_over() {
            match self.ask("GET", PULL, "").await {
                Ok(answer) if answer.status() == 200 => {
                    if !answer.text().contains("No messages") {
                        self.fates.messages.push(answer.text().to_owned());
                    }
                }
                Ok(answer) if answer.status() == 503 => self.fates.put_off += 1,
                got => self.fates.lost.push(format!("{:?} pull: {got:?}", self.manner)),
            }
            self.pause(PAUSE / 4).await;
        }
        self.fates
    }

    /// A whole answer, or why there was none. The request is sent once.
    async fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<Message, String> {
        let is_kept = matches!(self.manner, Manner::Kept | Manner::Pausing | Manner::InPieces);
        if matches!(self.manner, Manner::Pausing) {
            self.pause(PAUSE).await;
        }
        let is_first = self.line.is_none();
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.call().await?,
        };
        if matches!(self.manner, Manner::Early) {
            self.pause(PAUSE / 4).await;
        }
        let close = if matches!(self.manner, Manner::OneShot | Manner::Early) {
            "Connection: close\r\n"
        } else {
            ""
        };
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: {length}\r\n\r\n{body}"
        );
        let cut = match self.manner {
            Manner::InPieces => self.random.usize(1..request.len()),
            _ => 0,
        };
        let (first, second) = request.split_at(cut);
        let lost = |what: &str| format!("{what} (the connection's first request: {is_first})");
        line.try_say(first)
            .await
            .map_err(|error| lost(&error.to_string()))?;
        if cut > 0 {
            self.pause(PAUSE / 4).await;
        }
        let answer = line.try_asked(second).await.ok_or_else(|| lost("no answer"))?;
        if is_kept && answer.field("connection") != Some("close") {
            self.line = Some(line);
        }
        Ok(answer)
    }

    async fn call(&self) -> Result<Caller, String> {
        let stream = tokio::net::TcpStream::connect(self.address).await;
        stream
            .map(Caller::over)
            .map_err(|error| format!("no connection: {error}"))
    }

    async fn pause(&mut self, most: u64) {
        let pause = Duration::from_millis(self.random.u64(0..most));
        tokio::time::sleep(pause).await;
    }
}
