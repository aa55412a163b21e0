//! One authorized request that changes nothing, to find out whether the API accepts bondgate's token.

use std::sync::atomic::AtomicBool;

use axum::body::Body;
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;

use super::client::UpstreamClient;
use super::connector::Network;
use super::error::SendError;
use super::html::{declares_html, is_html};
use super::status::response_problem;
use crate::config;
use crate::problems::{Problem, api, network};
use crate::telemetry::metrics::UpstreamConnections;

/// The path of Smart Bonding whose response says nothing about push and pull.
const TSP_CODES: &str = "/tspcodes";

/// Sends `GET path` with a bearer, and reads the head of the response, with the body's beginning if it may be a page: the
/// body may have megabytes.
pub async fn probe(
    upstream: &config::Upstream,
    network: Network,
    path: &str,
    authorization: HeaderValue,
) -> Result<StatusCode, Problem> {
    let client = UpstreamClient::new(upstream, network, UpstreamConnections::default())?;
    let to = format!("{}:{}", upstream.url.authority().host(), upstream.url.port());
    let target = path.parse::<Uri>().map(|path| client.target(&path));
    let Ok(Ok(target)) = target else {
        return Err(api::path_wrong(to, path));
    };
    let agent = HeaderValue::from_static(concat!("bondgate/", env!("CARGO_PKG_VERSION")));
    // With the path of url.
    let path = target.path().to_owned();
    let request = Request::get(target)
        .header(HOST, client.host())
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, agent)
        .body(Body::empty());
    let request = request.expect("each part is valid");
    let may_be_sent = AtomicBool::new(false);
    let sent = client.send(Box::new(request), true, &may_be_sent);
    let Ok(sent) = tokio::time::timeout(upstream.timeout.head, sent).await else {
        return Err(api::silent(to, upstream.timeout.head.as_secs()));
    };
    let response = sent.map_err(|error| match error {
        SendError::NotSent(error) => error.problem,
        SendError::Broken { problem, .. } => problem,
    })?;
    let status = response.status();
    match response_problem(&to, status, response.headers()) {
        Some(problem) => Err(problem),
        None => match status.as_u16() {
            200..=299 if declares_html(response.headers()) => {
                let mut body = response.into_body();
                let began = tokio::time::timeout(upstream.timeout.idle, body.frame()).await;
                match began {
                    Ok(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| is_html(data)) => {
                        Err(network::login_page("API request", upstream.url.host(), ""))
                    }
                    _ => Ok(status),
                }
            }
            200..=299 => Ok(status),
            403 if path.ends_with(TSP_CODES) => Err(api::tsp_codes_forbidden(to, &path)),
            403 => Err(api::forbidden(to, &path)),
            404 => Err(api::path_wrong(to, &path)),
            code => Err(api::responds(to, code)),
        },
    }
}
