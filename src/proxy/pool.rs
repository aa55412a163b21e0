//! A worker's connections to one upstream that have no request: the last used first, and to the request first
//! that has waited longest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::connect::{BoxError, Connector};
use super::link::Link;
use crate::config;
use crate::resolver::ResolveError;

/// Connections for requests; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    keep_alive: Duration,
    max_age: Duration,
    most: usize,
    state: Mutex<State>,
    /// Wakes the sweep where a connection is to be closed before it would have looked.
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Connections that idle, the longest idle one first, each with the time when it is closed.
    idle: Vec<(Link, Instant)>,
    /// When the sweep looks next; nothing where none runs.
    sweep: Option<Instant>,
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

/// Longer spans are for ever, and are cut to what can be added to a time.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Connections that were made together do not expire together: each lives for this part of the maximum age or longer.
const YOUNGEST: f64 = 0.8;

impl Pool {
    /// Keeps up to `upstream.pooled` connections, each idle for up to `keep_alive` and up to the age of `max_age`.
    pub(super) fn new(connector: Connector, upstream: &config::Upstream) -> Self {
        let keep_alive = upstream.keep_alive.min(FOR_EVER);
        Self(Arc::new(Shared {
            connector,
            keep_alive,
            max_age: upstream.max_age.min(FOR_EVER),
            most: if keep_alive.is_zero() { 0 } else { upstream.pooled },
            state: Mutex::default(),
            sooner: Arc::default(),
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
            let (mut link, until) = self.0.state().idle.pop()?;
            if Instant::now() >= until {
                link.close();
            } else if link.is_still_usable() {
                return Some(link);
            }
        }
    }

    /// Hands a connection that is ready for a request to the one that waits longest, or keeps it. One that has reached
    /// its age is closed: whoever waits has another one under way.
    pub(super) fn put(&self, mut link: Link) {
        let Some(until) = link.idles_until(Instant::now(), self.0.keep_alive) else {
            return link.close();
        };
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
        state.idle.push((link, until));
        match state.sweep {
            Some(next) if next <= until => return,
            Some(_) => self.0.sooner.notify_one(),
            None => drop(tokio::spawn(sweep(
                Arc::downgrade(&self.0),
                self.0.sooner.clone(),
            ))),
        }
        state.sweep = Some(until);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Link, BoxError> {
        let stream = self.connector.connect().await?;
        let age = self
            .max_age
            .mul_f64(YOUNGEST + (1.0 - YOUNGEST) * fastrand::f64());
        Ok(Link::over(stream, Instant::now() + age).await?)
    }

    /// Closes the idle connections whose time is over; says when the next one's is.
    fn sweep(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        let over = state.idle.extract_if(.., |(_, until)| *until <= now);
        over.for_each(|(link, _)| link.close());
        state.sweep = state.idle.iter().map(|(_, until)| *until).min();
        state.sweep
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

/// Closes what has idled for too long or is too old, for as long as there is something.
async fn sweep(pool: Weak<Shared>, sooner: Arc<Notify>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.sweep()) {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = sooner.notified() => {}
        }
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
        Pool::new(connector, upstream)
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
