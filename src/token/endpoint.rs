//! The real source of tokens: one request to the identity service, whatever the shape.

use std::error::Error as _;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Proxy, Url};
use rustls::ClientConfig;
use secrecy::ExposeSecret;

use super::refresher::TokenSource;
use super::response::{self, FetchError, FetchErrorKind, Grant};
use super::shape::{self, TokenRequest};
use crate::config::{OutboundProxy, Upstream};

/// An upstream's token endpoint. Secrets are read again for each request, redirects are never
/// followed, and no error names a URL: with [`Query`](crate::config::ClientAuth::Query) it holds the secret.
pub struct TokenEndpoint {
    upstream: Upstream,
    tls: ClientConfig,
}

/// The whole of one fetch, connecting included.
const DEADLINE: Duration = Duration::from_secs(15);
/// The most that is read of a reply.
const LONGEST_REPLY: usize = 64 << 10;

impl TokenEndpoint {
    /// The endpoint of an upstream, reached with these TLS settings.
    #[must_use]
    pub fn new(upstream: Upstream, tls: ClientConfig) -> Self {
        Self { upstream, tls }
    }

    fn client(&self) -> Result<Client, FetchError> {
        let upstream = &self.upstream;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .no_proxy()
            .connect_timeout(upstream.timeout.connect)
            .timeout(DEADLINE)
            .user_agent(concat!("bondgate/", env!("CARGO_PKG_VERSION")));
        let unusable = |_| FetchError::new(FetchErrorKind::Network, "the HTTP client cannot be set up");
        if let Some(route) = upstream.proxy.route(&upstream.token_url)? {
            let mut proxy = Proxy::all(route.uri.to_string()).map_err(unusable)?;
            if let Some((user, password)) = route.credentials() {
                proxy = proxy.basic_auth(&user, &password);
            }
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(unusable)
    }

    fn unreachable(&self, error: reqwest::Error) -> FetchError {
        let endpoint = &self.upstream.token_url;
        let through = match self.upstream.proxy {
            OutboundProxy::Direct => "",
            OutboundProxy::Environment | OutboundProxy::Url(_) => " through the outbound proxy",
        };
        let place = format!(
            "the identity service {}:{}{through}",
            endpoint.host(),
            endpoint.port()
        );
        if error.is_timeout() {
            return FetchError::new(
                FetchErrorKind::Timeout,
                format!("{place} did not answer within {} s", DEADLINE.as_secs()),
            );
        }
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            reason = deeper.to_string();
            cause = deeper.source();
        }
        FetchError::new(FetchErrorKind::Network, format!("cannot reach {place}: {reason}"))
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self) -> Result<Grant, FetchError> {
        let upstream = &self.upstream;
        let (id, secret) = (upstream.client_id.load()?, upstream.client_secret.load()?);
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
            .client()?
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if let Some(authorization) = shaped.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request = match shaped.body {
            Some(body) => request.body(body.expose_secret().to_owned()),
            // hyper says nothing of a body that is not there; gateways answer that with 411.
            None => request.header(CONTENT_LENGTH, 0),
        };
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > LONGEST_REPLY {
                return Err(FetchError::new(
                    FetchErrorKind::Malformed,
                    "the identity service's answer is over 64 KiB, which is no token",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        response::parse(
            response.status(),
            response.headers(),
            &body,
            &shape::spellings(&id, &secret),
        )
    }
}
