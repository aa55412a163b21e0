//! The daemon is replaced under load while its socket stays open, as systemd keeps it: callers notice nothing.

mod load;

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Instant;

use bondgate::simulator::{Handle, Options};
use tempfile::TempDir;

use self::load::{Fates, LAME_DUCK, Load};
use crate::harness::{Daemon, PULL, Setup, simulator};
use crate::listeners::activated;
use crate::wire::Caller;

/// What stays while daemons come and go: the socket, Cisco, and the spool's directory.
struct Stand {
    cisco: Handle,
    socket: TcpListener,
    directory: TempDir,
    /// How often each request reached Cisco, by its number.
    executed: HashMap<String, usize>,
    /// Cisco's record up to here was counted.
    counted: u64,
}

impl Stand {
    async fn new() -> Self {
        Self {
            cisco: simulator(Options::default()).await,
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
            directory: tempfile::tempdir().unwrap(),
            executed: HashMap::new(),
            counted: 0,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    /// A daemon at the socket, which others may serve too.
    async fn start(&self) -> Daemon {
        let lame_duck = format!("{}ms", LAME_DUCK.as_millis());
        let setup = Setup::open(&self.cisco, "")
            .relisten("systemd:http")
            .and(&format!("[spool]\ndirectory = {:?}\n", self.spool()))
            .environment("BONDGATE__SERVER__LAME_DUCK", &lame_duck)
            .environment("BONDGATE_LOG", "info,bondgate::proxy::access_log=warn");
        let mut daemon = activated(setup, self.socket.try_clone().unwrap(), "http");
        daemon.logged("token acquired").await;
        daemon
    }

    /// Counts what has reached Cisco since the last time: its record does not hold everything.
    fn count(&mut self) {
        for seen in self.cisco.seen() {
            if seen.sequence > self.counted {
                self.counted = seen.sequence;
                if let Some((_, id)) = seen.target.split_once("?id=") {
                    *self.executed.entry(id.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// A daemon's end, asked for.
    async fn stop(&self, mut daemon: Daemon) {
        daemon.signal("TERM");
        assert_eq!(daemon.ended().await.code(), Some(0), "it has drained");
        let log = daemon.log();
        let lost: Vec<_> = log.iter().filter(|line| line.contains("may be lost")).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }

    /// What is still held or at Cisco.
    async fn pull_the_rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            let mut caller = Caller::to(self.address()).await;
            let request = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            caller.say(request).await;
            let answer = caller.message().await;
            assert_eq!(answer.status(), 200, "{answer:?}");
            if answer.text().contains("No messages") {
                return rest;
            }
            rest.push(answer.text().to_owned());
        }
    }
}

/// How a daemon is replaced by the next.
#[derive(Clone, Copy)]
enum Change {
    /// The next is there before the last one goes.
    HandOver,
    /// The last one has ended before the next begins; callers wait at the socket.
    Restart,
}

/// Replaces the daemon so many times while so many requests are sent.
async fn assert_nothing_is_lost(change: Change, times: usize, requests: usize) {
    let mut stand = Stand::new().await;
    let messages: HashSet<_> = (0..times * 100)
        .map(|number| format!("{{\"Calls\":{{\"CustCallID\":\"{number:07}\"}}}}"))
        .collect();
    for message in &messages {
        stand.cisco.put_raw_message("demo", message.clone());
    }
    let mut daemon = stand.start().await;
    let began = Instant::now();
    let load = Load::start(stand.address(), 48, 4);
    for time in 1..=times {
        load.reached(requests * time / (times + 1)).await;
        stand.count();
        match change {
            Change::HandOver => {
                let next = stand.start().await;
                stand.stop(std::mem::replace(&mut daemon, next)).await;
            }
            Change::Restart => {
                stand.stop(daemon).await;
                daemon = stand.start().await;
            }
        }
    }
    load.reached(requests).await;
    let fates = load.end().await;
    let took = began.elapsed();
    stand.count();
    let rest = stand.pull_the_rest().await;
    stand.stop(daemon).await;

    let Fates {
        answered,
        lost,
        messages: pulled,
        put_off,
    } = fates;
    println!(
        "{} requests answered and {} messages pulled across {times} daemons' ends in {took:.1?}; {} lost; {put_off} pulls put off",
        answered.len(),
        pulled.len(),
        lost.len(),
    );
    assert_eq!(lost, Vec::<String>::new());
    for id in &answered {
        assert_eq!(stand.executed.get(id), Some(&1), "{id}");
    }
    assert_eq!(stand.executed.len(), answered.len());
    assert!(answered.len() >= requests);
    let got: HashSet<_> = pulled.iter().chain(&rest).cloned().collect();
    assert_eq!(got, messages, "every message was delivered");
    assert_eq!(pulled.len() + rest.len(), messages.len(), "and none twice");
}

#[tokio::test]
async fn a_hand_over_under_load_loses_nothing() {
    let _turn = crate::harness::heavy_or_hasty().await;
    assert_nothing_is_lost(Change::HandOver, 3, 4_000).await;
}

#[tokio::test]
async fn a_restart_under_load_loses_nothing_while_the_socket_stays() {
    let _turn = crate::harness::heavy_or_hasty().await;
    assert_nothing_is_lost(Change::Restart, 2, 3_000).await;
}

#[tokio::test]
#[ignore = "takes two minutes; run by .ci/run"]
async fn ten_hand_overs_under_100_000_requests_lose_nothing() {
    assert_nothing_is_lost(Change::HandOver, 10, 100_000).await;
}
