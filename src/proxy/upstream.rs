//! The way to one upstream: connections over TLS, directly or through the outbound proxy, kept in a
//! pool of each worker.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use rustls::ClientConfig;

use super::body::Upload;
use super::connect::Connector;
use super::forward::ProxyError;
use super::link::Arriving;
use super::pool::Pool;
use crate::config::{self, OutboundError};
use crate::resolver::{ResolveError, Resolver};

/// One upstream as a worker reaches it.
pub(super) struct Upstream {
    pool: Pool,
    base: String,
    host: HeaderValue,
}

impl Upstream {
    pub(super) fn new(
        upstream: &config::Upstream,
        tls: ClientConfig,
        resolver: Resolver,
    ) -> Result<Self, OutboundError> {
        let url = &upstream.url;
        let host = HeaderValue::try_from(url.host_field()).expect("an authority is visible ASCII");
        Ok(Self {
            pool: Pool::new(Connector::new(upstream, tls, resolver)?, upstream),
            base: url.path().trim_end_matches('/').to_owned(),
            host,
        })
    }

    /// Begins what the first connection will need.
    pub(super) fn prefetch(&self) {
        self.pool.prefetch();
    }

    /// What keeps requests waiting for a connection, where it is the upstream's name.
    pub(super) fn unresolved(&self) -> Option<ResolveError> {
        self.pool.unresolved()
    }

    /// What goes into `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// What is asked for at the upstream: the caller's path and query as the gate passed them on, behind the base path.
    /// Where it is asked for is the configuration's alone.
    pub(super) fn target(&self, from: &Uri) -> Result<Uri, http::Error> {
        let asked = from.path_and_query();
        let target = match asked {
            Some(asked) if self.base.is_empty() && asked.as_str().starts_with('/') => asked.clone(),
            _ => {
                let asked = asked.map_or("/", PathAndQuery::as_str);
                PathAndQuery::try_from(format!("{}{asked}", self.base))?
            }
        };
        Ok(Uri::from(target))
    }

    /// Sends a request, on a connection of its own where `is_fresh`. One that was never begun, since its
    /// connection ended just then, goes out anew: hyper hands back no other.
    pub(super) async fn send(
        &self,
        mut request: Request<Box<Upload>>,
        is_fresh: bool,
    ) -> Result<Response<Arriving>, ProxyError> {
        let progress = request.body().progress();
        let pool = (!is_fresh).then_some(&self.pool);
        for pause in PAUSES {
            let link = match pool {
                Some(pool) => pool.link().await,
                None => self.pool.fresh().await,
            };
            let link = link.map_err(ProxyError::Connect)?;
            progress.goes_out();
            let failed = match link.ask(request, pool).await {
                Ok(response) => return judged(response),
                Err(failed) => failed,
            };
            request = match (pause, failed.unsent) {
                (Some(pause), Some(unsent)) => {
                    progress.comes_back();
                    tokio::time::sleep(pause).await;
                    unsent
                }
                (None, Some(_)) => return Err(ProxyError::Connect(failed.error.into())),
                (_, None) => return Err(ProxyError::Exchange(failed.error)),
            };
        }
        unreachable!("there is no pause after the last attempt")
    }
}

/// What follows each attempt at a request that was not begun.
const PAUSES: [Option<Duration>; 3] = [
    Some(Duration::from_millis(20)),
    Some(Duration::from_millis(200)),
    None,
];

/// Refuses an answer whose body would reach the caller as something else than what was sent.
fn judged(mut response: Response<Arriving>) -> Result<Response<Arriving>, ProxyError> {
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            // RFC 9112 §6.3: chunked coding overrides it.
            headers.remove(CONTENT_LENGTH);
        }
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            // RFC 2616 had this for no coding at all; the body is what comes before the connection ends.
            headers.remove(CONTENT_LENGTH);
        }
        _ => return Err(ProxyError::Coding),
    }
    Ok(response)
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
        let tls = crate::tls::client(None).unwrap();
        Upstream::new(&config.upstreams[0], tls, Resolver::default()).unwrap()
    }

    #[test]
    fn whatever_a_target_looks_like_it_is_a_path_at_the_configured_place() {
        let upstreams = [
            ("", upstream("https://sb.example:8443")),
            ("/base", upstream("https://sb.example/base/")),
        ];
        proptest!(|(target in "(https?://[a-z@.:0-9]{1,12})?/([a-z@:/.?\\\\%#;]|//evil\\.example|%2f){0,10}")| {
            let Ok(from) = target.parse::<Uri>() else { return Ok(()) };
            let asked = from.path_and_query().unwrap().as_str();
            for (base, upstream) in &upstreams {
                let Ok(target) = upstream.target(&from) else { continue };
                prop_assert_eq!((target.scheme(), target.authority()), (None, None));
                prop_assert_eq!(target.to_string(), format!("{base}{asked}"));
            }
        });
    }
}
