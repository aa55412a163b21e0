//! Forwards an authorized request to its upstream, and the upstream's response to the caller.

mod error;
pub(super) mod headers;
mod inject_bearer;
pub(super) mod kept_body;
mod request_body;
mod response_length;
mod upload_state;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use tower::Service as _;

use self::inject_bearer::{InjectBearer, UnauthorizedRequest};
use self::kept_body::BodyCopy;
use super::dependencies::Dependencies;
use super::request_record::RequestRecord;
use crate::config::{self, InputError, Rules, Timeouts};
use crate::problems::request::malformed;
use crate::server::{Phase, ProblemResponse, Stopping};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::{ApiStatus, ResponseBody, UpstreamClient};

pub(super) use self::error::{ProxyError, UploadError};
pub(super) use self::kept_body::KeptBody;
pub use self::kept_body::ReplayBudget;
pub(super) use self::request_body::RequestBody;
pub(super) use self::upload_state::UploadState;

/// The most characters of a path in the name of a route.
const LONGEST_PATH: usize = 100;

/// Forwards requests to one upstream for one worker.
pub(super) struct Forwarder {
    upstream: Arc<UpstreamClient>,
    /// Sends a prepared request with the bearer, and once more after a 401.
    inject_bearer: InjectBearer,
    rules: Rules,
    timeout: Timeouts,
    replay: u64,
    budget: ReplayBudget,
    api: ApiStatus,
    stop: Stopping,
}

impl Forwarder {
    pub(super) fn new(
        upstream: &config::Upstream,
        dependencies: &Dependencies,
        metrics: Arc<UpstreamMetrics>,
    ) -> Result<Self, InputError> {
        let Dependencies {
            network,
            tokens,
            api,
            budget,
            stop,
            ..
        } = dependencies.clone();
        let client = Arc::new(UpstreamClient::new(
            upstream,
            network,
            metrics.connections.clone(),
        )?);
        Ok(Self {
            inject_bearer: InjectBearer::new(upstream, client.clone(), tokens, api.clone(), metrics),
            upstream: client,
            rules: upstream.rules.clone(),
            timeout: upstream.timeout,
            replay: upstream.replay,
            budget,
            api,
            stop,
        })
    }

