//! The daemon under load, end to end: callers' sockets, the program as a process of its own, TLS to an upstream
//! in this process. `cargo bench --bench relay [-- ROW]`; nothing leaves the machine.
//!
//! All three share the machine's processors, so requests a second say as much of the machine as of the daemon.
//! Processor time and allocations a request are the daemon's alone. What it allocates is counted in a second
//! run with the daemon in this process. The program is the one that Cargo has just built, or that
//! `BONDGATE_BENCH_PROGRAM` names: another version, say.

mod allocations;
mod daemon;
mod load;
mod upstream;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use self::allocations::Counting;
use self::daemon::{Inside, Process};
use self::load::Caller;
use self::upstream::Upstream;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Row {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    body: usize,
    /// Requests at a time.
    at_once: usize,
    /// Connections that they go by in turn.
    connections: usize,
    /// Upstreams, each with a listener of its own, that they are spread over.
    upstreams: usize,
}

/// Small answers for many callers, of which the other rows are variations.
const GET: Row = Row {
    name: "get-1k-64",
    method: "GET",
    path: "/1k",
    body: 0,
    at_once: 64,
    connections: 64,
    upstreams: 1,
};

const ROWS: [Row; 9] = [
    Row {
        name: "get-1k-1",
        at_once: 1,
        connections: 1,
        ..GET
    },
    GET,
    Row {
        name: "get-1m-8",
        path: "/1m",
        at_once: 8,
        connections: 8,
        ..GET
    },
    Row {
        name: "post-16k-32",
        method: "POST",
        body: 16 * 1024,
        at_once: 32,
        connections: 32,
        ..GET
    },
    Row {
        name: "get-1k-64-of-512",
        connections: 512,
        ..GET
    },
    Row {
        name: "get-1k-64-of-5000",
        connections: 5000,
        ..GET
    },
    Row {
        name: "get-1k-512",
        at_once: 512,
        connections: 512,
        ..GET
    },
    Row {
        name: "get-1k-64-to-10",
        upstreams: 10,
        ..GET
    },
    Row {
        name: "get-1k-64-to-50",
        upstreams: 50,
        ..GET
    },
];

const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);

/// Requests whose allocations are counted, after some that fill what is kept.
const COUNTED: u32 = 2000;
const BEFORE: u32 = 300;

fn main() {
    // Cargo says --bench, whatever else is said.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| name.contains(wanted.as_str()))
    };
    let upstream = Upstream::start();
    let runtime = runtime();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| is_wanted(row.name)).collect();
    if !rows.is_empty() {
        println!(
            "{:<18} {:>11} {:>10} {:>8} {:>8} {:>14}",
            "row", "connections", "requests/s", "p50 µs", "p99 µs", "CPU µs/request"
        );
    }
    for row in rows {
        runtime.block_on(measure(row, &upstream));
    }
    if is_wanted("allocations") {
        runtime.block_on(count(&upstream));
    }
}

async fn measure(row: &Row, upstream: &Upstream) {
    let daemon = Process::start(upstream, row.upstreams);
    let request = request(row);
    let mut callers: Vec<Vec<Caller>> = Vec::new();
    callers.resize_with(row.at_once, Vec::new);
    for number in 0..row.connections {
        let to = daemon.addresses[number % row.upstreams];
        callers[number % row.at_once].push(Caller::connect(to).await);
    }
    let (callers, _) = load::ask_all(callers, &request, WARM_UP).await;
    let before = daemon.cpu();
    let (_callers, measured) = load::ask_all(callers, &request, TIME).await;
    let cpu = daemon.cpu() - before;
    println!(
        "{:<18} {:>11} {:>10.0} {:>8} {:>8} {:>14.1}",
        row.name,
        row.connections,
        measured.rate(),
        measured.percentile(50),
        measured.percentile(99),
        cpu / measured.requests()
    );
}

async fn count(upstream: &Upstream) {
    let daemon = Inside::start(upstream);
    let request = request(&ROWS[0]);
    let mut caller = Caller::connect(daemon.address).await;
    for _ in 0..BEFORE {
        caller.ask(&request).await;
    }
    allocations::begin();
    for _ in 0..COUNTED {
        caller.ask(&request).await;
    }
    let allocated = allocations::end();
    #[allow(clippy::cast_precision_loss)] // A double counts further than this.
    let a_request = |count: u64| count as f64 / f64::from(COUNTED);
    println!(
        "\nallocations of a worker for a keep-alive GET of 1 KiB: {:.2}, of {:.0} bytes in all",
        a_request(allocated.times),
        a_request(allocated.bytes)
    );
}

fn request(row: &Row) -> Arc<[u8]> {
    let mut request = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", row.method, row.path);
    if row.body > 0 {
        let _ = write!(request, "Content-Length: {}\r\n", row.body);
    }
    request += "\r\n";
    let mut request = request.into_bytes();
    request.resize(request.len() + row.body, b'x');
    request.into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// Where a head that begins here ends, if it does.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths
        .next()
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}
