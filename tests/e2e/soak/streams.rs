//! Bodies of gigabytes, several at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use tokio::task::JoinSet;

use super::{MIB, Stand, mib};
use crate::harness::{Answer, PATIENCE};

const AT_ONCE: usize = 8;
const DOWN: u64 = 4 << 30;
const UP: u64 = 4 << 30;
/// How far the daemon's memory may go beyond what it has idle.
const MOST: u64 = 64 * MIB;
const PIECE: usize = 256 << 10;

#[tokio::test]
#[ignore = "moves 64 GiB, wants a release build; run by .ci/soak"]
async fn eight_downloads_of_4_gib_at_once_and_then_eight_uploads_take_no_more_than_64_mib() {
    let stand = Stand::start("").await;
    let to = stand.daemon.address();
    downloaded(to, 1);
    let idle = stand.memory("VmRSS");

    all_at_once("down", DOWN, move || downloaded(to, DOWN)).await;
    let down = stand.memory("VmHWM").saturating_sub(idle);
    println!("peak over the {} of the idle daemon: {}", mib(idle), mib(down));
    assert!(down <= MOST, "{down} bytes");

    all_at_once("up", UP, move || uploaded(to, UP)).await;
    let up = stand.memory("VmHWM").saturating_sub(idle);
    println!("the same with uploads: {}", mib(up));
    assert!(up <= MOST, "{up} bytes");
}

/// Does something on a thread for each of those that there are at once, and says how fast that was.
async fn all_at_once(which: &str, count: u64, doing: impl Fn() + Clone + Send + 'static) {
    let began = Instant::now();
    let mut threads = JoinSet::new();
    for _ in 0..AT_ONCE {
        threads.spawn_blocking(doing.clone());
    }
    threads.join_all().await;
    let time = began.elapsed();
    let all = u128::from(count) * AT_ONCE as u128;
    println!(
        "{AT_ONCE} times {} {which} in {} s: {} MiB/s",
        mib(count),
        time.as_secs(),
        all * 1000 / time.as_millis().max(1) / u128::from(MIB),
    );
}

/// Fetches so many bytes, and counts them.
fn downloaded(from: SocketAddr, count: u64) {
    let mut stream = connected(from);
    let request =
        format!("GET /simulator/bytes/{count} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut head, mut piece) = (Vec::new(), vec![0; PIECE]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the head ends");
        head.extend_from_slice(&piece[..read]);
    }
    let head_length = head.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let answer = Answer(String::from_utf8_lossy(&head[..head_length]).into_owned());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let mut come = (head.len() - head_length) as u64;
    loop {
        let read = stream.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        come += read as u64;
    }
    assert_eq!(come, count);
}

/// Sends so many bytes.
fn uploaded(to: SocketAddr, count: u64) {
    let mut stream = connected(to);
    let request = format!(
        "POST /simulator/sink HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {count}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let piece = vec![b'a'; PIECE];
    for _ in 0..count / PIECE as u64 {
        stream.write_all(&piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer = Answer(answer);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(
        answer.body().starts_with(&format!("{{\"bytes\":{count},")),
        "{answer:?}"
    );
}

fn connected(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}
