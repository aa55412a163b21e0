//! The tower service that adds `Authorization: Bearer` to a request, and sends it.
//!
//! A 401 means that the request was not processed. So a request whose token the upstream refuses is sent once more with a
//! newer token, if its body is still available.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tower::Service;

use super::error::ProxyError;
use super::headers;
use super::kept_body::KeptBody;
use super::upload_state::UploadState;
use crate::config::{self, TokenRejection};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::token::{AccessToken, TokenReader};
use crate::upstream::{ApiStatus, ResponseBody, UpstreamClient};

/// A request that is complete except for its token.
pub(super) struct UnauthorizedRequest {
    pub(super) request: Box<Request<Body>>,
    /// The same head, and the body, for a second attempt.
    pub(super) second: Option<Box<(Parts, KeptBody)>>,
    pub(super) upload: Arc<UploadState>,
    /// Whether it needs a new connection.
    pub(super) is_fresh: bool,
}

/// Adds the current token of one upstream to each request, and sends it over the worker's connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct InjectBearer(Arc<Bearer>);

struct Bearer {
    upstream: Arc<UpstreamClient>,
    tokens: TokenReader,
    api: ApiStatus,
    /// How long a request waits for a token.
    wait: Duration,
    rejection: TokenRejection,
    metrics: Arc<UpstreamMetrics>,
}

impl InjectBearer {
    pub(super) fn new(
        config: &config::Upstream,
        upstream: Arc<UpstreamClient>,
        tokens: TokenReader,
        api: ApiStatus,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        Self(Arc::new(Bearer {
            upstream,
            tokens,
            api,
            wait: config.wait,
            rejection: config.token_rejection,
            metrics,
        }))
    }
}

impl Service<UnauthorizedRequest> for InjectBearer {
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, ProxyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: UnauthorizedRequest) -> Self::Future {
        Box::pin(self.0.clone().exchange(request))
    }
}

impl Bearer {
    async fn exchange(
        self: Arc<Self>,
        first: UnauthorizedRequest,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let token = match self.tokens.current() {
            Some(token) => token,
            None => Box::pin(self.tokens.wait(self.wait)).await?,
        };
        let sent = self.send(first.request, &first.upload, first.is_fresh, &token);
        let response = sent.await?;
        if !rejects_token(&response, self.rejection) {
            return Ok(response);
        }
        self.tokens.reject(&token);
        let second = first.second.and_then(|second| {
            let (head, kept) = *second;
            Some(Box::new(Request::from_parts(head, kept.take()?)))
        });
        if self.tokens.are_rejected() {
            // The upstream refuses every token: this is its response.
            return Ok(response);
        }
        self.api.rejected_token(response.status());
        let Some(second) = second else {
            return Err(ProxyError::NotReplayable);
        };
        let newer = Box::pin(self.tokens.newer(&token, self.wait)).await?;
        drop(response);
        self.metrics.replays.inc();
        let sent = self.send(second, &first.upload, first.is_fresh, &newer);
        let response = Box::pin(sent).await?;
        if rejects_token(&response, self.rejection) {
            self.tokens.reject(&newer);
        }
        Ok(response)
    }

    async fn send(
        &self,
        mut request: Box<Request<Body>>,
        upload: &UploadState,
        is_fresh: bool,
        token: &AccessToken,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization().clone());
        upload.begin_attempt();
        let sent = self.upstream.send(request, is_fresh, &upload.may_be_sent).await;
        upload.end_attempt();
        let mut response = sent?;
        headers::strip_token(response.headers_mut(), token.authorization());
        // bondgate never asks for an upgrade, and the data after one would not be HTTP.
        if response.status().is_informational() {
            return Err(ProxyError::Upgraded);
        }
        Ok(response)
    }
}

/// Whether a response rejects the token: 401, or the 403 of Cisco's API gateway in front of `apix.cisco.com`.
fn rejects_token(response: &Response<ResponseBody>, rejection: TokenRejection) -> bool {
    match (rejection, response.status()) {
        (_, StatusCode::UNAUTHORIZED) => true,
        (TokenRejection::Mashery, StatusCode::FORBIDDEN) => {
            let code = response.headers().get("x-mashery-error-code");
            code.is_some_and(|code| code == "ERR_403_NOT_AUTHORIZED")
        }
        _ => false,
    }
}
