//! Resolves names for every outgoing connection, with a timeout of its own.
//!
//! A lookup is the C library's `getaddrinfo`. It cannot be cancelled, and it waits for a dead name server as long as
//! `resolv.conf` says (5 s by default, in glibc and in musl). So each name has at most one lookup at a time, on a thread
//! of its own: everything that needs the name waits for that one. It continues when nothing waits any more, and its
//! result is kept. (A runtime's blocking pool will not do: a runtime that shuts down waits for those threads.)
//!
//! Each dial starts a new lookup, so that a changed address is found. While a lookup hangs or fails, dials use the
//! last known addresses.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Resolving};
use tokio::sync::watch;
use tokio::time::Instant;

use super::resolve_error::{NO_ADDRESS, ResolveError, ResolveFailure, SLOW};
use crate::platform::shell::NAME_SERVERS;

/// Resolves names. Clones share the known addresses.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    look_up: Box<LookUp>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The addresses of a name, each with port 0, in the order in which to try them.
pub type Addresses = Arc<[SocketAddr]>;

struct Host {
    name: String,
    record: watch::Sender<HostRecord>,
}

/// What is known of one name.
#[derive(Default)]
struct HostRecord {
    /// As found by the last successful lookup.
    addresses: Option<Addresses>,
    /// When the latest lookup started.
    started: Option<Instant>,
    is_running: bool,
    /// The duration and the error of the last finished lookup.
    took: Duration,
    error: Option<Arc<io::Error>>,
}

/// How long to wait for a name without a known address: enough for two dead name servers before one that responds.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a dial waits for newer addresses than the last known ones.
const GRACE: Duration = Duration::from_millis(250);
/// How long after its start a lookup serves further dials.
const FRESH: Duration = Duration::from_secs(1);
/// The same for a failed one: callers that all retry do not start a lookup each.
const FRESH_FAILURE: Duration = Duration::from_millis(100);
/// Bound of the names kept; a configuration has a few for each upstream.
const MAX_HOSTS: usize = 1024;

impl Default for Resolver {
    fn default() -> Self {
        Self::with_lookup(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    fn with_lookup(look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            look_up: Box::new(look_up),
            hosts: Mutex::default(),
        }))
    }

    /// The addresses of a name: newly looked up, or the last known ones if that takes longer than a moment or
    /// fails. Without any, waits for up to 15 s. An IP address, in brackets or not, is returned as it is. Cancel safe.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, ResolveError> {
        if let Some(address) = parse_ip(host) {
            return Ok(Arc::new([SocketAddr::new(address, 0)]));
        }
        let host = self.host(host);
        self.start_lookup(&host);
        let mut updates = host.record.subscribe();
        let patience = updates.borrow().patience();
        let finished = updates.wait_for(|record| !record.is_running);
        let is_finished = tokio::time::timeout(patience, finished).await.is_ok();
        let (record, name) = (host.record.borrow(), host.name.clone());
        let reason = match (&record.addresses, &record.error) {
            (Some(addresses), _) => return Ok(addresses.clone()),
            (None, Some(error)) if is_finished => ResolveFailure::of(error, record.took),
            (None, _) => ResolveFailure::Silent,
        };
        Err(ResolveError { name, reason })
    }

    /// The last known addresses of a name.
    #[must_use]
    pub fn known(&self, host: &str) -> Option<Addresses> {
        match parse_ip(host) {
            Some(address) => Some(Arc::new([SocketAddr::new(address, 0)])),
            None => self.host(host).record.borrow().addresses.clone(),
        }
    }

    /// Whether an address of the name is known, so that dials to it do not wait for a name server.
    #[must_use]
    pub fn is_known(&self, host: &str) -> bool {
        parse_ip(host).is_some() || self.host(host).record.borrow().addresses.is_some()
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let name = name.to_ascii_lowercase();
        let mut hosts = self.0.hosts.lock();
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&name) {
            let idle = hosts.values().filter(|host| !host.record.borrow().is_running);
            let oldest = idle.min_by_key(|host| host.record.borrow().started).cloned();
            oldest.and_then(|oldest| hosts.remove(&oldest.name));
        }
        let new = |name: &String| {
            Arc::new(Host {
                name: name.clone(),
                record: watch::Sender::default(),
            })
        };
        hosts.entry(name).or_insert_with_key(new).clone()
    }

    /// Starts a lookup, unless one is running or has just run.
    fn start_lookup(&self, host: &Arc<Host>) {
        let starts = host.record.send_if_modified(|record| {
            let starts = !record.is_running && !record.is_fresh();
            if starts {
                record.is_running = true;
                record.started = Some(Instant::now());
            }
            starts
        });
        if !starts {
            return;
        }
        let (inner, looked_up) = (self.0.clone(), host.clone());
        let start = std::time::Instant::now();
        let lookup = move || {
            let found = (inner.look_up)(&looked_up.name);
            looked_up.finish_lookup(start.elapsed(), found);
        };
        let thread = std::thread::Builder::new().name("resolver".to_owned());
        if let Err(error) = thread.spawn(lookup) {
            host.finish_lookup(Duration::ZERO, Err(error));
        }
    }
}

impl HostRecord {
    fn is_fresh(&self) -> bool {
        let fresh = self.error.as_ref().map_or(FRESH, |_| FRESH_FAILURE);
        self.started.is_some_and(|started| started.elapsed() < fresh)
    }

    /// How long the running lookup is worth waiting for.
    fn patience(&self) -> Duration {
        match &self.addresses {
            None => TIMEOUT,
            Some(_) if self.took > GRACE => Duration::ZERO,
            Some(_) => GRACE.saturating_sub(self.started.map_or(GRACE, |started| started.elapsed())),
        }
    }
}

impl Host {
    fn finish_lookup(&self, took: Duration, found: io::Result<Vec<SocketAddr>>) {
        let found = found.and_then(|addresses| match addresses[..] {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, NO_ADDRESS)),
            _ => Ok(Addresses::from(addresses)),
        });
        self.log_lookup(took, found.as_ref().err());
        self.record.send_modify(|record| {
            record.is_running = false;
            record.took = took;
            record.error = None;
            match found {
                Ok(addresses) => record.addresses = Some(addresses),
                Err(error) => record.error = Some(Arc::new(error)),
            }
        });
    }

    /// A warning, or the end of its reason, is logged once.
    fn log_lookup(&self, took: Duration, error: Option<&io::Error>) {
        let before = self.record.borrow();
        let (is_known, had_failed) = (before.addresses.is_some(), before.error.is_some());
        let (name, took_ms) = (&*self.name, took.as_millis());
        match error {
            Some(error) if is_known && !had_failed => {
                tracing::warn!(name, %error, took_ms, "name resolution failed, using the last known addresses");
            }
            Some(error) => tracing::debug!(name, %error, took_ms, "name resolution failed"),
            None if took > SLOW && before.took <= SLOW => tracing::warn!(
                name,
                took_ms,
                "name resolution is slow: a name server may not respond; check {NAME_SERVERS}"
            ),
            None if had_failed && is_known => tracing::info!(name, took_ms, "name resolution works again"),
            None => tracing::debug!(name, took_ms, "name resolved"),
        }
    }
}

fn parse_ip(host: &str) -> Option<IpAddr> {
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

/// For reqwest. Its `connect_timeout` includes this: await [`addresses`](Resolver::addresses) before the request.
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
mod tests;
