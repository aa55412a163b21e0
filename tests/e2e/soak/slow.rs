//! Callers that take their time, by the thousand: nobody else waits for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::descriptors::Part;
use super::{Stand, called, each, mib};
use crate::harness::{Answer, PATIENCE};

/// Callers whose requests' heads come slowly.
const HEADS: usize = 5000;
/// Callers whose requests' bodies come slowly.
const BODIES: usize = 5000;
/// Callers that ask for much and read nothing.
const READERS: usize = 1000;
/// Requests of callers who take no time at all.
const FRESH: usize = 1000;
/// How long one of a hundred of those may have to wait.
const LONGEST: Duration = Duration::from_millis(50);

/// `limits.first_byte`, which is for the rest of the head too.
const HEAD: Duration = Duration::from_secs(10);
/// How much later a head may be cut than that.
const LATE: Duration = Duration::from_secs(2);

const BODY: &str = "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\
                    Expect: 100-continue\r\n\r\n";
const MUCH: &str = "GET /simulator/bytes/1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
#[ignore = "wants a release build and 28,000 descriptors; run by .ci/soak"]
async fn eleven_thousand_slow_callers_keep_nobody_waiting_and_slow_heads_are_cut_in_time() {
    let part = Part::with_connections(12_000);
    let places = part.of(12_000);
    let limits =
        format!("connections = {places}\nin_flight = {places}\nfirst_byte = \"10s\"\nstall = \"10m\"");
    let stand = Stand::start(&limits).await;
    let to = stand.daemon.address();
    let mut memory = vec![stand.memory("VmRSS")];

    let (heads, bodies, readers) = (part.of(HEADS), part.of(BODIES), part.of(READERS));
    let _readers = each(0..readers, |number| reads_nothing(to, number)).await;
    memory.push(stand.memory("VmRSS"));
    let rest = readers..readers + bodies;
    let bodies_streams: Vec<_> = each(rest.clone(), |number| with_a_body(to, number)).await;
    let mut dripping = JoinSet::new();
    dripping.spawn(drip(weak(&bodies_streams), b"x", Duration::from_secs(4)));
    assert_eq!(stand.in_flight().await, bodies + readers);
    memory.push(stand.memory("VmRSS"));

    let rest = rest.end..rest.end + heads;
    let begun = each(rest, |number| with_a_head(to, number)).await;
    let streams: Vec<_> = begun.iter().map(|(stream, _)| stream.clone()).collect();
    dripping.spawn(drip(
        weak(&streams),
        b"ET /simulator/echo",
        Duration::from_secs(2),
    ));
    drop(streams);
    let mut cuts = JoinSet::new();
    for (stream, began) in begun {
        cuts.spawn(cut(stream, began));
    }
    stand.has_connections(heads + bodies + readers).await;
    memory.push(stand.memory("VmRSS"));

    let times = tokio::task::spawn_blocking(move || {
        let mut times: Vec<_> = (0..FRESH).map(|_| fresh(to)).collect();
        times.sort();
        times
    });
    let times = times.await.unwrap();
    assert!(
        cuts.try_join_next().is_none(),
        "the fresh callers took so long that they were not beside all the slow ones"
    );
    let (half, late) = (times[FRESH / 2], times[FRESH * 99 / 100]);
    println!(
        "beside {heads} slow heads, {bodies} slow bodies and {readers} that read nothing, {FRESH} fresh callers wait \
         {half:?}, {late:?} (p99), {:?} at most",
        times[FRESH - 1],
    );
    println!(
        "memory before them {}, with those that read nothing {}, with the slow bodies {}, with the slow heads {}",
        mib(memory[0]),
        mib(memory[1]),
        mib(memory[2]),
        mib(memory[3]),
    );

    let cuts = tokio::time::timeout(PATIENCE, cuts.join_all()).await;
    let mut cuts = cuts.expect("every slow head is cut");
    cuts.sort_by_key(|(time, _)| *time);
    let (first, last) = (cuts[0].0, cuts[heads - 1].0);
    println!("{heads} slow heads are cut after {first:?} to {last:?}");
    for (time, answer) in &cuts {
        assert_eq!(answer.status(), 408, "after {time:?}: {answer:?}");
    }
    assert_eq!(stand.in_flight().await, bodies + readers, "and nobody else is");
    assert!(first >= HEAD && last <= HEAD + LATE, "{first:?} to {last:?}");
    assert!(late < LONGEST, "{late:?}");
}

