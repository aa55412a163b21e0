//! Connects to an upstream: name resolution, TCP, a CONNECT tunnel where an outbound proxy is configured, then TLS.

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::ServiceExt as _;

use super::error::ConnectError;
use super::resolver::{ResolveError, Resolver};
use super::tunnel;
use crate::config::{self, Endpoint, InputError, ProxyRoute};

/// A byte stream to the upstream. Plain TCP is for tests on loopback addresses.
pub(super) type UpstreamStream = Either<TcpStream, TlsStream<TcpStream>>;

/// Opens connections to one upstream. An attempt that fails is repeated for a while, since no byte of a request has
/// been sent: an upstream that restarts delays requests and fails none.
pub(super) struct Connector {
    resolver: Resolver,
    tcp: HttpConnector<Resolver>,
    /// Where TCP connects to: the outbound proxy, or else the upstream.
    first_hop: Uri,
    proxy: Option<ProxyRoute>,
    tls: TlsConnector,
    upstream: Endpoint,
    /// For all attempts together, once the name is resolved.
    timeout: Duration,
}

/// How long attempts are repeated.
const RETRY_FOR: Duration = Duration::from_secs(3);
/// The pause after the first attempt; it doubles up to `MAX_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(400);

impl Connector {
    pub(super) fn new(
        upstream: &config::Upstream,
        tls: ClientConfig,
        resolver: Resolver,
    ) -> Result<Self, InputError> {
        let timeout = upstream.timeout.connect;
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        // Divided among the addresses of a name: one that drops packets leaves time for the next.
        tcp.set_connect_timeout(Some(timeout));
        let proxy = upstream.proxy.route(&upstream.url)?;
        let first_hop = proxy.as_ref().map_or(upstream.url.uri(), |proxy| &proxy.uri);
        Ok(Self {
            resolver,
            tcp,
            first_hop: first_hop.clone(),
            proxy,
            tls: TlsConnector::from(Arc::new(tls)),
            upstream: upstream.url.clone(),
            timeout,
        })
    }

    /// The error for a request that cannot be sent because the name has no known address yet.
    pub(super) fn unresolved(&self) -> Option<ResolveError> {
        let host = self.host();
        (!self.resolver.is_known(host)).then(|| ResolveError::TimedOut(host.to_owned()))
    }

    /// Waits until the name has a known address. Returns at once if it ever had one.
    pub(super) async fn resolve(&self) -> Result<(), ConnectError> {
        let host = self.host();
        if self.resolver.is_known(host) {
            return Ok(());
        }
        let lookup = || async { Ok(self.resolver.addresses(host).await.map(drop)?) };
        retry(RETRY_FOR, lookup).await
    }

    /// Connects. Each attempt uses the addresses that are known by then.
    pub(super) async fn connect(&self) -> Result<UpstreamStream, ConnectError> {
        self.resolve().await?;
        let attempts = retry(self.timeout.min(RETRY_FOR), || self.attempt());
        tokio::time::timeout(self.timeout, attempts)
            .await
            .map_err(|_| ConnectError::Timeout)?
    }

    async fn attempt(&self) -> Result<UpstreamStream, ConnectError> {
        let tcp = self.tcp.clone().oneshot(self.first_hop.clone()).await;
        let mut stream = tcp.map_err(tcp_error)?.into_inner();
        if let Some(proxy) = &self.proxy {
            let authorization = proxy.authorization.as_ref();
            tunnel::open(&mut stream, &tunnel_target(&self.upstream), authorization).await?;
        }
        if !self.upstream.is_https() {
            return Ok(Either::Left(stream));
        }
        let name = ServerName::try_from(self.upstream.host().to_owned())
            .map_err(|error| ConnectError::Io(io::Error::other(error)))?;
        let tls = self.tls.connect(name, stream).await;
        tls.map(Either::Right).map_err(handshake_error)
    }

    fn host(&self) -> &str {
        self.first_hop.host().unwrap_or_default()
    }
}

