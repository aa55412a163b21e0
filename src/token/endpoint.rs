//! The token source of the daemon: one request to the identity service, in the configured shape.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::failure::{FetchError, FetchErrorKind};
use super::refresher::TokenSource;
use super::refusal::TokenRequestContext;
use super::response::{self, Grant};
use super::secret_encoding::SecretMatcher;
use super::shapes::TokenRequest;
use crate::config::{ProxyRoute, Upstream};
use crate::problems::network::call_failed_once;
use crate::problems::{Problem, token as problems};
use crate::telemetry::with_causes;
use crate::tls::{HandshakeFailure, handshake_problem};
use crate::upstream::{ConnectError, ConnectErrorKind, Network, Way};

/// An upstream's token endpoint.
///
/// Credentials are read again for each request, redirects are never followed, and no error contains the URL: with
/// [`Query`](crate::config::ClientAuth::Query) it holds the secret.
pub struct TokenEndpoint {
    upstream: Upstream,
    network: Network,
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

/// The kind of calls, as errors name it.
const CALL: &str = "token request";

struct Credentials {
    id: SecretString,
    secret: SecretString,
    route: Option<ProxyRoute>,
}

impl TokenEndpoint {
    /// The endpoint of an upstream; `clock` limits a fetch.
    #[must_use]
    pub fn new(upstream: Upstream, network: Network, clock: Clock) -> Self {
        Self {
            upstream,
            network,
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
            Some(Ok(read)) => read.map_err(|problem| FetchErrorKind::Secret.error(problem)),
            None | Some(Err(_)) => Err(FetchErrorKind::Secret.error(problems::credentials_hang())),
        }
    }

    /// Resolves the name of the endpoint or proxy first: reqwest's `connect_timeout` would include it.
    async fn resolve(&self, route: Option<ProxyRoute>) -> Result<(), FetchError> {
        let resolved = self.way(route).resolve().await;
        resolved.map_err(connect_error)
    }

    /// The way to the endpoint, step by step.
    fn way(&self, route: Option<ProxyRoute>) -> Way {
        let Upstream {
            token_url, timeout, ..
        } = &self.upstream;
        Way::new(CALL, token_url, route, timeout.connect, self.network.clone())
    }

    async fn exchange(&self, credentials: Credentials) -> Result<Grant, FetchError> {
        let upstream = &self.upstream;
        let Credentials { id, secret, route } = credentials;
        if login(route.as_ref()).is_some_and(|login| self.network.refused_login.is(login)) {
            self.way(route.clone()).walk().await.map_err(connect_error)?;
        }
        let (endpoint, auth) = (&upstream.token_url, upstream.client_auth);
        let token_request = TokenRequest::new(endpoint, auth, &upstream.scope, &id, &secret);
        let client = http_client(upstream, self.network.clone(), route.clone());
        let client = client.expect("the settings of the client are constant, and the proxy is a valid URL");
        let mut request = client
            .post(token_request.url.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
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
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.http_error(error, route).await),
        };
        let fields = response.headers().iter();
        let sizes = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
        if sizes.sum::<usize>() > MAX_HEAD {
            return Err(FetchErrorKind::Malformed.error(problems::response_too_large(endpoint.host())));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchErrorKind::Malformed.error(problems::response_too_large(endpoint.host())));
            }
            body.extend_from_slice(&chunk);
        }
        let request = TokenRequestContext {
            upstream,
            client_id: id.expose_secret(),
            secret: SecretMatcher::new(&secret),
        };
        response::parse(response.status(), response.headers(), &body, &request)
    }

    /// Why a request got no response. reqwest hides how far a connection came, so that the way is walked once more. A login
    /// that the outbound proxy has just refused is not sent again.
    async fn http_error(&self, error: reqwest::Error, route: Option<ProxyRoute>) -> FetchError {
        if !error.is_connect() {
            return self.broken(&error);
        }
        let error = error.without_url();
        // hyper-util's error has no other sign of a 407.
        let is_login_refused = with_causes(&error).contains("proxy authorization required");
        if let Some(login) = login(route.as_ref()).filter(|_| is_login_refused) {
            self.network.refused_login.set(login);
        }
        let walked = self.way(route).walk().await.map_err(connect_error);
        let once = |_| FetchErrorKind::Network.error(call_failed_once(CALL, self.reason(&error)));
        walked.map_or_else(|error| error, once)
    }

    /// Why a connection failed, in plain words.
    fn reason(&self, error: &reqwest::Error) -> String {
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        match handshake_problem(error, CALL, &self.to(), false) {
            Some((_, problem)) => problem.cause().to_owned(),
            None => match causes.find_map(|cause| cause.downcast_ref::<io::Error>()) {
                Some(error) => error.kind().to_string(),
                None => "there was no connection".to_owned(),
            },
        }
    }

    /// Why a response that was awaited or had begun broke off.
    fn broken(&self, error: &reqwest::Error) -> FetchError {
        let (host, to) = (self.upstream.token_url.host(), self.to());
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        let http = causes.find_map(|cause| cause.downcast_ref::<hyper::Error>());
        // In TLS 1.3 a server refuses a client after the handshake.
        if let Some((HandshakeFailure::Alert, problem)) = handshake_problem(error, CALL, &to, true) {
            return FetchErrorKind::Network.error(problem);
        }
        match http {
            Some(http) if http.is_parse_too_large() => {
                FetchErrorKind::Malformed.error(problems::response_too_large(host))
            }
            Some(http) if http.is_parse() => FetchErrorKind::Malformed.error(problems::not_http(to)),
            _ => FetchErrorKind::Network.error(problems::cut_short(to)),
        }
    }

    /// Host and port.
    fn to(&self) -> String {
        let endpoint = &self.upstream.token_url;
        format!("{}:{}", endpoint.host(), endpoint.port())
    }
}

