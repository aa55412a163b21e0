//! The way to one upstream: connections over TLS, directly or through the outbound proxy, kept in a
//! pool of each worker.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::body::Upload;
use super::connect::Connector;
use super::error::{ProxyError, find};
use crate::config::{self, OutboundError};

/// One upstream as a worker reaches it.
pub(super) struct Upstream {
    scheme: Scheme,
    authority: http::uri::Authority,
    base: String,
    host: HeaderValue,
    pooled: Client<Connector, Upload>,
    fresh: Client<Connector, Upload>,
}

impl Upstream {
    pub(super) fn new(upstream: &config::Upstream, tls: ClientConfig) -> Result<Self, OutboundError> {
        let connector = Connector::new(upstream, tls)?;
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                // Shorter than the upstream's, or it closes a connection while we take it.
                .pool_idle_timeout(upstream.keep_alive)
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
            pooled: client(if upstream.keep_alive.is_zero() {
                0
            } else {
                upstream.pooled
            }),
            fresh: client(0),
        })
    }

    /// What goes into `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URI for a caller's path and query: scheme, host and port are the configuration's, the
    /// rest is the caller's, byte for byte, behind the base path.
    pub(super) fn uri(&self, from: &Uri) -> Result<Uri, TargetError> {
        let asked = from.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if self.base.is_empty() {
            PathAndQuery::try_from(asked).map_err(http::Error::from)?
        } else {
            PathAndQuery::try_from(format!("{}{asked}", self.base)).map_err(http::Error::from)?
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()?;
        // Nothing is known that gets here; the token goes nowhere else all the same.
        if uri.scheme() == Some(&self.scheme) && uri.authority() == Some(&self.authority) {
            Ok(uri)
        } else {
            Err(TargetError::Elsewhere)
        }
    }

    /// Sends what `request` makes of a body, on a connection of its own where `is_fresh`. A request that was
    /// never begun, since its connection ended just then, goes out anew.
    pub(super) async fn send(
        &self,
        request: impl Fn(Upload) -> Request<Upload>,
        mut upload: Upload,
        is_fresh: bool,
    ) -> Result<Response<Incoming>, ProxyError> {
        let client = if is_fresh { &self.fresh } else { &self.pooled };
        let progress = upload.progress();
        for pause in PAUSES {
            let mut request = request(upload);
            progress.goes_out_on(capture_connection(&mut request));
            let counted = progress.clone();
            hyper::ext::on_informational(&mut request, move |_| counted.interim_answer());
            let error = match client.request(request).await {
                Ok(response) => return judged(response),
                Err(error) => error,
            };
            if !is_unsent(&error) {
                return Err(ProxyError::Exchange(error));
            }
            upload = match (pause, progress.unread()) {
                // Connecting was tried again and again already.
                (Some(pause), Some(unread)) if !error.is_connect() => {
                    tokio::time::sleep(pause).await;
                    unread
                }
                _ => return Err(ProxyError::Connect(error)),
            };
        }
        unreachable!("there is no pause after the last attempt")
    }
}

/// A caller's target that cannot be asked for at the upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// It is no path.
    #[error(transparent)]
    Form(#[from] http::Error),
    /// It leads to another place.
    #[error("it names another place than the upstream")]
    Elsewhere,
}

/// What follows each attempt at a request that was not begun.
const PAUSES: [Option<Duration>; 3] = [
    Some(Duration::from_millis(20)),
    Some(Duration::from_millis(200)),
    None,
];

/// Refuses an answer whose body would reach the caller as something else than what was sent.
fn judged(mut response: Response<Incoming>) -> Result<Response<Incoming>, ProxyError> {
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            // RFC 9112 §6.3: chunked coding overrides it.
            headers.remove(CONTENT_LENGTH);
        }
        _ => return Err(ProxyError::Coding),
    }
    Ok(response)
}

/// Whether a request failed before any of it was written: there was no connection for it, or the one there
/// was ended before hyper began with the request.
fn is_unsent(error: &Error) -> bool {
    error.is_connect()
        || error.connect_info().is_none()
        || find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn upstream(url: &str) -> Upstream {
        let text = format!(
            "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = {{ file = \"/s\" }}\nurl = \"{url}\"\n"
        );
        let config = Config::parse(&text, "f", []).unwrap();
        Upstream::new(&config.upstreams[0], crate::tls::client(None).unwrap()).unwrap()
    }

    #[test]
    fn wherever_a_target_points_the_request_goes_to_the_configured_place() {
        let upstreams = [
            ("", upstream("https://sb.example:8443")),
            ("/base", upstream("https://sb.example/base/")),
        ];
        proptest!(|(target in "(https?://[a-z@.:0-9]{1,12})?/([a-z@:/.?\\\\%#;]|//evil\\.example|%2f){0,10}")| {
            let Ok(from) = target.parse::<Uri>() else { return Ok(()) };
            let asked = from.path_and_query().unwrap().as_str();
            for (base, upstream) in &upstreams {
                let Ok(uri) = upstream.uri(&from) else { continue };
                prop_assert_eq!(uri.scheme_str(), Some("https"));
                prop_assert_eq!(uri.authority(), Some(&upstream.authority));
                prop_assert_eq!(uri.path_and_query().unwrap().as_str(), format!("{base}{asked}"));
            }
        });
    }
}
