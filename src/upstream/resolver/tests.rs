use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

const NAME: &str = "api.example";

/// A resolver whose lookups the test completes.
struct Lookups {
    resolver: Resolver,
    results: mpsc::Sender<io::Result<[u8; 4]>>,
    started: Arc<AtomicUsize>,
}

impl Lookups {
    fn new() -> Self {
        let (results, next) = mpsc::channel();
        let (next, started) = (Mutex::new(next), Arc::new(AtomicUsize::new(0)));
        let counter = started.clone();
        let resolver = Resolver::with_lookup(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let result: io::Result<[u8; 4]> = next.lock().recv().expect("the test still runs");
            Ok(vec![(result?, 0).into()])
        });
        Self {
            resolver,
            results,
            started,
        }
    }

    async fn resolved(&self) -> Result<String, ResolveError> {
        let addresses = self.resolver.addresses(NAME).await?;
        Ok(addresses[0].ip().to_string())
    }

    /// Completes the running lookup. A task that yields keeps the paused clock from advancing.
    async fn complete(&self, result: io::Result<[u8; 4]>) {
        let host = self.resolver.host(NAME);
        self.results.send(result).unwrap();
        while host.record.borrow().is_running {
            tokio::task::yield_now().await;
        }
    }

    /// Runs a lookup from its start to its end.
    async fn run(&self, result: io::Result<[u8; 4]>) {
        let host = self.resolver.host(NAME);
        self.resolver.start_lookup(&host);
        self.complete(result).await;
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

fn refused() -> io::Result<[u8; 4]> {
    Err(io::Error::other("SERVFAIL"))
}

#[tokio::test(start_paused = true)]
async fn one_lookup_serves_every_waiter_and_continues_when_they_have_given_up() {
    let lookups = Lookups::new();
    let impatient = tokio::time::timeout(Duration::from_secs(5), lookups.resolved());
    let (first, second) = tokio::join!(impatient, lookups.resolved());
    assert!(first.is_err(), "it gave up");
    assert!(matches!(second, Err(error) if error.reason == ResolveFailure::Silent && error.name == NAME));
    assert!(!lookups.resolver.is_known(NAME));

    lookups.complete(Ok([192, 0, 2, 1])).await;
    assert!(lookups.resolver.is_known("API.example"));
    assert_eq!(lookups.resolved().await.unwrap(), "192.0.2.1");
    lookups.complete(Ok([192, 0, 2, 1])).await;
    assert_eq!(lookups.started(), 2, "the second lookup is for newer addresses");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_waited_for_for_fifteen_seconds() {
    let (lookups, start) = (Lookups::new(), Instant::now());
    assert!(matches!(lookups.resolved().await, Err(error) if error.reason == ResolveFailure::Silent));
    assert_eq!(start.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_delays_one_dial_for_a_moment_and_no_later_one() {
    let lookups = Lookups::new();
    lookups.run(Ok([192, 0, 2, 1])).await;
    assert_eq!(lookups.resolved().await.unwrap(), "192.0.2.1");
    assert_eq!(lookups.started(), 1, "it has just been looked up");

    tokio::time::advance(FRESH).await;
    for wait in [GRACE, Duration::ZERO, Duration::ZERO] {
        let start = Instant::now();
        assert_eq!(lookups.resolved().await.unwrap(), "192.0.2.1");
        assert_eq!(start.elapsed(), wait);
    }
    lookups.complete(Ok([192, 0, 2, 2])).await;
    assert_eq!(lookups.started(), 2);
    assert_eq!(lookups.resolved().await.unwrap(), "192.0.2.2");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_leaves_the_last_known_addresses_in_use() {
    let lookups = Lookups::new();
    lookups.run(refused()).await;
    for _ in 0..2 {
        let error = lookups.resolved().await.unwrap_err();
        assert!(error.reason == ResolveFailure::Failed);
    }
    assert_eq!(lookups.started(), 1, "not looked up again at once");

    tokio::time::advance(FRESH_FAILURE).await;
    lookups.run(Ok([192, 0, 2, 1])).await;
    for _ in 0..2 {
        tokio::time::advance(FRESH).await;
        lookups.run(refused()).await;
        assert_eq!(lookups.resolved().await.unwrap(), "192.0.2.1");
    }
    assert_eq!(lookups.started(), 4);
}

#[tokio::test]
async fn an_ip_address_is_returned_as_it_is_and_a_name_without_addresses_is_a_failure() {
    let resolver = Resolver::with_lookup(|name| match name {
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
    assert!(
        matches!(error.reason, ResolveFailure::NotFound | ResolveFailure::Failed),
        "{error}"
    );
}

#[tokio::test]
async fn the_number_of_kept_names_is_bounded() {
    let resolver = Resolver::with_lookup(|_| Ok(vec![([192, 0, 2, 1], 0).into()]));
    for number in 0..MAX_HOSTS + 10 {
        resolver.addresses(&format!("{number}.example")).await.unwrap();
    }
    assert_eq!(resolver.0.hosts.lock().len(), MAX_HOSTS);
    assert!(!resolver.is_known("0.example"));
}