fn login(route: Option<&ProxyRoute>) -> Option<&HeaderValue> {
    route?.authorization.as_ref()
}

fn connect_error(error: ConnectError) -> FetchError {
    let kind = match error.kind {
        ConnectErrorKind::DnsTimeout | ConnectErrorKind::Timeout => FetchErrorKind::Timeout,
        _ => FetchErrorKind::Network,
    };
    kind.error(error.problem)
}

/// The client for token requests, and for `bondgate check --live`: through the outbound proxy of `route`, without
/// redirects and retries.
pub fn http_client(
    upstream: &Upstream,
    network: Network,
    route: Option<ProxyRoute>,
) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(network.tls)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .http1_max_headers(MAX_FIELDS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .no_proxy()
        .dns_resolver(network.resolver)
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
        let used = self.used.swap(fingerprint.map(Arc::new));
        let credentials = credentials?;
        if used.as_deref() != fingerprint.as_ref() {
            credentials.warn(&self.upstream);
        }
        self.resolve(credentials.route.clone()).await?;
        let exchange = self.exchange(credentials);
        let exchanged = self.clock.timeout(REQUEST_TIMEOUT, exchange).await;
        exchanged.unwrap_or_else(|| {
            let problem = problems::silent(self.to(), REQUEST_TIMEOUT.as_secs());
            Err(FetchErrorKind::Timeout.error(problem))
        })
    }

    async fn changed(&self) {
        loop {
            let now = self.clock.now().monotonic;
            self.clock.sleep_until(now + CHANGE_INTERVAL).await;
            // Credentials that cannot be read are no reason to try again.
            if let Ok(true) = self.check().await {
                return;
            }
        }
    }

    async fn check(&self) -> Result<bool, FetchError> {
        let fingerprint = self.credentials().await?.fingerprint();
        Ok(self.used.load().as_deref() != Some(&fingerprint))
    }
}

impl Credentials {
    fn read(upstream: &Upstream) -> Result<Self, Problem> {
        // Both may be replaced while they are read: if the identifier changed meanwhile, read the secret again.
        let before = upstream.client_id.load()?;
        let mut secret = upstream.client_secret.load()?;
        let id = upstream.client_id.load()?;
        if id.expose_secret() != before.expose_secret() {
            secret = upstream.client_secret.load()?;
        }
        upstream.check_credential("client_id", &id)?;
        upstream.check_credential("client_secret", &secret)?;
        let route = upstream.proxy.route(&upstream.token_url)?;
        Ok(Self { id, secret, route })
    }

    /// Logs what is odd about them.
    fn warn(&self, upstream: &Upstream) {
        let id = ("client_id", &upstream.client_id, &self.id);
        for (key, source, secret) in [id, ("client_secret", &upstream.client_secret, &self.secret)] {
            if let Some(warning) = source.warn_of(secret) {
                let (problem, upstream) = (warning.code(), &upstream.name);
                tracing::warn!(upstream, key, problem, %warning, "credential is probably not meant like this");
            }
        }
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
