//! Callers on kept connections, each of which asks again as soon as it has its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One caller's connection.
pub(crate) struct Caller {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What became of the requests.
#[derive(Default)]
pub(crate) struct Measured {
    /// How long each took, in microseconds, shortest first.
    latencies: Vec<u128>,
    seconds: f64,
}

impl Caller {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the daemon listens");
        stream.set_nodelay(true).expect("a connection can be set so");
        let buffer = vec![0; 16 * 1024];
        Self { stream, buffer }
    }

    /// Sends a request and reads the whole answer, which has to be a good one.
    pub(crate) async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the daemon reads");
        let mut filled = 0;
        let length = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await;
            filled += some(read);
            if let Some(length) = super::head_length(&self.buffer[..filled]) {
                break length;
            }
        };
        let head = std::str::from_utf8(&self.buffer[..length]).expect("the head is plain");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut missing = (length + super::content_length(head)).saturating_sub(filled);
        while missing > 0 {
            let read = self.stream.read(&mut self.buffer).await;
            missing = missing.saturating_sub(some(read));
        }
    }
}

/// Asks on one connection after the other until it is time to stop; gives them back, and how long each answer took.
async fn ask_until(mut callers: Vec<Caller>, request: Arc<[u8]>, end: Instant) -> (Vec<Caller>, Vec<u128>) {
    let mut latencies = Vec::with_capacity(1 << 17);
    let mut began = Instant::now();
    for turn in 0.. {
        if began >= end {
            break;
        }
        let turn = turn % callers.len();
        callers[turn].ask(&request).await;
        let answered = Instant::now();
        latencies.push((answered - began).as_micros());
        began = answered;
    }
    (callers, latencies)
}

fn some(read: std::io::Result<usize>) -> usize {
    let read = read.expect("the connection holds");
    assert!(read > 0, "the daemon keeps the connection");
    read
}

/// Has groups of callers ask for a while, one of each group at a time.
pub(crate) async fn ask_all(
    callers: Vec<Vec<Caller>>,
    request: &Arc<[u8]>,
    time: Duration,
) -> (Vec<Vec<Caller>>, Measured) {
    let began = Instant::now();
    let asking = callers
        .into_iter()
        .map(|group| ask_until(group, request.clone(), began + time));
    let asked = asking.collect::<JoinSet<_>>().join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    let (callers, latencies): (_, Vec<_>) = asked.into_iter().unzip();
    let mut latencies = latencies.concat();
    latencies.sort_unstable();
    (callers, Measured { latencies, seconds })
}

#[allow(clippy::cast_precision_loss)] // A double counts further than any load goes.
impl Measured {
    pub(crate) fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.requests() / self.seconds
    }

    /// The latency that so many percent of the requests had at most, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> u128 {
        let at = self.latencies.len() * percent / 100;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}
