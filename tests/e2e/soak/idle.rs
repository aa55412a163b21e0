//! Connections that idle between two requests.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::descriptors::Part;
use super::{MIB, Stand, called, each, mib, settled};
use crate::harness::read_one;

const CALLERS: usize = 10_000;
/// Some more, since nobody gets the last ones who has some.
const PLACES: usize = 10_500;
/// What all of them may take.
const MOST: usize = 50 << 20;
/// What one of them takes at best.
const BEST: usize = 4096;
/// What may be left of it when they have gone.
const SLACK: u64 = 8 * MIB;

/// How often they come and go.
const TIMES: usize = 3;

#[tokio::test]
#[ignore = "wants a release build and 24,000 descriptors; run by .ci/soak"]
async fn ten_thousand_idle_connections_take_no_more_than_50_mib_and_give_it_back() {
    let part = Part::with_connections(PLACES);
    let callers = part.of(CALLERS);
    let limits = format!("connections = {}\nkeep_alive = \"10m\"", part.of(PLACES));
    let stand = Stand::start(&limits).await;
    let to = stand.daemon.address();
    // What the first requests need, such as connections upstream, is none of the idle ones' need.
    drop(each(0..100, move |number| answered(to, number)).await);
    stand.has_connections(0).await;
    let before = stand.memory("VmRSS");
    let more = || stand.memory("VmRSS").saturating_sub(before);
    println!("before them: {}", mib(before));

    let mut taken = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        let streams = each(0..callers, move |number| answered(to, number)).await;
        let came_in = began.elapsed();
        // They are parked when they have idled for a second.
        let idle = settled(async || more(), |more| *more <= (callers * BEST) as u64).await;
        stand.has_connections(callers).await;
        println!(
            "{callers} idle connections, within {} s: {} more, {} bytes for each",
            came_in.as_secs(),
            mib(idle),
            idle / callers as u64,
        );
        taken.push(idle);
        drop(streams);
        stand.has_connections(0).await;
    }
    let left = settled(async || more(), |more| *more <= SLACK).await;
    println!("when they have left: {} more than before them", mib(left));

    let most = part.of(MOST) as u64;
    assert!(taken.iter().all(|taken| *taken <= most), "{taken:?}");
    assert!(left <= SLACK, "{left}");
}

/// A connection on which one request was answered.
async fn answered(to: SocketAddr, number: usize) -> TcpStream {
    let mut stream = called(to, number, None).await;
    let request = "GET /simulator/bytes/100 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut stream).await.status(), 200);
    stream
}
