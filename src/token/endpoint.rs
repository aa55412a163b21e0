//! The token source of the daemon: one request to the identity service, in the configured shape.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy};
use rustls::ClientConfig;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::failure::{FetchError, FetchErrorKind};
use super::refresher::TokenSource;
use super::response::{self, Grant};
use super::secret_encoding::SecretMatcher;
use super::shapes::TokenRequest;
use crate::config::{OutboundProxy, ProxyRoute, Upstream};
use crate::telemetry::with_causes;
use crate::tls;
use crate::upstream::{ResolveError, Resolver};

/// An upstream's token endpoint.
///
/// Credentials are read again for each request, redirects are never followed, and no error contains the URL: with
/// [`Query`](crate::config::ClientAuth::Query) it holds the secret.
pub struct TokenEndpoint {
    upstream: Upstream,
    tls: ClientConfig,
    resolver: Resolver,
    clock: Clock,
    /// The fingerprint of the last fetch's credentials; `None` if they could not be read.
    used: ArcSwapOption<[u8; 32]>,
    /// Held while credentials are read.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// The limit for a token request with its connection. Reading credentials and resolving the name have limits of their
/// own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits of a response, the head's as for the API.
const MAX_BODY: usize = 64 << 10;
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 1000;
/// How often the credentials are read while a change is awaited. Not every mount supports a watch.
const CHANGE_INTERVAL: Duration = Duration::from_millis(500);

const HEAD_TOO_LARGE: &str = "the response's head is over 64 KiB or 1,000 fields; check token_url";
const BODY_TOO_LARGE: &str = "the response is over 64 KiB, which is no token; check token_url";
const READ_HANGS: &str = "reading the credentials takes over 5 s; check the file system that they are on";
const CHECK: &str = "bondgate check --live shows whether the name, the proxy, a firewall or TLS is at fault";
const SANDBOXED: &str = "if the proxy's port has changed, restart bondgate: its sandbox allows the old one";

struct Credentials {
    id: SecretString,
    secret: SecretString,
    route: Option<ProxyRoute>,
}

impl TokenEndpoint {
    /// The endpoint of an upstream, reached with these TLS settings; `clock` limits a fetch.
    #[must_use]
    pub fn new(upstream: Upstream, tls: ClientConfig, resolver: Resolver, clock: Clock) -> Self {
        Self {
            upstream,
            tls,
            resolver,
            clock,
            used: ArcSwapOption::empty(),
            reading: Arc::default(),
        }
    }

    /// Reads the credentials on a blocking thread, since their file system may hang. While a read hangs, no second one
    /// is started.
    async fn credentials(&self) -> Result<Credentials, FetchError> {
        let read = async {
            let reading = self.reading.clone().lock_owned().await;
            let upstream = self.upstream.clone();
            tokio::task::spawn_blocking(move || {
                let _reading = reading;
                Credentials::read(&upstream)
            })
            .await
        };
        match self.clock.timeout(READ_TIMEOUT, read).await {
            Some(Ok(read)) => read.map_err(|error| FetchErrorKind::Secret.error(with_causes(&*error))),
            None | Some(Err(_)) => Err(FetchErrorKind::Secret.error(READ_HANGS)),
        }
    }

    /// Resolves the name of the endpoint or proxy first: reqwest's `connect_timeout` would include it.
    async fn resolve(&self, route: Option<&ProxyRoute>) -> Result<(), FetchError> {
        let host = match route {
            None => self.upstream.token_url.host(),
            Some(route) => route.uri.host().unwrap_or_default(),
        };
        let resolved = self.resolver.addresses(host).await;
        resolved.map(drop).map_err(|error| {
            let kind = match &error {
                ResolveError::TimedOut(_) => FetchErrorKind::Timeout,
                ResolveError::Failed { .. } => FetchErrorKind::Network,
            };
            self.failed(kind, format!("{}; {CHECK}", with_causes(&error)))
        })
    }

