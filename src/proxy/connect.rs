//! Connects to an upstream: its name, TCP or a tunnel, then TLS. Nothing of a request has been sent by then, so a
//! connect that fails is tried again for a while: an upstream that restarts costs a wait and no request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

use super::forward::find;
use super::socket::Socket;
use super::tunnel::{Tunnel, TunnelError};
use crate::config::{self, OutboundError};
use crate::resolver::{ResolveError, Resolver};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A connection to the upstream.
pub(super) type Connected = MaybeHttpsStream<TokioIo<Socket>>;

/// TCP (or a tunnel), then TLS, with all attempts within `timeout.connect`. A name without a known address is resolved
/// before that, within a timeout of its own.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    to: Uri,
    resolver: Resolver,
    /// The host that is dialled: the upstream's, or the outbound proxy's.
    host: String,
    limit: Duration,
}

/// No connection within `timeout.connect`.
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
pub(super) struct TimedOut;

/// How long attempts go on after the first one began.
const INSIST: Duration = Duration::from_secs(3);
/// The pause after the first attempt; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

impl Connector {
    pub(super) fn new(
        upstream: &config::Upstream,
        tls: ClientConfig,
        resolver: Resolver,
    ) -> Result<Self, OutboundError> {
        let limit = upstream.timeout.connect;
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        // Shared among the addresses of a name: one that swallows everything leaves time for the next.
        tcp.set_connect_timeout(Some(limit));
        let route = upstream.proxy.route(&upstream.url)?;
        let host = match &route {
            None => upstream.url.host(),
            Some(route) => route.uri.host().unwrap_or_default(),
        };
        let host = host.to_owned();
        let dial = Dial {
            tcp,
            tunnel: route.map(|route| Tunnel {
                proxy: route.uri,
                authorization: route.authorization,
            }),
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dial);
        let to = upstream.url.uri().clone();
        Ok(Self {
            https,
            to,
            resolver,
            host,
            limit,
        })
    }

    /// Begins to resolve the name, before the first dial.
    pub(super) fn prefetch(&self) {
        self.resolver.prefetch(&self.host);
    }

    /// Whether dials wait for no name server.
    pub(super) fn is_resolved(&self) -> bool {
        self.resolver.is_known(&self.host)
    }

    /// What keeps dials waiting, where it is the name.
    pub(super) fn unresolved(&self) -> Option<ResolveError> {
        self.resolver.unresolved(&self.host)
    }

    /// Waits until an address is known, which is at once where one ever was.
    pub(super) async fn resolved(&self) -> Result<(), BoxError> {
        if self.is_resolved() {
            return Ok(());
        }
        let attempt = || async { Ok(self.resolver.addresses(&self.host).await.map(drop)?) };
        insisting(INSIST, attempt).await
    }

    /// Connects. Each attempt takes the addresses that are known by then.
    pub(super) async fn connect(&self) -> Result<Connected, BoxError> {
        self.resolved().await?;
        let limit = self.limit;
        let attempt = || self.https.clone().oneshot(self.to.clone());
        tokio::time::timeout(limit, insisting(limit.min(INSIST), attempt))
            .await
            .map_err(|_| TimedOut)?
    }
}

/// Attempts until one works or fails for good, and begins none after `insist`.
async fn insisting<T, F>(insist: Duration, attempt: impl Fn() -> F) -> Result<T, BoxError>
where
    F: Future<Output = Result<T, BoxError>>,
{
    let until = Instant::now() + insist;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match attempt().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        // Half of it is by chance: callers that failed together do not come again together.
        let next = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        if is_final(&*error) || next >= until {
            return Err(error);
        }
        tracing::debug!(error = &*error, "cannot connect, and try again");
        tokio::time::sleep_until(next).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether another attempt would find the same: a certificate or a permission has to be fixed, or a name has been waited
/// for long enough.
fn is_final(error: &(dyn std::error::Error + 'static)) -> bool {
    find::<rustls::Error>(error).is_some()
        || find::<TunnelError>(error).is_some_and(|error| !error.may_pass())
        || matches!(find(error), Some(ResolveError::TimedOut(_)))
}

/// The way to where TLS begins.
#[derive(Clone)]
struct Dial {
    tcp: HttpConnector<Resolver>,
    tunnel: Option<Tunnel>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Socket>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(tunnel) = self.tunnel.clone() else {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move {
                let stream = connecting.await?.into_inner();
                Ok(TokioIo::new(Socket::new(stream)))
            });
        };
        let connecting = self.tcp.call(tunnel.proxy.clone());
        Box::pin(async move {
            let to = destination(&uri)?;
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(Socket::new(tunnel.dig(stream, &to).await?)))
        })
    }
}

/// Host and port, which CONNECT wants both.
fn destination(uri: &Uri) -> Result<http::uri::Authority, http::Error> {
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let host = uri.host().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    Ok(format!("{host}:{port}").parse()?)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io;

    use super::*;

    fn refused() -> BoxError {
        io::Error::from(io::ErrorKind::ConnectionRefused).into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_away_for_two_seconds_is_reached() {
        for _ in 0..50 {
            let began = Instant::now();
            let back = began + Duration::from_secs(2);
            let attempt = || async move {
                if Instant::now() < back {
                    Err(refused())
                } else {
                    Ok(())
                }
            };
            assert!(insisting(INSIST, attempt).await.is_ok());
            let late = back.elapsed();
            assert!(late <= LONGEST_PAUSE, "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_come_apart_by_growing_pauses_and_end_after_three_seconds() {
        let began = Instant::now();
        let times = RefCell::new(Vec::new());
        let attempt = || {
            times.borrow_mut().push(began.elapsed());
            async { Err::<(), _>(refused()) }
        };
        assert!(insisting(INSIST, attempt).await.is_err());
        let times = times.into_inner();
        assert!((8..=20).contains(&times.len()), "{times:?}");
        for pair in times.windows(2) {
            let pause = pair[1].abs_diff(pair[0]);
            assert!(pause >= FIRST_PAUSE / 2, "{times:?}");
            assert!(pause <= LONGEST_PAUSE + Duration::from_millis(1), "{times:?}");
        }
        let last = *times.last().unwrap();
        assert!(last < INSIST && last + LONGEST_PAUSE * 2 > INSIST, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_has_to_mend_is_told_at_once() {
        let certificate = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let finals: [&dyn Fn() -> BoxError; 3] = [
            // As hyper-rustls has it.
            &|| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, certificate())).into(),
            &|| TunnelError::Refused(407).into(),
            &|| io::Error::other(TunnelError::Refused(403)).into(),
        ];
        for error in finals {
            let attempts = Cell::new(0);
            let attempt = || {
                attempts.set(attempts.get() + 1);
                async { Err::<(), _>(error()) }
            };
            assert!(insisting(INSIST, attempt).await.is_err());
            assert_eq!(attempts.get(), 1, "{:?}", error());
        }
    }

    #[test]
    fn a_tunnel_leads_to_a_host_with_its_port() {
        let to = |uri| destination(&Uri::from_static(uri)).unwrap().to_string();
        assert_eq!(to("https://api.example/x"), "api.example:443");
        assert_eq!(to("https://api.example:8443"), "api.example:8443");
        assert_eq!(to("https://api.example./x"), "api.example:443");
        assert_eq!(to("https://[::1]/"), "[::1]:443");
        assert_eq!(to("http://127.0.0.1"), "127.0.0.1:80");
    }
}
