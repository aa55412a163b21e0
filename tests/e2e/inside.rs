//! The daemon within the test's own process, on a token clock that runs faster: what takes a token an
//! hour is over in seconds, on the same sockets.

use std::net::SocketAddr;
use std::time::Duration;

use bondgate::config::Config;
use bondgate::daemon::{Daemon, Outcome, Signal};
use bondgate::simulator::{Handle, Options};
use bondgate::token::Clock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::harness::{Answer, PATIENCE, Setup, send, simulator};

/// A daemon on threads of its own; stopped when dropped.
pub(crate) struct Inside {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What its tokens live by.
    pub(crate) clock: Clock,
    /// Files of this test, for as long as the daemon reads them.
    _directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Outcome>>,
}

/// A simulator whose clock runs so many times as fast, with tokens that are good for `lifetime` of it.
pub(crate) async fn fast_simulator(speed: u32, lifetime: Duration) -> Handle {
    simulator(Options {
        token_lifetime: lifetime,
        clock_speed: speed,
        ..Options::default()
    })
    .await
}

impl Inside {
    /// Starts a daemon whose token clock runs so many times as fast as the machine's.
    pub(crate) fn start(setup: Setup, speed: u32) -> Self {
        let environment = setup.environment.clone().into_iter();
        let environment = environment.map(|(name, value)| (name, value.into()));
        let directory = setup.into_file();
        let path = directory.path().join("bondgate.toml");
        let config = Config::load(Some(&path), environment).unwrap();
        let clock = Clock::faster(speed);
        let (told, places) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let own = clock.clone();
        let thread = std::thread::spawn(move || {
            let mut stopped = Some(stopped);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let daemon = Daemon::bind(config, &own).unwrap();
            let address = daemon.addresses()[0].parse().unwrap();
            let admin = daemon.admin_address().parse().unwrap();
            told.send((address, admin)).unwrap();
            runtime
                .block_on(daemon.run(async || next_signal(&mut stopped).await))
                .unwrap()
        });
        let (address, admin) = places.recv_timeout(PATIENCE).unwrap();
        Self {
            address,
            admin,
            clock,
            _directory: directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The answer to a plain GET on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.address, get(path)).await
    }

    /// The status of the one upstream's token.
    pub(crate) async fn token(&self) -> Value {
        let answer = send(self.admin, get("/status.json")).await;
        let status: Value = serde_json::from_str(answer.body()).unwrap();
        status["upstreams"][0]["token"].clone()
    }

    /// Waits for the first token: a request waits for it by the token's clock, which outruns a busy machine.
    pub(crate) async fn has_token(&self) {
        let fetched = async {
            while self.token().await["state"] == "starting" {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    }

    /// A number of the metrics.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = send(self.admin, get("/metrics")).await;
        let line = answer.body().lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {answer:?}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// A signal to stop, once.
async fn next_signal(stopped: &mut Option<oneshot::Receiver<()>>) -> Signal {
    match stopped.take() {
        Some(stopped) => drop(stopped.await),
        None => std::future::pending().await,
    }
    Signal::Stop
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(Outcome::Drained))), "{ended:?}");
        }
    }
}
