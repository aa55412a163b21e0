//! Bodies of any size pass, whole and without growing the daemon.

use std::future::Future;

use bondgate::simulator::{Options, pattern, pattern_sha256};
use sha2::{Digest, Sha256};

use crate::harness::{Daemon, Setup, relayed, simulator};
use crate::wire::Caller;

const MIB: u64 = 1 << 20;

/// How much is written or read in one piece.
const PIECE: u64 = 251 * 1024;

/// Sends a body of the pattern and reads the response.
async fn uploaded(daemon: &Daemon, count: u64, is_chunked: bool) -> String {
    let framing = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {count}")
    };
    let piece: Vec<u8> = pattern(PIECE).collect();
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!(
            "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
        ))
        .await;
    let mut left = count;
    while left > 0 {
        let now = left.min(PIECE);
        let data = &piece[..usize::try_from(now).unwrap()];
        if is_chunked {
            caller.say(format!("{now:x}\r\n")).await;
            caller.say(data).await;
            caller.say("\r\n").await;
        } else {
            caller.say(data).await;
        }
        left -= now;
    }
    if is_chunked {
        caller.say("0\r\n\r\n").await;
    }
    let response = caller.message().await;
    assert_eq!(response.status(), 200);
    response.text().to_owned()
}

/// Fetches so many bytes and hashes them.
async fn downloaded(daemon: &Daemon, count: u64) -> String {
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!(
            "GET /simulator/bytes/{count} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
    let head = caller.head().await;
    assert_eq!(head.field("content-length"), Some(count.to_string().as_str()));
    let mut hash = Sha256::new();
    let mut left = count;
    while left > 0 {
        let now = left.min(PIECE);
        hash.update(caller.take(usize::try_from(now).unwrap()).await);
        left -= now;
    }
    format!("{:x}", hash.finalize())
}

async fn passes_both_ways(daemon: &Daemon, count: u64) {
    let sha256 = pattern_sha256(count);
    let expected = format!("{{\"bytes\":{count},\"sha256\":\"{sha256}\"}}");
    assert_eq!(uploaded(daemon, count, false).await, expected);
    assert_eq!(uploaded(daemon, count, true).await, expected);
    assert_eq!(downloaded(daemon, count).await, sha256);
}

/// A value in KiB of the daemon's `/proc/PID/status`, in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test]
async fn some_megabytes_pass_both_ways_unchanged() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;

    passes_both_ways(&daemon, 4 * MIB + 1).await;

    assert!(relayed(&cisco).iter().all(|seen| seen.body_complete));
}

/// How far the daemon's memory goes beyond what it has idle, while something is done.
async fn growth(daemon: &Daemon, doing: impl Future<Output = ()>) -> u64 {
    let idle = memory(daemon, "VmRSS");
    // Makes the peak begin anew (proc(5)).
    std::fs::write(format!("/proc/{}/clear_refs", daemon.id()), "5").unwrap();
    doing.await;
    memory(daemon, "VmHWM").saturating_sub(idle)
}

#[tokio::test]
#[ignore = "moves 600 MB, which takes a minute; run by .ci/run"]
async fn two_hundred_megabytes_pass_both_ways_and_the_daemon_does_not_grow() {
    const COUNT: u64 = 200 * MIB;
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    passes_both_ways(&daemon, MIB).await;
    let sha256 = pattern_sha256(COUNT);
    let expected = format!("{{\"bytes\":{COUNT},\"sha256\":\"{sha256}\"}}");

    let grown = growth(&daemon, async {
        assert_eq!(uploaded(&daemon, COUNT, false).await, expected);
        assert_eq!(downloaded(&daemon, COUNT).await, sha256);
    });
    let grown = grown.await;
    assert!(grown < 16 * MIB, "{grown} bytes more than idle");

    // Of a body that does not say how long it is, what a replay would need is kept meanwhile: 16 MiB.
    let grown_chunked = growth(&daemon, async {
        assert_eq!(uploaded(&daemon, COUNT, true).await, expected);
    });
    let grown_chunked = grown_chunked.await;
    assert!(
        grown_chunked < (16 + 16) * MIB,
        "{grown_chunked} bytes more than idle"
    );
    println!("peak over idle: {grown} bytes, chunked {grown_chunked}");
}
