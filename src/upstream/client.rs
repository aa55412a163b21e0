//! Sends requests to one upstream.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};

use super::connection::RequestError;
use super::connector::{Connector, Network};
use super::destination::Destination;
use super::error::{BrokenKind, ConnectError, SendError};
use super::pool::Pool;
use super::response_body::ResponseBody;
use crate::config::{self, InputError};
use crate::telemetry::metrics::UpstreamConnections;

/// One worker's client for one upstream.
pub struct UpstreamClient {
    pool: Pool,
    /// The path of the upstream's URL, without a slash at its end.
    base_path: String,
    host: HeaderValue,
    /// `timeout.idle`, for response bodies.
    idle_limit: Duration,
}

/// The pauses before a request that was not sent is sent on another connection.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

impl UpstreamClient {
    /// Opens no connection yet; `metrics` count those that it will open.
    pub fn new(
        upstream: &config::Upstream,
        network: Network,
        metrics: UpstreamConnections,
    ) -> Result<Self, InputError> {
        let url = &upstream.url;
        let (proxy, timeout) = (upstream.proxy.route(url)?, upstream.timeout.connect);
        let connector = Connector::new("API request", url, proxy, timeout, network);
        let host = HeaderValue::try_from(url.host_field()).expect("an authority is visible ASCII");
        Ok(Self {
            pool: Pool::new(connector, upstream, metrics),
            base_path: url.path().trim_end_matches('/').to_owned(),
            host,
            idle_limit: upstream.timeout.idle,
        })
    }

    fn destination(&self) -> &Destination {
        self.pool.connector().destination()
    }

    /// A request that may have been sent got no response.
    fn broken(&self, error: &hyper::Error) -> SendError {
        let kind = match error {
            _ if error.is_incomplete_message() => BrokenKind::Closed,
            _ if error.is_parse_too_large() => BrokenKind::HeadTooLarge,
            _ if error.is_parse() => BrokenKind::NotHttp,
            _ => BrokenKind::Terminated,
        };
        self.destination().broken(kind, error)
    }

    /// Why no request can be sent at present, if that is because the upstream's name is not resolved.
    #[must_use]
    pub fn unresolved(&self) -> Option<ConnectError> {
        self.pool.connector().unresolved()
    }

    /// The value of `Host`.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The request target: the path and query of `uri`, byte for byte, behind the base path. Scheme, host and port are
    /// the configuration's alone.
    pub fn target(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let target = match uri.path_and_query() {
            Some(path) if self.base_path.is_empty() && path.as_str().starts_with('/') => path.clone(),
            path => {
                let path = path.map_or("/", PathAndQuery::as_str);
                PathAndQuery::try_from(format!("{}{path}", self.base_path))?
            }
        };
        Ok(Uri::from(target))
    }

    /// Sends a request: on a new connection if `is_fresh`, else on a pooled one. It is sent again only if its connection
    /// was closed before a byte of it was written. `may_be_sent` is set while a byte may have been written, for a
    /// caller that stops waiting for the response.
    pub async fn send(
        &self,
        mut request: Box<Request<Body>>,
        is_fresh: bool,
        may_be_sent: &AtomicBool,
    ) -> Result<Response<ResponseBody>, SendError> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let mut connection = if is_fresh {
                Box::pin(self.pool.connect()).await?
            } else {
                self.pool.acquire().await?
            };
            may_be_sent.store(true, Ordering::Release);
            let (unsent, error) = match connection.send(request).await {
                Ok(mut response) => {
                    if !check_framing(response.headers_mut()) {
                        let reason = "it has a transfer coding other than chunked";
                        return Err(self.destination().not_http(BrokenKind::TransferCoding, reason));
                    }
                    let pool = (!is_fresh).then(|| self.pool.clone());
                    return Ok(response
                        .map(|incoming| ResponseBody::new(incoming, connection, pool, self.idle_limit)));
                }
                Err(RequestError::Failed(error)) => return Err(self.broken(&error)),
                Err(RequestError::InterimResponses) => {
                    let reason = "it sent one interim response (1xx) after the other, and no final one";
                    return Err(self.destination().not_http(BrokenKind::NotHttp, reason));
                }
                Err(RequestError::NotSent(unsent, error)) => (unsent, error),
            };
            may_be_sent.store(false, Ordering::Release);
            let Some(pause) = pauses.next() else {
                tracing::debug!(
                    error = &error as &dyn Error,
                    "connection closed before a request was sent"
                );
                return Err(self.destination().closed().into());
            };
            tokio::time::sleep(*pause).await;
            request = unsent;
        }
    }
}

/// Returns false for a transfer coding that would reach the caller as part of the body. Removes a `Content-Length` that
/// does not apply (RFC 9112 §6.3).
fn check_framing(headers: &mut HeaderMap) -> bool {
    // RFC 2616 had `identity` for no coding: the body ends with the connection.
    let is_known = |coding: &HeaderValue| {
        let coding = coding.as_bytes();
        coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
    };
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => return true,
        (Some(coding), None) if is_known(coding) => {}
        _ => return false,
    }
    headers.remove(CONTENT_LENGTH);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn client(url: &str) -> UpstreamClient {
        let text = format!(
            "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = {{ file = \"/s\" }}\nurl = \"{url}\"\n"
        );
        let config = Config::parse(&text, "f", []).unwrap();
        let tls = crate::tls::client(None).unwrap();
        UpstreamClient::new(
            &config.upstreams[0],
            Network::new(tls),
            UpstreamConnections::default(),
        )
        .unwrap()
    }

    #[test]
    fn every_target_is_a_path_below_the_configured_url() {
        let clients = [
            ("", client("https://sb.example:8443")),
            ("/base", client("https://sb.example/base/")),
        ];
        proptest!(|(target in "(https?://[a-z@.:0-9]{1,12})?/([a-z@:/.?\\\\%#;]|//evil\\.example|%2f){0,10}")| {
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let path = uri.path_and_query().unwrap().as_str();
            for (base, client) in &clients {
                let Ok(target) = client.target(&uri) else { continue };
                prop_assert_eq!((target.scheme(), target.authority()), (None, None));
                prop_assert_eq!(target.to_string(), format!("{base}{path}"));
            }
        });
    }
}