    /// The response to a request, as the caller gets it.
    pub(super) async fn forward(
        self: Arc<Self>,
        request: Request<Body>,
        is_fresh: bool,
        record: RequestRecord,
    ) -> Result<Response<Body>, ProxyError> {
        let (mut parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), std::mem::take(&mut parts.uri));
        let (copy, kept) = self.keep(&body);
        let mut upload = RequestBody::from_caller(body, self.timeout.idle, copy);
        if parts.headers.contains_key(EXPECT) && !upload.is_end_stream() {
            upload.first_poll();
        }
        let progress = upload.state();
        record.lock().upload = Some(progress.clone());
        let request = self.prepare(&uri, parts, upload, kept, is_fresh)?;
        let mut stop = self.stop.clone();
        let response = tokio::select! {
            biased;
            response = self.inject_bearer.clone().call(request) => response,
            () = self.response_timeout(&progress) => Err(self.timed_out(progress.is_sent())),
            () = progress.stalled(self.timeout.idle) => Err(ProxyError::UploadStalled),
            () = stop.reached(Phase::Deadline) => Err(ProxyError::Stopping { is_sent: progress.is_sent() }),
        };
        // Where the caller's body failed, the upstream's reaction to that is not the cause.
        let mut response = response.map_err(|error| progress.upload_error().unwrap_or(error));
        self.record(&method, &uri, &mut response);
        Ok(Self::inbound(response?, method == Method::HEAD))
    }

    /// The upstream's response to a pull, which must be a whole message.
    pub(super) async fn pull(
        &self,
        uri: &Uri,
        mut parts: Parts,
        upload: RequestBody,
        kept: Bytes,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        headers::for_whole_message(&mut parts.headers);
        if !upload.is_end_stream() {
            parts
                .headers
                .insert(CONTENT_LENGTH, upload.size_hint().lower().into());
        }
        let request = self.prepare(uri, parts, upload, Some(KeptBody::Complete(kept)), true)?;
        self.inject_bearer.clone().call(request).await
    }

    /// Records what a request says about the API.
    pub(super) fn record(
        &self,
        method: &Method,
        uri: &Uri,
        response: &mut Result<Response<ResponseBody>, ProxyError>,
    ) {
        match response {
            Ok(response) => {
                let route = || self.route(method, uri.path());
                let (status, headers) = (response.status(), response.headers());
                let may_be_page = self.api.responded(route, status, headers);
                response.body_mut().report_to(&self.api, may_be_page);
            }
            Err(error) if error.concerns_api() => self.api.failed(error.problem()),
            Err(_) => {}
        }
    }

    /// The method, and the path of the rule that the path matches, or else the beginning of the path itself.
    fn route(&self, method: &Method, path: &str) -> String {
        let mut rules = self.rules.named().iter().map(|rule| &rule.path);
        match rules.find(|pattern| pattern.matches(path)) {
            Some(pattern) => format!("{method} {}", pattern.text()),
            None => format!("{method} {path:.LONGEST_PATH$}"),
        }
    }

    /// Why a caller has waited too long.
    pub(super) fn timed_out(&self, is_sent: bool) -> ProxyError {
        match self.upstream.unresolved() {
            Some(unresolved) if !is_sent => ProxyError::Upstream(unresolved.into()),
            _ => ProxyError::Timeout {
                is_sent,
                limit: self.timeout.head,
            },
        }
    }

    /// `timeout.head` starts at the end of the request's body.
    async fn response_timeout(&self, progress: &UploadState) {
        progress.ended().await;
        tokio::time::sleep(self.timeout.head).await;
    }

    /// Keeps a copy of a body for a second attempt, if it is within the bounds.
    fn keep(&self, body: &Body) -> (Option<BodyCopy>, Option<KeptBody>) {
        let length = body.size_hint().lower();
        if body.is_end_stream() {
            return (None, Some(KeptBody::Complete(Bytes::new())));
        }
        if length > self.replay {
            return (None, None);
        }
        KeptBody::keep(self.replay, length, &self.budget).unzip()
    }

    /// The request for `uri` as it goes upstream, except for its token.
    fn prepare(
        &self,
        uri: &Uri,
        mut head: Parts,
        body: RequestBody,
        kept: Option<KeptBody>,
        is_fresh: bool,
    ) -> Result<UnauthorizedRequest, ProxyError> {
        head.uri = self.upstream.target(uri).map_err(|error| {
            let reason = format_args!("the request's target is invalid: {error}");
            ProblemResponse::invalid(StatusCode::BAD_REQUEST, malformed(reason, "send one like /path"))
        })?;
        head.version = Version::HTTP_11;
        head.headers = headers::outbound(head.headers, self.upstream.host());
        head.extensions = headers::spelling(head.extensions);
        let has_body = !body.is_end_stream();
        if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
            // Without it, hyper sends no body with a GET.
            head.headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if !has_body && matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
            // RFC 9110 §8.6 recommends it, and strict servers respond with 411 without it.
            head.headers
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        Ok(UnauthorizedRequest {
            second: kept.map(|kept| Box::new((head.clone(), kept))),
            upload: body.state(),
            request: Box::new(Request::from_parts(head, body.into_body())),
            is_fresh,
        })
    }

    /// The upstream's response, ready for the caller.
    pub(super) fn inbound(response: Response<ResponseBody>, is_head: bool) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        parts.headers = headers::inbound(parts.headers);
        parts.extensions = headers::spelling(parts.extensions);
        let length = match parts.status {
            StatusCode::NO_CONTENT => None,
            status if is_head || status == StatusCode::NOT_MODIFIED => {
                response_length::announced(&parts.headers)
            }
            _ => body.content_length(),
        };
        response_length::set(&mut parts.headers, length);
        Response::from_parts(parts, Body::new(body))
    }
}
