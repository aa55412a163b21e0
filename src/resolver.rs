//! Resolves names to addresses for every call out, with a timeout of its own.
//!
//! A lookup is the C library's `getaddrinfo`, which cannot be cancelled and which waits for a dead name server as long
//! as `resolv.conf` says (5 s by default, in glibc and in musl). So there is one lookup at a time for each name, on a
//! thread of its own: whoever needs the name waits for that one, it goes on when nobody waits any more, and what it
//! brings serves the next. (A runtime's blocking pool would do as well until that runtime shuts down, which waits for
//! its threads.)
//!
//! Each dial asks for a new lookup, so that a changed address is found. While a lookup hangs or fails, dials use the
//! last known addresses.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use reqwest::dns::{Addrs, Resolving};
use tokio::sync::watch;
use tokio::time::Instant;

/// Resolves names; clones share what they know.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    look_up: Box<LookUp>,
    names: Mutex<HashMap<String, Arc<Record>>>,
}

type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The addresses of a name, each with port 0, in the order in which they are to be tried.
pub type Addresses = Arc<[SocketAddr]>;

/// What is known of one name.
type Record = watch::Sender<State>;

#[derive(Default)]
struct State {
    /// The addresses that the last successful lookup found.
    addresses: Option<Addresses>,
    /// When the lookup in progress began.
    in_progress: Option<Instant>,
    /// The lookup that finished last.
    last: Option<Finished>,
    /// How many lookups have finished.
    finished: u64,
}

struct Finished {
    began: Instant,
    took: Duration,
    error: Option<Arc<io::Error>>,
}

/// Why there is no address of a name.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The lookup has not finished; it goes on.
    #[error("the name {0} is not resolved yet, since no name server answers")]
    TimedOut(String),
    /// The lookup failed.
    #[error("the name {name} cannot be resolved")]
    Failed {
        /// The name.
        name: String,
        /// What the C library said.
        source: Arc<io::Error>,
    },
}

/// How long a name without a known address is waited for: two dead name servers and one that answers.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a dial waits for newer addresses than the last known ones.
const GRACE: Duration = Duration::from_millis(250);
/// How long after its start a lookup serves further dials.
const FRESH: Duration = Duration::from_secs(1);
/// The same where it failed: callers that all try again do not start a lookup each.
const FRESH_FAILURE: Duration = Duration::from_millis(100);
/// A lookup that takes longer is logged.
const SLOW: Duration = Duration::from_secs(2);
/// The most names that are remembered; a configuration has a few for each upstream.
const MOST_NAMES: usize = 1024;

impl Default for Resolver {
    fn default() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    fn by(look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            look_up: Box::new(look_up),
            names: Mutex::default(),
        }))
    }

    /// The addresses of a host: newly looked up, or the last known ones where that takes longer than a moment or
    /// fails. Where none is known, waits for up to 15 s. An IP address, in brackets or not, is itself. Cancel safe.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, ResolveError> {
        if let Some(address) = literal(host) {
            return Ok(Arc::new([SocketAddr::new(address, 0)]));
        }
        let name = host.to_ascii_lowercase();
        let record = self.record(&name);
        let now = Instant::now();
        self.look_up(&name, &record, now);
        let mut updates = record.subscribe();
        let (patience, finished) = {
            let state = updates.borrow();
            (state.patience(now), state.finished)
        };
        let mut is_over = patience.is_none();
        if let Some(patience) = patience {
            let next = updates.wait_for(|state| state.finished != finished);
            is_over = tokio::time::timeout(patience, next).await.is_ok();
        }
        let state = record.borrow();
        if let Some(addresses) = &state.addresses {
            return Ok(addresses.clone());
        }
        match state.last.as_ref().and_then(|last| last.error.clone()) {
            Some(source) if is_over => Err(ResolveError::Failed { name, source }),
            _ => Err(ResolveError::TimedOut(name)),
        }
    }

    /// Whether an address of a host is known: dials to it do not wait for a name server.
    #[must_use]
    pub fn is_known(&self, host: &str) -> bool {
        literal(host).is_some() || self.state_of(host, |state| state.addresses.is_some())
    }

    /// What keeps a dial from its first byte, where that is the name.
    #[must_use]
    pub fn unresolved(&self, host: &str) -> Option<ResolveError> {
        let is_waited_for = |state: &State| state.addresses.is_none() && state.in_progress.is_some();
        (literal(host).is_none() && self.state_of(host, is_waited_for))
            .then(|| ResolveError::TimedOut(host.to_owned()))
    }

    /// Begins the lookup of a host that will be dialled.
    pub fn prefetch(&self, host: &str) {
        if !self.is_known(host) {
            let name = host.to_ascii_lowercase();
            self.look_up(&name, &self.record(&name), Instant::now());
        }
    }

    fn state_of(&self, host: &str, is: impl Fn(&State) -> bool) -> bool {
        let name = host.to_ascii_lowercase();
        self.names().get(&name).is_some_and(|record| is(&record.borrow()))
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Arc<Record>>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, name: &str) -> Arc<Record> {
        let mut names = self.names();
        if let Some(record) = names.get(name) {
            return record.clone();
        }
        if names.len() >= MOST_NAMES {
            let idle = names.iter().filter_map(|(name, record)| {
                let state = record.borrow();
                let last = state.last.as_ref().filter(|_| state.in_progress.is_none())?;
                Some((last.began, name.clone()))
            });
            if let Some((_, oldest)) = idle.min() {
                names.remove(&oldest);
            }
        }
        names.entry(name.to_owned()).or_default().clone()
    }

    /// Begins a lookup, unless one is in progress or has just been.
    fn look_up(&self, name: &str, record: &Arc<Record>, now: Instant) {
        let mut begins = false;
        record.send_if_modified(|state| {
            begins = state.in_progress.is_none() && !state.is_fresh(now);
            if begins {
                state.in_progress = Some(now);
            }
            false
        });
        if !begins {
            return;
        }
        let (shared, owned, of) = (self.0.clone(), name.to_owned(), record.clone());
        let started = std::time::Instant::now();
        let lookup = std::thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || {
                let found = (shared.look_up)(&owned);
                finish(&owned, &of, now, started.elapsed(), found);
            });
        if let Err(error) = lookup {
            finish(name, record, now, Duration::ZERO, Err(error));
        }
    }
}

