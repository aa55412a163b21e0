//! Connects to an upstream: name resolution, TCP, a CONNECT tunnel where an outbound proxy is configured, then TLS.

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::ServiceExt as _;

use super::destination::Destination;
use super::error::ConnectError;
use super::refused_login::RefusedLogin;
use super::resolve_error::{ResolveError, ResolveFailure};
use super::resolver::Resolver;
use super::tunnel::{self, TunnelError};
use crate::config::{Endpoint, ProxyRoute};
use crate::tls;

/// A byte stream to the upstream. Plain TCP is for tests on loopback addresses.
pub(super) type UpstreamStream = Either<TcpStream, TlsStream<TcpStream>>;

/// Opens connections to one host. An attempt that fails is repeated for a while, since no byte of a request has been sent:
/// an upstream that restarts delays requests and fails none.
pub(super) struct Connector {
    resolver: Resolver,
    tcp: HttpConnector<Resolver>,
    /// Where TCP connects to: the outbound proxy, or else the host.
    first_hop: Uri,
    proxy: Option<ProxyRoute>,
    refused_login: RefusedLogin,
    tls: TlsConnector,
    endpoint: Endpoint,
    destination: Destination,
    /// For all attempts together, once the name is resolved.
    timeout: Duration,
}

/// What connections share, besides where they lead.
#[derive(Clone)]
pub struct Network {
    /// TLS with the trusted certificates.
    pub tls: ClientConfig,
    /// Resolves names.
    pub resolver: Resolver,
    /// The login that the outbound proxy has refused.
    pub refused_login: RefusedLogin,
}

impl Network {
    /// Connections with these TLS settings. Nothing is known yet.
    #[must_use]
    pub fn new(tls: ClientConfig) -> Self {
        Self {
            tls,
            resolver: Resolver::default(),
            refused_login: RefusedLogin::default(),
        }
    }
}

/// How long attempts are repeated.
const RETRY_FOR: Duration = Duration::from_secs(3);
/// The pause after the first attempt; it doubles up to `MAX_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(400);

impl Connector {
    /// Connections to `endpoint`, for calls of a kind that errors name.
    pub(super) fn new(
        call: &'static str,
        endpoint: &Endpoint,
        proxy: Option<ProxyRoute>,
        timeout: Duration,
        network: Network,
    ) -> Self {
        let Network {
            tls,
            resolver,
            refused_login,
        } = network;
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        // Divided among the addresses of a name: one that drops packets leaves time for the next.
        tcp.set_connect_timeout(Some(timeout));
        let first_hop = proxy.as_ref().map_or(endpoint.uri(), |proxy| &proxy.uri);
        Self {
            resolver,
            tcp,
            first_hop: first_hop.clone(),
            destination: Destination::new(call, endpoint, proxy.as_ref()),
            proxy,
            refused_login,
            tls: TlsConnector::from(Arc::new(tls)),
            endpoint: endpoint.clone(),
            timeout,
        }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The error for a request that cannot be sent because the name has no known address yet.
    pub(super) fn unresolved(&self) -> Option<ConnectError> {
        let host = self.first_hop();
        let error = || ResolveError {
            name: host.to_owned(),
            reason: ResolveFailure::Silent,
        };
        let is_known = self.resolver.known(host).is_some();
        (!is_known).then(|| self.destination.unresolved(&error()))
    }

    /// Waits until the name has a known address. Returns at once if it ever had one.
    pub(super) async fn resolve(&self) -> Result<(), ConnectError> {
        let host = self.first_hop();
        if self.resolver.known(host).is_some() {
            return Ok(());
        }
        let lookup = || async {
            let found = self.resolver.addresses(host).await;
            found
                .map(drop)
                .map_err(|error| self.destination.unresolved(&error))
        };
        retry(RETRY_FOR, lookup).await
    }

    /// Connects once, to find out which step fails.
    pub(super) async fn try_once(&self) -> Result<UpstreamStream, ConnectError> {
        self.attempt(Instant::now() + self.timeout).await
    }

    /// Connects. Each attempt uses the addresses that are known by then.
    pub(super) async fn connect(&self) -> Result<UpstreamStream, ConnectError> {
        self.resolve().await?;
        let deadline = Instant::now() + self.timeout;
        retry(self.timeout.min(RETRY_FOR), || self.attempt(deadline)).await
    }

    async fn attempt(&self, deadline: Instant) -> Result<UpstreamStream, ConnectError> {
        let tcp = timeout_at(deadline, self.tcp.clone().oneshot(self.first_hop.clone()));
        let mut stream = match tcp.await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(error)) => return Err(self.tcp_failed(error.source().and_then(<dyn Error>::downcast_ref))),
            Err(_) => return Err(self.tcp_failed(None)),
        };
        if let Some(proxy) = &self.proxy {
            let login = proxy.authorization.as_ref();
            self.open_tunnel(&mut stream, login, deadline).await?;
        }
        if !self.endpoint.is_https() {
            return Ok(Either::Left(stream));
        }
        let name = ServerName::try_from(self.endpoint.host().to_owned())
            .expect("the host of an endpoint is a name or an address");
        let handshake = timeout_at(deadline, self.tls.connect(name, stream));
        let (tls, is_asked) = tls::with_request(handshake).await;
        let failed = |error: Option<&io::Error>| self.destination.handshake_failed(error, is_asked);
        let tls = tls.map_err(|_| failed(None))?;
        tls.map(Either::Right).map_err(|error| failed(Some(&error)))
    }

    /// Opens a tunnel through the outbound proxy. A login that it has refused is not sent again.
    async fn open_tunnel(
        &self,
        stream: &mut TcpStream,
        login: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<(), ConnectError> {
        let sent = login.filter(|login| !self.refused_login.is(login));
        let target = tunnel_target(&self.endpoint);
        let failed = |error: Option<&TunnelError>| self.destination.tunnel_failed(error);
        let opened = timeout_at(deadline, tunnel::open(stream, &target, sent)).await;
        let opened = opened.map_err(|_| failed(None))?;
        if let (Err(error), Some(login)) = (&opened, sent)
            && error.is_refused_login()
        {
            self.refused_login.set(login);
        }
        opened.map_err(|error| failed(Some(&error)))
    }

    fn tcp_failed(&self, error: Option<&io::Error>) -> ConnectError {
        let addresses = self.resolver.known(self.first_hop());
        self.destination
            .tcp_failed(addresses.as_deref().unwrap_or_default(), error)
    }

    /// The host that is resolved and connected to.
    pub(super) fn first_hop(&self) -> &str {
        self.first_hop.host().unwrap_or_default()
    }

    pub(super) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
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
        if error.is_final || next >= deadline {
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

    use super::super::tunnel::ProxyLogin;
    use super::*;

    fn destination() -> Destination {
        Destination::new("API request", &"https://api.example".parse().unwrap(), None)
    }

    fn refused() -> ConnectError {
        destination().tcp_failed(&[], Some(&io::ErrorKind::ConnectionRefused.into()))
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
            &|| {
                let error = io::Error::new(io::ErrorKind::InvalidData, certificate());
                destination().handshake_failed(Some(&error), false)
            },
            &|| destination().tunnel_failed(Some(&TunnelError::Refused(407, ProxyLogin::Basic))),
            &|| destination().tunnel_failed(Some(&TunnelError::Refused(403, ProxyLogin::Unnamed))),
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