/// Repeats attempts until one succeeds or fails for good. None starts after `retry_for`.
async fn retry<T, F>(retry_for: Duration, attempt: impl Fn() -> F) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let deadline = Instant::now() + retry_for;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match attempt().await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        // Jitter: requests that failed together do not retry together.
        let next = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        if is_final(&error) || next >= deadline {
            return Err(error);
        }
        tracing::debug!(
            error = &error as &dyn Error,
            "connection attempt failed, retrying"
        );
        tokio::time::sleep_until(next).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Whether another attempt is useless: an operator must correct a certificate or a permission, or the resolver's
/// timeout has passed.
fn is_final(error: &ConnectError) -> bool {
    match error {
        ConnectError::Tls(_) | ConnectError::Resolve(ResolveError::TimedOut(_)) => true,
        ConnectError::Tunnel(error) => !error.is_transient(),
        _ => false,
    }
}

/// hyper-util's error, with the kind of the system's error below it.
fn tcp_error(error: impl Error + Send + Sync + 'static) -> ConnectError {
    let system = error.source().and_then(<dyn Error>::downcast_ref);
    let kind = system.map_or(io::ErrorKind::Other, io::Error::kind);
    ConnectError::Io(io::Error::new(kind, error))
}

fn handshake_error(error: io::Error) -> ConnectError {
    match error.downcast() {
        Ok(tls) => ConnectError::Tls(tls),
        Err(error) => ConnectError::Io(error),
    }
}

/// Host and port for CONNECT, which needs both.
fn tunnel_target(upstream: &Endpoint) -> Authority {
    let host = upstream.authority().host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let target = format!("{host}:{}", upstream.port());
    target
        .parse()
        .expect("the host and port of a valid URL form an authority")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::super::tunnel::TunnelError;
    use super::*;

    fn refused() -> ConnectError {
        ConnectError::Io(io::ErrorKind::ConnectionRefused.into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_away_for_two_seconds_is_reached() {
        for _ in 0..50 {
            let back = Instant::now() + Duration::from_secs(2);
            let attempt = || async move {
                if Instant::now() < back {
                    Err(refused())
                } else {
                    Ok(())
                }
            };
            assert!(retry(RETRY_FOR, attempt).await.is_ok());
            let late = back.elapsed();
            assert!(late <= MAX_PAUSE, "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_attempts_grow_and_attempts_end_after_three_seconds() {
        let start = Instant::now();
        let times = RefCell::new(Vec::new());
        let attempt = || {
            times.borrow_mut().push(start.elapsed());
            async { Err::<(), _>(refused()) }
        };
        assert!(retry(RETRY_FOR, attempt).await.is_err());
        let times = times.into_inner();
        assert!((8..=20).contains(&times.len()), "{times:?}");
        for pair in times.windows(2) {
            let pause = pair[1].abs_diff(pair[0]);
            assert!(pause >= FIRST_PAUSE / 2, "{times:?}");
            assert!(pause <= MAX_PAUSE + Duration::from_millis(1), "{times:?}");
        }
        let last = *times.last().unwrap();
        assert!(last < RETRY_FOR && last + MAX_PAUSE * 2 > RETRY_FOR, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_a_person_has_to_fix_is_returned_at_once() {
        let certificate = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let finals: [&dyn Fn() -> ConnectError; 3] = [
            // As tokio-rustls wraps it.
            &|| handshake_error(io::Error::new(io::ErrorKind::InvalidData, certificate())),
            &|| TunnelError::Refused(407).into(),
            &|| TunnelError::Refused(403).into(),
        ];
        for error in finals {
            let attempts = Cell::new(0);
            let attempt = || {
                attempts.set(attempts.get() + 1);
                async { Err::<(), _>(error()) }
            };
            assert!(retry(RETRY_FOR, attempt).await.is_err());
            assert_eq!(attempts.get(), 1, "{:?}", error());
        }
    }

    #[test]
    fn a_tunnel_target_is_a_host_with_its_port() {
        let target = |url: &str| tunnel_target(&url.parse().unwrap()).to_string();
        assert_eq!(target("https://api.example/x"), "api.example:443");
        assert_eq!(target("https://api.example:8443"), "api.example:8443");
        assert_eq!(target("https://api.example./x"), "api.example:443");
        assert_eq!(target("https://[::1]/"), "[::1]:443");
        assert_eq!(target("http://127.0.0.1"), "127.0.0.1:80");
    }
}
