//! How the daemon stops: in order, whole, and within its time.

use std::time::{Duration, Instant};

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{
    Answer, Daemon, PATIENCE, PULL, PUSH, Setup, read_one, seen_when, simulator, stop_signal,
};

async fn daemon_with(environment: &[(&str, &str)]) -> (Handle, Daemon) {
    let cisco = simulator(Options::default()).await;
    let mut setup = Setup::at(&cisco);
    for (name, value) in environment {
        setup = setup.environment(name, value);
    }
    (cisco, setup.start().await)
}

/// Sends a request, and resolves to its answer's task when the simulator has it.
async fn in_flight(cisco: &Handle, daemon: &Daemon, path: &str) -> tokio::task::JoinHandle<Answer> {
    let method = if path == PUSH { "POST" } else { "GET" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = tokio::spawn(async move { read_one(&mut stream).await });
    seen_when(cisco, |seen| {
        seen.iter().any(|request| request.endpoint != Endpoint::Token)
    })
    .await;
    answer
}

fn assert_whole(answer: &Answer) {
    let length = answer
        .field("content-length")
        .map(|length| length.parse().unwrap());
    assert_eq!(length, Some(answer.body().len()), "{answer:?}");
}

/// Waits until the address is no longer listened on.
pub(crate) async fn refused(daemon: &Daemon) {
    let refused = async {
        while TcpStream::connect(daemon.address()).await.is_ok() {
            // The daemon first accepts the connections that wait, and under Wine these would come faster than it accepts.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    refused.expect("new connections are refused");
}

#[tokio::test]
async fn a_request_in_flight_is_finished_while_new_ones_are_refused() {
    let (cisco, mut daemon) = daemon_with(&[]).await;
    let mut idle = TcpStream::connect(daemon.address()).await.unwrap();
    idle.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_one(&mut idle).await.status(), 403, "it stays open");
    cisco.script(Fault::on(On::Push, Kind::Slow { ms: 1500 }));
    let answer = in_flight(&cisco, &daemon, PUSH).await;

    daemon.signal("TERM");

    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty(), "an idle connection is closed");
    refused(&daemon).await;
    assert!(!answer.is_finished(), "it is still under way");
    let answer = answer.await.unwrap();
    assert!(matches!(answer.status(), 200 | 400), "{answer:?}");
    assert_eq!(
        answer.field("proxy-status"),
        None,
        "it is the upstream's: {answer:?}"
    );
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigint_drains_as_sigterm_does() {
    let (_cisco, mut daemon) = daemon_with(&[]).await;
    daemon.signal("INT");
    daemon.logged("drained, nothing was cut short").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn at_the_deadline_a_caller_gets_a_whole_answer_and_the_exit_code_is_1() {
    for path in [PULL, PUSH] {
        let (cisco, mut daemon) = daemon_with(&[("BONDGATE__SERVER__DRAIN", "500ms")]).await;
        cisco.script(Fault::on(On::Any, Kind::Hang).forever());
        let answer = in_flight(&cisco, &daemon, path).await;

        daemon.signal("TERM");

        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 504, "it may have been executed: {answer:?}");
        assert_whole(&answer);
        assert!(answer.field("proxy-status").is_some(), "{answer:?}");
        assert_eq!(daemon.ended().await.code(), Some(1));
    }
}

fn terminate(id: u32, times: usize) {
    let kill = format!("kill -{} {id};", stop_signal()).repeat(times);
    // The last one may come when the daemon has ended.
    let _ = std::process::Command::new("sh")
        .args(["-c", &kill])
        .stderr(std::process::Stdio::null())
        .status();
}

/// Signals again and again, until it is enough.
fn insist(id: u32) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            terminate(id, 1);
        }
    })
}

#[tokio::test]
async fn signals_that_come_together_are_one() {
    let (cisco, mut daemon) = daemon_with(&[]).await;
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 500 }));
    let answer = in_flight(&cisco, &daemon, PULL).await;
    // As timeout(1) does: to the process, and then to its group.
    terminate(daemon.id(), 2);
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let (cisco, mut daemon) = daemon_with(&[("BONDGATE__SERVER__DRAIN", "10m")]).await;
    cisco.script(Fault::on(On::Push, Kind::Hang));
    let answer = in_flight(&cisco, &daemon, PUSH).await;
    daemon.signal("TERM");
    daemon.logged("a second signal stops at once").await;
    let began = Instant::now();
    let insist = insist(daemon.id());

    assert_eq!(daemon.ended().await.code(), Some(1));
    insist.abort();
    assert!(began.elapsed() < PATIENCE);
    assert_whole(&answer.await.unwrap());
}

#[tokio::test]
async fn in_the_lame_duck_moment_callers_are_served_and_told_to_go() {
    let (_cisco, mut daemon) = daemon_with(&[
        ("BONDGATE__SERVER__DRAIN", "10m"),
        ("BONDGATE__SERVER__LAME_DUCK", "5m"),
    ])
    .await;
    let mut old = TcpStream::connect(daemon.address()).await.unwrap();
    let request = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    old.write_all(request.as_bytes()).await.unwrap();
    let before = read_one(&mut old).await;
    assert_eq!((before.status(), before.field("connection")), (200, None));

    daemon.signal("TERM");
    daemon.logged("stopping").await;

    let ready = daemon.ask("/readyz").await;
    assert_eq!(ready.status(), 503);
    assert!(ready.body().contains("stopping"), "{ready:?}");
    assert_eq!(daemon.ask("/livez").await.status(), 200);
    let status = daemon.status().await;
    assert_eq!(status["phase"], "stopping");
    let time = |key: &str| humantime::parse_rfc3339(status["stop"][key].as_str().unwrap()).unwrap();
    let lasts = time("until").duration_since(time("since")).unwrap();
    assert_eq!(lasts, Duration::from_secs(600), "server.drain");
    let page = daemon.ask("/").await;
    let until = status["stop"]["until"].as_str().unwrap();
    let until = format!(", until <time datetime=\"{until}\"");
    assert!(page.body().contains(&until), "{page:?}");
    old.write_all(request.as_bytes()).await.unwrap();
    let kept = read_one(&mut old).await;
    let new = daemon.send(&request).await;
    let own = daemon
        .send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    for (answer, status) in [(kept, 200), (new, 200), (own, 403)] {
        assert_eq!(
            (answer.status(), answer.field("connection")),
            (status, Some("close")),
            "{answer:?}"
        );
    }

    let insist = insist(daemon.id());
    assert_eq!(
        daemon.ended().await.code(),
        Some(1),
        "a second signal does not wait"
    );
    insist.abort();
}