/// A caller that asks for much, has room for little and reads no more than the first words.
async fn reads_nothing(to: SocketAddr, number: usize) -> TcpStream {
    let mut stream = called(to, number, Some(4096)).await;
    stream.write_all(MUCH.as_bytes()).await.unwrap();
    says(&mut stream, "HTTP/1.1 200").await;
    stream
}

/// A caller whose request is on its way upstream, and has a body that is still to come.
async fn with_a_body(to: SocketAddr, number: usize) -> Arc<TcpStream> {
    let mut stream = called(to, number, None).await;
    stream.write_all(BODY.as_bytes()).await.unwrap();
    // It is asked for when there is a connection to the upstream.
    says(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    Arc::new(stream)
}

/// A caller whose request's head has begun, and when.
async fn with_a_head(to: SocketAddr, number: usize) -> (Arc<TcpStream>, Instant) {
    let mut stream = called(to, number, None).await;
    let began = Instant::now();
    stream.write_all(b"G").await.unwrap();
    (Arc::new(stream), began)
}

async fn says(stream: &mut TcpStream, words: &str) {
    let mut said = vec![0; words.len()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut said)).await;
    read.expect("an answer begins").unwrap();
    assert_eq!(String::from_utf8_lossy(&said), words);
}

fn weak(streams: &[Arc<TcpStream>]) -> Vec<Weak<TcpStream>> {
    streams.iter().map(Arc::downgrade).collect()
}

/// Sends each of these its next byte once in so long, a few of them at a time; those who have left are left out.
async fn drip(streams: Vec<Weak<TcpStream>>, bytes: &[u8], each: Duration) {
    const TIMES: usize = 200;
    let mut next = tokio::time::interval(each / u32::try_from(TIMES).unwrap());
    for byte in bytes.iter().cycle() {
        let mut parts = streams.chunks(streams.len().div_ceil(TIMES));
        for _ in 0..TIMES {
            next.tick().await;
            for stream in parts.next().unwrap_or_default().iter().filter_map(Weak::upgrade) {
                // Whether it is still heard is seen by who reads.
                let _ = stream.try_write(std::slice::from_ref(byte));
            }
        }
    }
}

/// How long after its start a head is cut, and with what.
async fn cut(stream: Arc<TcpStream>, began: Instant) -> (Duration, Answer) {
    let (mut answer, mut time) = (Vec::new(), None);
    loop {
        stream.readable().await.unwrap();
        let mut room = [0; 1024];
        match stream.try_read(&mut room) {
            Ok(0) => break,
            Ok(count) => {
                time.get_or_insert_with(|| began.elapsed());
                answer.extend_from_slice(&room[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!(
                "a head is cut with no answer but {error} after {:?}",
                began.elapsed()
            ),
        }
    }
    let answer = Answer(String::from_utf8(answer).unwrap());
    (time.unwrap_or_else(|| began.elapsed()), answer)
}

/// How long a request on a connection of its own takes, from the first packet to the last. On a thread of its own,
/// so that what the test does beside it is not measured.
fn fresh(to: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut stream = BlockingStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /simulator/bytes/100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let time = began.elapsed();
    let answer = Answer(String::from_utf8_lossy(&answer).into_owned());
    assert!(answer.status() == 200 && answer.body().len() == 100, "{answer:?}");
    time
}
