//! The real source of tokens: one request to the identity service, whatever the shape.

use std::error::Error as _;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Proxy, Url};
use rustls::ClientConfig;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::failure::{FetchError, FetchErrorKind};
use super::refresher::TokenSource;
use super::response::{self, Grant};
use super::shape::TokenRequest;
use super::wiped::{self, Spellings};
use crate::config::{OutboundProxy, ProxyRoute, Upstream};
use crate::tls;
use crate::upstream::{ResolveError, Resolver};

/// An upstream's token endpoint. Secrets are read again for each request, redirects are never
/// followed, and no error names a URL: with [`Query`](crate::config::ClientAuth::Query) it holds the secret.
pub struct TokenEndpoint {
    upstream: Upstream,
    tls: ClientConfig,
    resolver: Resolver,
    clock: Clock,
    /// What the last fetch was begun with; nothing where it could not be read.
    used: Mutex<Option<Fingerprint>>,
    /// The read that is under way.
    reading: tokio::sync::Mutex<Option<JoinHandle<Result<Credentials, FetchError>>>>,
}

/// One token request, connecting included. Reading the credentials and resolving the name come before it, each with a
/// timeout of its own.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long reading the credentials may take, and how long one that hangs from before is waited for.
const LONGEST_READ: Duration = Duration::from_secs(5);
/// The most that is read of a reply.
const LONGEST_REPLY: usize = 64 << 10;
/// The most bytes and fields in a reply's head, as in the API's.
const LONGEST_HEAD: usize = 64 << 10;
const MOST_FIELDS: usize = 1000;
const TOO_LARGE: &str = "the head of the identity service's response is over 64 KiB or 1,000 fields, which no token needs; check token_url";
/// How often files are looked at while a change of them is waited for. They are read and not watched:
/// no watch sees every mount, and nobody waits but where somebody has to mend something.
const LOOK: Duration = Duration::from_millis(500);

/// The mend of a network's troubles, which are many.
const WALK: &str =
    "bondgate check --live finds out whether it is the name, the proxy, a firewall or a certificate";

/// The mend of a connection that this machine does not let out.
const ANOTHER_PORT: &str = "where the outbound proxy has another port than at the start, restart bondgate, since its \
sandbox holds to that one";

/// What a fetch takes from files, the environment or systemd.
struct Credentials {
    id: SecretString,
    secret: SecretString,
    route: Option<ProxyRoute>,
}

/// Tells credentials from others without keeping them.
type Fingerprint = [u8; 32];

