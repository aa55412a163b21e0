//! Callers and upstreams that stand still: each holds only itself, and not for ever.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bondgate::simulator::Options;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Daemon, PATIENCE, PULL, Setup, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::Caller;

/// A caller that asks for much and reads nothing; it has room for little.
async fn reads_nothing(address: SocketAddr, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Asserts that a connection ends with a reset, after whatever was on its way.
async fn is_reset(mut stream: TcpStream) {
    let mut nowhere = vec![0; 1 << 16];
    let ended = async {
        loop {
            match stream.read(&mut nowhere).await {
                Ok(0) => panic!("it ends as if it were whole"),
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let answer = daemon.ask("/metrics").await;
    let line = answer.body().lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {answer:?}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const MUCH: &str = "GET /simulator/bytes/1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn two_hundred_callers_that_read_nothing_hold_only_themselves_and_are_reset() {
    const SLOW: u64 = 200;
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::open(&cisco, "")
        .and("[limits]\nstall = \"10s\"\n")
        .environment("BONDGATE_LOG", "info")
        .start()
        .await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = reads_nothing(daemon.address(), MUCH).await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        slow.push(stream);
    }
    let in_flight = "bondgate_requests_in_flight{";
    assert!(metric(&daemon, in_flight).await > SLOW / 2);

    let mut caller = Caller::to(daemon.address()).await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        caller
            .say("GET /simulator/bytes/1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(caller.message().await.body.len(), 1000);
        times.push(began.elapsed());
    }
    times.sort();
    println!("an honest caller waits {:?}, {:?} at most", times[25], times[49]);
    assert!(times[25] < Duration::from_millis(200), "{times:?}");

    let reset = "caller read nothing of its response for limits.stall";
    daemon.logged_times(reset, usize::try_from(SLOW).unwrap()).await;
    assert_eq!(metric(&daemon, "bondgate_stalled_connections_total").await, SLOW);
    while metric(&daemon, in_flight).await > 0 {}
    for stream in slow {
        is_reset(stream).await;
    }
}

#[tokio::test]
async fn a_caller_that_reads_slowly_is_served_to_the_end() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "")
        .and("[limits]\nstall = \"500ms\"\n")
        .start()
        .await;
    let request = "GET /simulator/bytes/8000000 HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let mut stream = reads_nothing(daemon.address(), request).await;
    let (mut read, mut room) = (0, vec![0; 400_000]);
    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut taken = 0;
        while taken < room.len() {
            match stream.read(&mut room[taken..]).await.unwrap() {
                0 => break,
                count => taken += count,
            }
        }
        read += taken;
        if taken < room.len() {
            break;
        }
    }
    assert!(read > 8_000_000, "{read}");
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_rest_of_an_upload_behind_its_answer_is_not_waited_for_for_ever() {
    let cisco = simulator(Options::default()).await;
    let upstream = RawUpstream::bind().await;
    let mut daemon = Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, "")
        .and("[limits]\nstall = \"500ms\"\n")
        .start()
        .await;
    let (mut reader, mut writer) = Caller::to(daemon.address()).await.split();
    let uploading = tokio::spawn(async move {
        let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";
        writer.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'a'; 1 << 16];
        while writer.write_all(&piece).await.is_ok() {}
    });
    let mut line = upstream.accept().await;
    line.head().await;
    // Answers, keeps the connection, and reads no more.
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;

    let answer = reader.message().await;
    assert_eq!(
        (answer.status(), answer.field("connection")),
        (200, Some("close"))
    );
    daemon
        .logged("made no progress for limits.stall after its response")
        .await;
    let ended = tokio::time::timeout(PATIENCE, uploading).await;
    ended.expect("the caller's connection ends").unwrap();
    assert_eq!(metric(&daemon, "bondgate_stalled_connections_total").await, 1);
    let rest = tokio::time::timeout(PATIENCE, line.rest()).await;
    rest.expect("and so does the upstream's");
    assert_eq!(daemon.get(PULL).await.status(), 503, "the port is closed");
}
