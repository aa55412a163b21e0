//! The tower layer that adds `Authorization: Bearer` to a request, just before it is sent.
//!
//! A 401 means that the request was not processed. So a request whose token the upstream refuses is sent once more with a
//! newer token, if its body is still available.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use tower::{Layer, Service};

use super::error::ProxyError;
use super::headers;
use super::kept_body::KeptBody;
use super::request_body::RequestBody;
use crate::config::{self, TokenRejection};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::token::{AccessToken, TokenReader};
use crate::upstream::{ResponseBody, UpstreamClient};

/// A request that is complete except for its token.
pub(super) struct UnauthorizedRequest {
    pub(super) head: RequestHead,
    pub(super) body: RequestBody,
    /// The body for a second attempt, where one is kept.
    pub(super) replay: Option<KeptBody>,
    /// Whether it needs a new connection.
    pub(super) is_fresh: bool,
}

/// The head of a request, for each attempt.
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    /// The spelling of the field names.
    pub(super) extensions: Extensions,
}

/// A request with its token, ready to be sent.
pub(super) struct AuthorizedRequest {
    request: Request<RequestBody>,
    is_fresh: bool,
}

/// Adds the current token of one upstream.
#[derive(Clone)]
pub(super) struct InjectBearerLayer(Arc<Bearer>);

struct Bearer {
    tokens: TokenReader,
    /// How long a request waits for a token.
    wait: Duration,
    rejection: TokenRejection,
    metrics: Arc<UpstreamMetrics>,
}

impl InjectBearerLayer {
    pub(super) fn new(
        upstream: &config::Upstream,
        tokens: TokenReader,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        Self(Arc::new(Bearer {
            tokens,
            wait: upstream.wait,
            rejection: upstream.token_rejection,
            metrics,
        }))
    }
}

impl<S> Layer<S> for InjectBearerLayer {
    type Service = InjectBearer<S>;

    fn layer(&self, inner: S) -> InjectBearer<S> {
        InjectBearer {
            inner,
            bearer: self.0.clone(),
        }
    }
}

/// See [`InjectBearerLayer`].
#[derive(Clone)]
pub(super) struct InjectBearer<S> {
    inner: S,
    bearer: Arc<Bearer>,
}

impl<S> Service<UnauthorizedRequest> for InjectBearer<S>
where
    S: Service<AuthorizedRequest, Response = Response<ResponseBody>, Error = ProxyError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, ProxyError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: UnauthorizedRequest) -> Self::Future {
        let (inner, bearer) = (self.inner.clone(), self.bearer.clone());
        Box::pin(async move { bearer.exchange(inner, request).await })
    }
}

impl Bearer {
    async fn exchange<S>(
        &self,
        mut upstream: S,
        request: UnauthorizedRequest,
    ) -> Result<Response<ResponseBody>, ProxyError>
    where
        S: Service<AuthorizedRequest, Response = Response<ResponseBody>, Error = ProxyError>,
    {
        let UnauthorizedRequest {
            head,
            body,
            replay,
            is_fresh,
        } = request;
        let token = match self.tokens.current() {
            Some(token) => token,
            None => Box::pin(self.tokens.wait(self.wait)).await?,
        };
        let response = self.send(&mut upstream, &head, body, &token, is_fresh).await?;
        if !rejects_token(&response, self.rejection) {
            return Ok(response);
        }
        self.tokens.reject(&token);
        let body = replay.and_then(KeptBody::take);
        if self.tokens.are_rejected() {
            // The upstream refuses every token: this is its response.
            return Ok(response);
        }
        let Some(body) = body else {
            return Err(ProxyError::NotReplayable);
        };
        let newer = Box::pin(self.tokens.newer(&token, self.wait)).await?;
        drop(response);
        self.metrics.replays.inc();
        let body = RequestBody::from_bytes(body);
        let response = Box::pin(self.send(&mut upstream, &head, body, &newer, is_fresh)).await?;
        if rejects_token(&response, self.rejection) {
            self.tokens.reject(&newer);
        }
        Ok(response)
    }

    async fn send<S>(
        &self,
        upstream: &mut S,
        head: &RequestHead,
        body: RequestBody,
        token: &AccessToken,
        is_fresh: bool,
    ) -> Result<Response<ResponseBody>, ProxyError>
    where
        S: Service<AuthorizedRequest, Response = Response<ResponseBody>, Error = ProxyError>,
    {
        let has_unknown_length = !body.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH);
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.target.clone();
        *request.headers_mut() = head.headers.clone();
        *request.extensions_mut() = head.extensions.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization().clone());
        if has_unknown_length {
            // Without it, hyper sends no body with a GET.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut response = upstream.call(AuthorizedRequest { request, is_fresh }).await?;
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

/// Sends requests over the worker's connections.
#[derive(Clone)]
pub(super) struct UpstreamService(pub(super) Arc<UpstreamClient>);

impl Service<AuthorizedRequest> for UpstreamService {
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, ProxyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: AuthorizedRequest) -> Self::Future {
        let AuthorizedRequest { request, is_fresh } = request;
        let (upstream, state) = (self.0.clone(), request.body().state());
        Box::pin(async move {
            let request = request.map(Body::new);
            Ok(upstream.send(request, is_fresh, &state.may_be_sent).await?)
        })
    }
}
