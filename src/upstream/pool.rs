//! A worker's idle connections to one upstream, and the requests that wait for one.
//!
//! A request takes the connection that was used last. Without one it waits for whichever comes first: a connection
//! that another request returns, or a new one. Dials run in tasks of their own, so that a request that no longer needs
//! its dial leaves the connection to others.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::connector::Connector;
use super::error::ConnectError;
use crate::config;
use crate::telemetry::metrics::UpstreamConnections;

/// Connections to one upstream. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    keep_alive: Duration,
    max_age: Duration,
    max_idle: usize,
    metrics: UpstreamConnections,
    /// In-flight dials for waiters.
    dials: TaskTracker,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    /// Idle connections with the time when each is closed, least recently used first.
    idle: Vec<(Connection, Instant)>,
    /// Whether a task closes them then.
    is_swept: bool,
    /// Requests that wait for a connection, longest waiting first.
    waiters: VecDeque<oneshot::Sender<Connection>>,
}

/// How long a request waits for dials that other requests started, before it starts its own: those may all fail.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often idle connections are looked through. None is used after its time either way.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Jitter: each connection expires between this part of `max_age` and all of it.
const MIN_AGE: f64 = 0.8;

impl Pool {
    /// Keeps up to `upstream.pooled` idle connections.
    pub(super) fn new(
        connector: Connector,
        upstream: &config::Upstream,
        metrics: UpstreamConnections,
    ) -> Self {
        let has_keep_alive = !upstream.keep_alive.is_zero();
        Self(Arc::new(Inner {
            connector,
            keep_alive: upstream.keep_alive,
            max_age: upstream.max_age,
            max_idle: if has_keep_alive { upstream.pooled } else { 0 },
            metrics,
            dials: TaskTracker::new(),
            queues: Mutex::default(),
        }))
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// A connection for one request.
    pub(super) async fn acquire(&self) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        // Boxed: rarely needed, and large.
        if self.0.max_idle == 0 {
            return Box::pin(self.connect()).await;
        }
        Box::pin(self.wait()).await
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, ConnectError> {
        let stream = self.counted(self.0.connector.connect().await)?;
        let jitter = MIN_AGE + (1.0 - MIN_AGE) * fastrand::f64();
        let expires = Instant::now() + self.0.max_age.mul_f64(jitter);
        let connection = Connection::new(stream, expires, &self.0.metrics).await;
        self.counted(connection.map_err(|_| self.0.connector.destination().closed()))
    }

    /// Counts a failure to connect.
    fn counted<T>(&self, result: Result<T, ConnectError>) -> Result<T, ConnectError> {
        result.inspect_err(|error| self.0.metrics.count_failure(error.kind.name()))
    }

    /// An idle connection that was open a moment ago.
    fn take_idle(&self) -> Option<Connection> {
        loop {
            let (mut connection, deadline) = self.0.queues.lock().idle.pop()?;
            if Instant::now() >= deadline {
                connection.close();
            } else if connection.is_still_ready() {
                return Some(connection);
            }
        }
    }

    async fn wait(&self) -> Result<Connection, ConnectError> {
        // Resolve before a dial is started. Dials outlive their requests: without this, all that had accumulated while
        // the name was not resolved would connect at once.
        self.counted(self.0.connector.resolve().await)?;
        let (waiter, mut connection) = oneshot::channel();
        let mut dial = self.enqueue(waiter);
        loop {
            if let Some(dial) = dial {
                tokio::select! {
                    biased;
                    Ok(connection) = &mut connection => return Ok(connection),
                    dialled = dial => dialled.expect("no dial is aborted")?,
                }
            }
            // The in-flight dials of other requests suffice. An own dial's connection may have gone to one of these.
            if let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, &mut connection).await {
                return Ok(connection);
            }
            dial = Some(self.dial());
        }
    }

    /// Adds a waiter. Starts a dial for it unless there is one in flight for each waiter.
    fn enqueue(&self, waiter: oneshot::Sender<Connection>) -> Option<JoinHandle<Result<(), ConnectError>>> {
        let mut queues = self.0.queues.lock();
        queues.waiters.retain(|waiter| !waiter.is_closed());
        queues.waiters.push_back(waiter);
        (self.0.dials.len() < queues.waiters.len()).then(|| self.dial())
    }

    fn dial(&self) -> JoinHandle<Result<(), ConnectError>> {
        let pool = self.clone();
        self.0.dials.spawn(async move {
            pool.put(pool.connect().await?);
            Ok(())
        })
    }

    /// Takes a connection that is ready for a request: for the request that has waited longest, or to keep it idle.
    pub(super) fn put(&self, mut connection: Connection) {
        let Some(deadline) = connection.idle_deadline(Instant::now(), self.0.keep_alive) else {
            return connection.close();
        };
        let mut queues = self.0.queues.lock();
        while let Some(waiter) = queues.waiters.pop_front() {
            match waiter.send(connection) {
                Ok(()) => return,
                // That request gave up.
                Err(returned) => connection = returned,
            }
        }
        if queues.idle.len() >= self.0.max_idle {
            return connection.close();
        }
        queues.idle.push((connection, deadline));
        if !std::mem::replace(&mut queues.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

impl Inner {
    /// Closes the idle connections whose time is over. False if none remain.
    fn close_expired(&self) -> bool {
        let mut queues = self.queues.lock();
        let now = Instant::now();
        let expired = queues.idle.extract_if(.., |(_, deadline)| *deadline <= now);
        expired.for_each(|(connection, _)| connection.close());
        queues.is_swept = !queues.idle.is_empty();
        queues.is_swept
    }
}

/// Runs while there are idle connections.
async fn sweep(pool: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_expired()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connector::Network;
    use super::*;
    use crate::config::Config;

    /// A pool whose dials are refused.
    fn pool() -> Pool {
        let text = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = { file = \"/s\" }\nurl = \"https://127.0.0.1:1\"\n";
        let config = Config::parse(text, "f", []).unwrap();
        let upstream = &config.upstreams[0];
        let tls = crate::tls::client(None).unwrap();
        let (url, timeout) = (&upstream.url, upstream.timeout.connect);
        let connector = Connector::new("API request", url, None, timeout, Network::new(tls));
        Pool::new(connector, upstream, UpstreamConnections::default())
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_dial_for_each_request_that_still_waits() {
        let pool = pool();
        let (first, receiver) = oneshot::channel();
        let (second, _second_receiver) = oneshot::channel();
        let (third, _third_receiver) = oneshot::channel();
        let (fourth, _fourth_receiver) = oneshot::channel();
        assert!(pool.enqueue(first).is_some());
        assert!(pool.enqueue(second).is_some());
        drop(receiver);
        assert!(
            pool.enqueue(third).is_none(),
            "the first one's dial is left to it"
        );
        assert!(pool.enqueue(fourth).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_dial_fails_only_the_request_that_started_it() {
        let pool = pool();
        let (given_up, _) = oneshot::channel();
        let dial = pool.enqueue(given_up).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let start = Instant::now();
        let acquired = pool.acquire().await;
        assert!(dial.is_finished() && acquired.is_err());
        let waited = start.elapsed();
        assert!(
            waited > Duration::from_secs(2),
            "it made its own attempts: {waited:?}"
        );
    }
}