impl State {
    fn is_fresh(&self, now: Instant) -> bool {
        self.last.as_ref().is_some_and(|last| {
            let limit = if last.error.is_none() {
                FRESH
            } else {
                FRESH_FAILURE
            };
            now.saturating_duration_since(last.began) < limit
        })
    }

    /// How long the lookup in progress is worth waiting for; nothing where there is none.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let began = self.in_progress?;
        if self.addresses.is_none() {
            return Some(TIMEOUT);
        }
        let is_slow = self.last.as_ref().is_some_and(|last| last.took > GRACE);
        let left = (began + GRACE).saturating_duration_since(now);
        Some(if is_slow { Duration::ZERO } else { left })
    }
}

/// Puts down what a lookup brought, and logs what an operator has to know of it, once.
fn finish(name: &str, record: &Record, began: Instant, took: Duration, found: io::Result<Vec<SocketAddr>>) {
    let found = found.and_then(|addresses| match addresses[..] {
        [] => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        _ => Ok(addresses),
    });
    let (addresses, error) = match found {
        Ok(addresses) => (Some(Addresses::from(addresses)), None),
        Err(error) => (None, Some(Arc::new(error))),
    };
    let (mut was_slow, mut had_failed, mut is_known) = (false, false, false);
    record.send_modify(|state| {
        if let Some(last) = &state.last {
            was_slow = last.took > SLOW;
            had_failed = last.error.is_some();
        }
        is_known = state.addresses.is_some();
        state.addresses = addresses.or(state.addresses.take());
        state.in_progress = None;
        state.finished += 1;
        state.last = Some(Finished {
            began,
            took,
            error: error.clone(),
        });
    });
    let took_ms = took.as_millis();
    match error {
        Some(error) if is_known && !had_failed => {
            tracing::warn!(name, %error, took_ms, "name resolution failed, using the last known addresses");
        }
        Some(error) => tracing::debug!(name, %error, took_ms, "name resolution failed"),
        None if took > SLOW && !was_slow => tracing::warn!(
            name,
            took_ms,
            "name resolution is slow; check whether each name server in /etc/resolv.conf answers"
        ),
        None if had_failed && is_known => tracing::info!(name, took_ms, "name resolution works again"),
        None => tracing::debug!(name, took_ms, "name resolved"),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// For hyper-util's connector.
impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.addresses(name.as_str()).await?.to_vec().into_iter()) })
    }
}

