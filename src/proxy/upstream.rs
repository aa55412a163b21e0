//! The way to one upstream: connections over TLS, directly or through the outbound proxy, kept in a
//! pool of each worker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::Service;

use super::body::Upload;
use crate::config::{self, OutboundError};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// One upstream as a worker reaches it.
pub(super) struct Upstream {
    scheme: Scheme,
    authority: http::uri::Authority,
    base: String,
    host: HeaderValue,
    pooled: Client<Connector, Upload>,
    fresh: Client<Connector, Upload>,
}

/// Kept connections are given up before any usual server does.
const POOL_IDLE: Duration = Duration::from_secs(30);

impl Upstream {
    pub(super) fn new(upstream: &config::Upstream, tls: ClientConfig) -> Result<Self, OutboundError> {
        let connector = Connector::new(upstream, tls)?;
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(idle)
                // Only requests that were never begun go out again: hyper hands back no other.
                .retry_canceled_requests(true)
                .set_host(false)
                .build(connector.clone())
        };
        let url = &upstream.url;
        let host = HeaderValue::try_from(url.authority().as_str()).expect("an authority is visible ASCII");
        Ok(Self {
            scheme: if url.is_https() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            authority: url.authority().clone(),
            base: url.path().trim_end_matches('/').to_owned(),
            host,
            pooled: client(usize::MAX),
            fresh: client(0),
        })
    }

    /// What goes into `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URI for a caller's path and query: scheme, host and port are the configuration's, the
    /// rest is the caller's, byte for byte, behind the base path.
    pub(super) fn uri(&self, from: &Uri) -> Result<Uri, http::Error> {
        let asked = from.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if self.base.is_empty() {
            PathAndQuery::try_from(asked)?
        } else {
            PathAndQuery::try_from(format!("{}{asked}", self.base))?
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// Sends a request, on a connection of its own where `is_fresh`.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        is_fresh: bool,
    ) -> Result<Response<Incoming>, Error> {
        let client = if is_fresh { &self.fresh } else { &self.pooled };
        client.request(request).await
    }
}

/// TCP (or a tunnel), then TLS, all within `timeout.connect`.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<Dial>,
    limit: Duration,
}

/// No connection within `timeout.connect`.
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
pub(super) struct TimedOut;

impl Connector {
    fn new(upstream: &config::Upstream, tls: ClientConfig) -> Result<Self, OutboundError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let dial = match upstream.proxy.route(&upstream.url)? {
            None => Dial::Direct(tcp),
            Some(route) => {
                let tunnel = Tunnel::new(route.uri, tcp);
                Dial::Tunnel(match route.authorization {
                    None => tunnel,
                    Some(authorization) => tunnel.with_auth(authorization),
                })
            }
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dial);
        Ok(Self {
            https,
            limit: upstream.timeout.connect,
        })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.limit, self.https.call(uri));
        Box::pin(async move { connecting.await.map_err(|_| TimedOut)? })
    }
}

#[derive(Clone)]
enum Dial {
    Direct(HttpConnector),
    Tunnel(Tunnel<HttpConnector>),
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async move { Ok(connecting.await?) })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async move { Ok(connecting.await?) })
            }
        }
    }
}