    async fn exchange(&self, credentials: Credentials) -> Result<Grant, FetchError> {
        let upstream = &self.upstream;
        let Credentials { id, secret, route } = credentials;
        let (endpoint, auth) = (&upstream.token_url, upstream.client_auth);
        let token_request = TokenRequest::new(endpoint, auth, &upstream.scope, &id, &secret);
        let client = http_client(upstream, self.tls.clone(), self.resolver.clone(), route);
        let mut request = client
            .map_err(|error| self.http_error(error))?
            .post(token_request.url.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if endpoint.host().ends_with('.') {
            request = request.header(HOST, endpoint.host_field());
        }
        if let Some(authorization) = token_request.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request = match token_request.body {
            Some(body) => request.body(Bytes::from_owner(body)),
            // hyper omits the length of an empty body, and gateways respond 411 to that.
            None => request.header(CONTENT_LENGTH, 0),
        };
        let mut response = request.send().await.map_err(|error| self.http_error(error))?;
        let fields = response.headers().iter();
        let sizes = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
        if sizes.sum::<usize>() > MAX_HEAD {
            return Err(self.failed(FetchErrorKind::Malformed, HEAD_TOO_LARGE));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.http_error(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(self.failed(FetchErrorKind::Malformed, BODY_TOO_LARGE));
            }
            body.extend_from_slice(&chunk);
        }
        let secret = SecretMatcher::new(&id, &secret);
        response::parse(response.status(), response.headers(), &body, &secret)
    }

    fn failed(&self, kind: FetchErrorKind, reason: impl Display) -> FetchError {
        let endpoint = &self.upstream.token_url;
        let (host, port) = (endpoint.host(), endpoint.port());
        let is_direct = self.upstream.proxy == OutboundProxy::Direct;
        let proxy = if is_direct { "" } else { " via the proxy" };
        kind.error(format!("token request to {host}:{port}{proxy} failed: {reason}"))
    }

    fn http_error(&self, error: reqwest::Error) -> FetchError {
        use FetchErrorKind::{Malformed, Network, Timeout};
        let error = error.without_url();
        let causes = || std::iter::successors(error.source(), |&cause| cause.source());
        let cause = causes()
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string);
        let http = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>());
        let mut systems = causes().filter_map(|cause| cause.downcast_ref::<io::Error>());
        let is_denied = systems.any(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let limit = self.upstream.timeout.connect;
        let (kind, reason) = match http {
            _ if error.is_timeout() => (
                Timeout,
                format!("no connection within {limit:?} (timeout.connect); {CHECK}"),
            ),
            Some(http) if http.is_parse_too_large() => (Malformed, HEAD_TOO_LARGE.to_owned()),
            Some(http) if http.is_parse() => (
                Malformed,
                format!("the response is no HTTP/1.1: {http}; check token_url"),
            ),
            Some(_) => (Network, format!("the response is incomplete ({cause}); {CHECK}")),
            None if tls::is_version_1(&error) => {
                (Network, format!("its certificate is {}; {CHECK}", tls::VERSION_1))
            }
            None if is_denied => (Network, format!("cannot connect ({cause}); {SANDBOXED}")),
            None => (Network, format!("cannot connect ({cause}); {CHECK}")),
        };
        self.failed(kind, reason)
    }
}

/// The client for token requests, and for `bondgate check --live`: through the outbound proxy of `route`, without
/// redirects and retries.
pub fn http_client(
    upstream: &Upstream,
    tls: ClientConfig,
    resolver: Resolver,
    route: Option<ProxyRoute>,
) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .http1_max_headers(MAX_FIELDS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .no_proxy()
        .dns_resolver(resolver)
        .connect_timeout(upstream.timeout.connect)
        .user_agent(concat!("bondgate/", env!("CARGO_PKG_VERSION")));
    if let Some(route) = route {
        let mut proxy = Proxy::all(route.uri.to_string())?;
        if let Some(authorization) = route.authorization {
            proxy = proxy.custom_http_auth(authorization);
        }
        builder = builder.proxy(proxy);
    }
    builder.build()
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self) -> Result<Grant, FetchError> {
        let credentials = self.credentials().await;
        let fingerprint = credentials.as_ref().ok().map(Credentials::fingerprint);
        self.used.store(fingerprint.map(Arc::new));
        let credentials = credentials?;
        self.resolve(credentials.route.as_ref()).await?;
        let exchange = self.exchange(credentials);
        let exchanged = self.clock.timeout(REQUEST_TIMEOUT, exchange).await;
        exchanged.unwrap_or_else(|| {
            let reason = format!("no response within {REQUEST_TIMEOUT:?}; {CHECK}");
            Err(self.failed(FetchErrorKind::Timeout, reason))
        })
    }

    async fn changed(&self) {
        loop {
            let now = self.clock.now().monotonic;
            self.clock.sleep_until(now + CHANGE_INTERVAL).await;
            // Credentials that cannot be read are no reason to try again.
            if let Ok(credentials) = self.credentials().await
                && self.used.load().as_deref() != Some(&credentials.fingerprint())
            {
                return;
            }
        }
    }
}

impl Credentials {
    fn read(upstream: &Upstream) -> Result<Self, Box<dyn Error + Send + Sync>> {
        // Both may be replaced while they are read: if the identifier changed meanwhile, read the secret again.
        let before = upstream.client_id.load()?;
        let mut secret = upstream.client_secret.load()?;
        let id = upstream.client_id.load()?;
        if id.expose_secret() != before.expose_secret() {
            secret = upstream.client_secret.load()?;
        }
        let route = upstream.proxy.route(&upstream.token_url)?;
        Ok(Self { id, secret, route })
    }

    /// Distinguishes credentials without keeping them.
    fn fingerprint(&self) -> [u8; 32] {
        let proxy = self.route.as_ref().map(|route| route.uri.to_string());
        let login = self.route.as_ref().and_then(|route| route.authorization.as_ref());
        let parts = [
            self.id.expose_secret().as_bytes(),
            self.secret.expose_secret().as_bytes(),
            proxy.as_deref().unwrap_or_default().as_bytes(),
            login.map_or(b"", |login| login.as_bytes()),
        ];
        Sha256::digest(&*Zeroizing::new(parts.join(&0))).into()
    }
}
