//! A worker's connections to one upstream that have no request: the last used first, and to the request first
//! that has waited longest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{BoxError, Connector};
use super::link::Link;
use crate::resolver::ResolveError;

/// Connections for requests; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    keep_alive: Duration,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections that idle, the longest idle one first.
    idle: Vec<(Link, Instant)>,
    is_swept: bool,
    /// Requests that wait for a connection, the longest waiting one first.
    waiting: VecDeque<Waiting>,
    /// How many connections are being made.
    under_way: usize,
}

struct Waiting {
    since: Instant,
    request: oneshot::Sender<Result<Link, BoxError>>,
}

/// How long a request waits for connections that were begun for others.
const PATIENCE: Duration = Duration::from_millis(500);

impl Pool {
    /// Keeps up to `most` connections for up to `keep_alive` each.
    pub(super) fn new(connector: Connector, keep_alive: Duration, most: usize) -> Self {
        Self(Arc::new(Shared {
            connector,
            keep_alive,
            most: if keep_alive.is_zero() { 0 } else { most },
            state: Mutex::default(),
        }))
    }

    /// A connection for one request: an idle one, or whichever comes first of a new one and one that another
    /// request has done with. No more are made at a time than there are requests that wait, but for those that
    /// wait for long: what is under way to them may lead nowhere.
    pub(super) async fn link(&self) -> Result<Link, BoxError> {
        if self.0.most == 0 {
            return self.fresh().await;
        }
        if let Some(link) = self.take() {
            return Ok(link);
        }
        if !self.0.connector.is_resolved() {
            // Dials that would all wait for one lookup are not begun before it has ended.
            Box::pin(self.0.connector.resolved()).await?;
        }
        let (mut next, has_own) = self.wait();
        if !has_own && let Ok(next) = tokio::time::timeout(PATIENCE, &mut next).await {
            return next?;
        }
        if !has_own {
            self.make_one(&mut self.0.state());
        }
        next.await?
    }

    /// What resolves with a connection, and whether one is made for it.
    fn wait(&self) -> (oneshot::Receiver<Result<Link, BoxError>>, bool) {
        let (request, next) = oneshot::channel();
        let since = Instant::now();
        let mut state = self.0.state();
        if state.under_way <= state.waiting.len() {
            // Who has been given up needs none.
            state.waiting.retain(|waiting| !waiting.request.is_closed());
        }
        state.waiting.push_back(Waiting { since, request });
        let needs_own = state.under_way < state.waiting.len();
        if needs_own {
            self.make_one(&mut state);
        }
        (next, needs_own)
    }

    fn make_one(&self, state: &mut State) {
        state.under_way += 1;
        tokio::spawn(UnderWay(self.0.clone()).run());
    }

    /// Begins what the first connection will need.
    pub(super) fn prefetch(&self) {
        self.0.connector.prefetch();
    }

    /// What keeps requests waiting for a connection, where it is the upstream's name.
    pub(super) fn unresolved(&self) -> Option<ResolveError> {
        self.0.connector.unresolved()
    }

    /// A connection of its own, that nobody had before.
    pub(super) async fn fresh(&self) -> Result<Link, BoxError> {
        Box::pin(self.0.connect()).await
    }

    /// An idle connection that was open when it was last heard of, a moment ago.
    fn take(&self) -> Option<Link> {
        loop {
            let (mut link, since) = self.0.state().idle.pop()?;
            if since.elapsed() < self.0.keep_alive && link.is_still_usable() {
                return Some(link);
            }
        }
    }

    /// Hands a connection that is ready for a request to the one that waits longest, or keeps it.
    pub(super) fn put(&self, mut link: Link) {
        let mut state = self.0.state();
        while let Some(longest) = state.waiting.pop_front() {
            // It comes back where the request has been given up meanwhile.
            match longest.request.send(Ok(link)) {
                Err(Ok(back)) => link = back,
                _ => return,
            }
        }
        if state.idle.len() >= self.0.most {
            return link.close();
        }
        state.idle.push((link, Instant::now()));
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0), self.0.keep_alive));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Link, BoxError> {
        Ok(Link::over(self.connector.connect().await?).await?)
    }

    /// Tells the request that waits longest that there is no connection for it. One that came after the
    /// connection was begun is not to hear of its failure: whether another one is to be made for such a one.
    fn fail(&self, begun: Instant, error: BoxError) -> bool {
        let mut state = self.state();
        while state
            .waiting
            .front()
            .is_some_and(|longest| longest.since <= begun)
        {
            let Some(longest) = state.waiting.pop_front() else {
                break;
            };
            if !longest.request.is_closed() {
                let _ = longest.request.send(Err(error));
                return false;
            }
        }
        !state.waiting.is_empty() && state.under_way <= state.waiting.len()
    }
}

/// A connection that is being made.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    async fn run(self) {
        loop {
            let begun = Instant::now();
            match self.0.connect().await {
                Ok(link) => return Pool(self.0.clone()).put(link),
                Err(error) => {
                    if !self.0.fail(begun, error) {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
    }
}

/// Closes what has idled for too long, for as long as there is something.
async fn sweep(pool: Weak<Shared>, keep_alive: Duration) {
    let mut wait = keep_alive;
    loop {
        tokio::time::sleep(wait).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        let now = Instant::now();
        let young = state
            .idle
            .partition_point(|(_, since)| *since + keep_alive <= now);
        state.idle.drain(..young).for_each(|(link, _)| link.close());
        let Some((_, since)) = state.idle.first() else {
            state.is_swept = false;
            return;
        };
        wait = *since + keep_alive - now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::resolver::Resolver;

    fn pool() -> Pool {
        let text = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = { file = \"/s\" }\n";
        let config = Config::parse(text, "f", []).unwrap();
        let upstream = &config.upstreams[0];
        let tls = crate::tls::client(None).unwrap();
        let connector = Connector::new(upstream, tls, Resolver::default()).unwrap();
        Pool::new(connector, upstream.keep_alive, upstream.pooled)
    }

    fn wait(pool: &Pool, since: Instant) -> oneshot::Receiver<Result<Link, BoxError>> {
        let (request, next) = oneshot::channel();
        pool.0.state().waiting.push_back(Waiting { since, request });
        next
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_one_request_that_waited_for_it_from_the_start() {
        let (pool, begun) = (pool(), Instant::now());
        let given_up = wait(&pool, begun);
        drop(given_up);
        let mut first = wait(&pool, begun);
        let mut second = wait(&pool, begun);
        let mut later = wait(&pool, begun + Duration::from_millis(1));

        assert!(!pool.0.fail(begun, "refused".into()), "one was told");
        assert!(first.try_recv().is_ok_and(|told| told.is_err()));
        assert!(second.try_recv().is_err(), "another one's connection may come");
        assert!(!pool.0.fail(begun, "refused".into()));
        assert!(second.try_recv().is_ok_and(|told| told.is_err()));

        pool.0.state().under_way = 2;
        assert!(
            !pool.0.fail(begun, "refused".into()),
            "another one is under way to it"
        );
        pool.0.state().under_way = 1;
        assert!(pool.0.fail(begun, "refused".into()), "one is to be made for it");
        assert!(later.try_recv().is_err());
    }
}