impl TokenEndpoint {
    /// The endpoint of an upstream, reached with these TLS settings; `clock` ends a fetch that takes
    /// too long.
    #[must_use]
    pub fn new(upstream: Upstream, tls: ClientConfig, resolver: Resolver, clock: Clock) -> Self {
        Self {
            upstream,
            tls,
            resolver,
            clock,
            used: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Reads off this thread, since a file may be on a file system that hangs; a read that hangs is
    /// waited for and not joined by another.
    async fn credentials(&self) -> Result<Credentials, FetchError> {
        let hangs = || {
            let what = "reading the credentials does not return; check the file system that they are on";
            FetchError::new(FetchErrorKind::Secret, what)
        };
        let mut reading = self.reading.lock().await;
        if let Some(hanging) = reading.as_mut() {
            // What it brings in the end may be old.
            let ended = self.clock.timeout(LONGEST_READ, hanging).await;
            ended.ok_or_else(hangs)?.ok();
        }
        let upstream = self.upstream.clone();
        let new = reading.insert(tokio::task::spawn_blocking(move || Credentials::read(&upstream)));
        let ended = self.clock.timeout(LONGEST_READ, new).await.ok_or_else(hangs)?;
        *reading = None;
        ended.unwrap_or_else(|_| Err(hangs()))
    }

    /// Waits until an address of what is dialled is known: reqwest's `connect_timeout` is for what follows.
    async fn resolve(&self, route: Option<&ProxyRoute>) -> Result<(), FetchError> {
        let host = match route {
            None => self.upstream.token_url.host(),
            Some(route) => route.uri.host().unwrap_or_default(),
        };
        let resolved = self.resolver.addresses(host).await;
        resolved.map(drop).map_err(|error| self.unresolved(&error))
    }

    async fn exchange(&self, credentials: Credentials) -> Result<Grant, FetchError> {
        let upstream = &self.upstream;
        let Credentials { id, secret, route } = credentials;
        let shaped = TokenRequest::new(
            &upstream.token_url,
            upstream.client_auth,
            &upstream.scope,
            &id,
            &secret,
        );
        let url = Url::parse(shaped.url.expose_secret())
            .map_err(|_| FetchError::new(FetchErrorKind::Malformed, "token_url is no URL"))?;
        let mut request = self
            .client(route)?
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if upstream.token_url.host().ends_with('.') {
            request = request.header(HOST, upstream.token_url.host_field());
        }
        if let Some(authorization) = shaped.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request = match shaped.body {
            Some(body) => request.body(wiped::bytes(body)),
            // hyper says nothing of a body that is not there; gateways answer that with 411.
            None => request.header(CONTENT_LENGTH, 0),
        };
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let lines = response.headers().iter();
        let head: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head > LONGEST_HEAD {
            return Err(FetchError::new(FetchErrorKind::Malformed, TOO_LARGE));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_REPLY));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > LONGEST_REPLY {
                return Err(FetchError::new(
                    FetchErrorKind::Malformed,
                    "the identity service's answer is over 64 KiB, which is no token",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        let spellings = Spellings::of(&id, &secret);
        response::parse(response.status(), response.headers(), &body, &spellings)
    }

    fn client(&self, route: Option<ProxyRoute>) -> Result<Client, FetchError> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .http1_max_headers(MOST_FIELDS)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .no_proxy()
            .dns_resolver(self.resolver.clone())
            .connect_timeout(self.upstream.timeout.connect)
            .user_agent(concat!("bondgate/", env!("CARGO_PKG_VERSION")));
        let unusable = |_| FetchError::new(FetchErrorKind::Network, "the HTTP client cannot be set up");
        if let Some(route) = route {
            let mut proxy = Proxy::all(route.uri.to_string()).map_err(unusable)?;
            if let Some((user, password)) = route.credentials() {
                proxy = proxy.basic_auth(&user, &password);
            }
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(unusable)
    }

    fn place(&self) -> String {
        let endpoint = &self.upstream.token_url;
        let through = match self.upstream.proxy {
            OutboundProxy::Direct => "",
            OutboundProxy::Environment | OutboundProxy::Url(_) => " through the outbound proxy",
        };
        format!(
            "the identity service {}:{}{through}",
            endpoint.host(),
            endpoint.port()
        )
    }

    fn too_slow(&self) -> FetchError {
        FetchError::new(
            FetchErrorKind::Timeout,
            format!("{} did not answer within {DEADLINE:?}", self.place()),
        )
    }

    fn unresolved(&self, error: &ResolveError) -> FetchError {
        let (kind, reason) = match error {
            ResolveError::TimedOut(_) => (FetchErrorKind::Timeout, error.to_string()),
            ResolveError::Failed { source, .. } => (FetchErrorKind::Network, format!("{error} ({source})")),
        };
        FetchError::new(kind, format!("cannot reach {}: {reason}; {WALK}", self.place()))
    }

    fn unreachable(&self, error: reqwest::Error) -> FetchError {
        if error.is_timeout() {
            let limit = self.upstream.timeout.connect;
            return FetchError::new(
                FetchErrorKind::Timeout,
                format!(
                    "no connection to {} within {limit:?} (timeout.connect); {WALK}",
                    self.place()
                ),
            );
        }
        if let Some(broken) = self.broken(&error) {
            return broken;
        }
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut cause = error.source();
        let mut is_denied = false;
        while let Some(deeper) = cause {
            reason = deeper.to_string();
            let system = deeper.downcast_ref::<io::Error>();
            is_denied |= system.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            cause = deeper.source();
        }
        if tls::is_version_1(&error) {
            reason = format!("its certificate is {}", tls::VERSION_1);
        }
        let mend = if is_denied { ANOTHER_PORT } else { WALK };
        FetchError::new(
            FetchErrorKind::Network,
            format!("cannot reach {}: {reason}; {mend}", self.place()),
        )
    }

    /// The failure where the identity service was reached, and what it sent is not a whole HTTP response.
    fn broken(&self, error: &reqwest::Error) -> Option<FetchError> {
        let mut http: Option<&hyper::Error> = None;
        let mut reason = String::new();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            http = http.or_else(|| deeper.downcast_ref());
            reason = deeper.to_string();
            cause = deeper.source();
        }
        let http = http?;
        Some(if http.is_parse_too_large() {
            FetchError::new(FetchErrorKind::Malformed, TOO_LARGE)
        } else if http.is_parse() {
            FetchError::new(
                FetchErrorKind::Malformed,
                format!(
                    "{} sent no valid HTTP/1.1 response ({http}); check token_url",
                    self.place()
                ),
            )
        } else {
            FetchError::new(
                FetchErrorKind::Network,
                format!(
                    "{} was reached, but its response was not whole: {reason}; {WALK}",
                    self.place()
                ),
            )
        })
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self) -> Result<Grant, FetchError> {
        let credentials = self.credentials().await;
        let fingerprint = credentials.as_ref().ok().map(Credentials::fingerprint);
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = fingerprint;
        let credentials = credentials?;
        self.resolve(credentials.route.as_ref()).await?;
        let fetched = self.clock.timeout(DEADLINE, self.exchange(credentials)).await;
        fetched.unwrap_or_else(|| Err(self.too_slow()))
    }

    async fn changed(&self) {
        loop {
            let now = self.clock.now().monotonic;
            self.clock.sleep_until(now + LOOK).await;
            // What cannot be read, or not yet, is nothing to try with.
            if let Ok(credentials) = self.credentials().await {
                let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
                if used != Some(credentials.fingerprint()) {
                    return;
                }
            }
        }
    }
}

impl Credentials {
    fn read(upstream: &Upstream) -> Result<Self, FetchError> {
        // An identifier that was replaced while the secret was read may belong to another secret than
        // this one: both are replaced together, so that they are read again.
        let before = upstream.client_id.load()?;
        let mut secret = upstream.client_secret.load()?;
        let id = upstream.client_id.load()?;
        if id.expose_secret() != before.expose_secret() {
            secret = upstream.client_secret.load()?;
        }
        let route = upstream.proxy.route(&upstream.token_url)?;
        Ok(Self { id, secret, route })
    }

    fn fingerprint(&self) -> Fingerprint {
        let proxy = self.route.as_ref().map(|route| route.uri.to_string());
        let login = self.route.as_ref().and_then(|route| route.authorization.as_ref());
        let mut digest = Sha256::new();
        for part in [
            self.id.expose_secret().as_bytes(),
            self.secret.expose_secret().as_bytes(),
            proxy.as_deref().unwrap_or_default().as_bytes(),
            login.map_or(b"", |login| login.as_bytes()),
        ] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}