/// For reqwest, whose `connect_timeout` goes on meanwhile: await [`addresses`](Resolver::addresses) before the request.
impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?.to_vec();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const NAME: &str = "api.example";

    /// A resolver whose lookups end when, and as, the test says.
    struct Stand {
        resolver: Resolver,
        answers: mpsc::Sender<io::Result<[u8; 4]>>,
        begun: Arc<AtomicUsize>,
    }

    impl Stand {
        fn new() -> Self {
            let (answers, next) = mpsc::channel();
            let (next, begun) = (Mutex::new(next), Arc::new(AtomicUsize::new(0)));
            let counter = begun.clone();
            let resolver = Resolver::by(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer: io::Result<[u8; 4]> = next.lock().unwrap().recv().expect("the test goes on");
                Ok(vec![(answer?, 0).into()])
            });
            Self {
                resolver,
                answers,
                begun,
            }
        }

        async fn resolved(&self) -> Result<String, ResolveError> {
            let addresses = self.resolver.addresses(NAME).await?;
            Ok(addresses[0].ip().to_string())
        }

        /// Ends the lookup in progress. The paused clock stands still meanwhile: it goes on where all tasks wait.
        async fn answer(&self, answer: io::Result<[u8; 4]>) {
            let record = self.resolver.record(NAME);
            let before = record.borrow().finished;
            self.answers.send(answer).unwrap();
            while record.borrow().finished == before {
                tokio::task::yield_now().await;
            }
        }

        /// Has a lookup done from its start to its end.
        async fn look_up(&self, answer: io::Result<[u8; 4]>) {
            let record = self.resolver.record(NAME);
            self.resolver.look_up(NAME, &record, Instant::now());
            self.answer(answer).await;
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    fn refused() -> io::Result<[u8; 4]> {
        Err(io::Error::other("SERVFAIL"))
    }

    #[tokio::test(start_paused = true)]
    async fn one_lookup_serves_everybody_who_waits_and_goes_on_when_they_have_given_up() {
        let stand = Stand::new();
        let impatient = tokio::time::timeout(Duration::from_secs(5), stand.resolved());
        let (first, second) = tokio::join!(impatient, stand.resolved());
        assert!(first.is_err(), "it gave up");
        assert!(matches!(second, Err(ResolveError::TimedOut(name)) if name == NAME));
        assert!(stand.resolver.unresolved("API.example").is_some() && !stand.resolver.is_known(NAME));

        stand.answer(Ok([192, 0, 2, 1])).await;
        assert!(stand.resolver.is_known("API.example") && stand.resolver.unresolved(NAME).is_none());
        assert_eq!(stand.resolved().await.unwrap(), "192.0.2.1");
        stand.answer(Ok([192, 0, 2, 1])).await;
        assert_eq!(stand.begun(), 2, "the second one is for newer addresses");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_waited_for_by_fifteen_seconds_of_its_own() {
        let (stand, began) = (Stand::new(), Instant::now());
        assert!(matches!(stand.resolved().await, Err(ResolveError::TimedOut(_))));
        assert_eq!(began.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_delays_one_dial_for_a_moment_and_no_further_one() {
        let stand = Stand::new();
        stand.look_up(Ok([192, 0, 2, 1])).await;
        assert_eq!(stand.resolved().await.unwrap(), "192.0.2.1");
        assert_eq!(stand.begun(), 1, "it has just been looked up");

        tokio::time::advance(FRESH).await;
        for wait in [GRACE, Duration::ZERO, Duration::ZERO] {
            let began = Instant::now();
            assert_eq!(stand.resolved().await.unwrap(), "192.0.2.1");
            assert_eq!(began.elapsed(), wait);
        }
        stand.answer(Ok([192, 0, 2, 2])).await;
        assert_eq!(stand.begun(), 2);
        assert_eq!(stand.resolved().await.unwrap(), "192.0.2.2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_fails_leaves_the_last_known_addresses_in_use() {
        let stand = Stand::new();
        stand.look_up(refused()).await;
        for _ in 0..2 {
            let error = stand.resolved().await.unwrap_err();
            assert!(
                matches!(&error, ResolveError::Failed { source, .. } if source.to_string() == "SERVFAIL")
            );
        }
        assert_eq!(stand.begun(), 1, "not asked again at once");

        tokio::time::advance(FRESH_FAILURE).await;
        stand.look_up(Ok([192, 0, 2, 1])).await;
        for _ in 0..2 {
            tokio::time::advance(FRESH).await;
            stand.look_up(refused()).await;
            assert_eq!(stand.resolved().await.unwrap(), "192.0.2.1");
        }
        assert_eq!(stand.begun(), 4);
    }

    #[tokio::test]
    async fn an_address_is_itself_and_a_name_without_addresses_is_a_failure() {
        let resolver = Resolver::by(|name| match name {
            "empty.example" => Ok(Vec::new()),
            _ => panic!("{name} is looked up"),
        });
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1:0"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("::1", "[::1]:0"),
        ] {
            assert!(resolver.is_known(host));
            assert_eq!(resolver.addresses(host).await.unwrap()[0].to_string(), address);
        }
        let error = resolver.addresses("empty.example").await.unwrap_err();
        assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_more_names_are_remembered_than_there_is_room_for() {
        let resolver = Resolver::by(|_| Ok(vec![([192, 0, 2, 1], 0).into()]));
        for number in 0..MOST_NAMES + 10 {
            resolver.addresses(&format!("{number}.example")).await.unwrap();
        }
        assert_eq!(resolver.names().len(), MOST_NAMES);
        assert!(!resolver.is_known("0.example"));
    }
}
