//! Relays one admitted request: token, hygiene, the exchange with its clocks, and the one replay
//! that there is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use rustls::ClientConfig;

pub(super) mod request_body;

use self::request_body::{RequestBody, UploadState};
use super::access::Admitted;
use super::error::ProxyError;
use super::headers;
use super::length;
use super::replay::{self, KeptBody, ReplayBudget, Whole};
use crate::config::{self, OutboundError, Timeouts};
use crate::server::{Answer, Phase, Stopping};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::token::{AccessToken, TokenReader};
use crate::upstream::{Resolver, ResponseBody, UpstreamClient};

/// Relays requests to one upstream from one worker.
pub(super) struct Forwarder {
    upstream: UpstreamClient,
    tokens: TokenReader,
    timeout: Timeouts,
    wait: Duration,
    replay: u64,
    budget: ReplayBudget,
    rejection: Rejection,
    metrics: Arc<UpstreamMetrics>,
    stop: Stopping,
}

/// How an upstream says that it refuses a token.
#[derive(Clone, Copy)]
enum Rejection {
    /// 401.
    Unauthorized,
    /// 401, or the 403 of Cisco's API gateway in front of `apix.cisco.com`.
    Mashery,
}

impl Forwarder {
    pub(super) fn new(
        upstream: &config::Upstream,
        tls: ClientConfig,
        resolver: Resolver,
        tokens: TokenReader,
        budget: ReplayBudget,
        metrics: Arc<UpstreamMetrics>,
        stop: Stopping,
    ) -> Result<Self, OutboundError> {
        Ok(Self {
            upstream: UpstreamClient::new(upstream, tls, resolver)?,
            tokens,
            timeout: upstream.timeout,
            wait: upstream.wait,
            replay: upstream.replay,
            budget,
            rejection: match upstream.preset {
                "cisco-support" => Rejection::Mashery,
                _ => Rejection::Unauthorized,
            },
            metrics,
            stop,
        })
    }

    /// The upstream's answer to a request.
    pub(super) async fn forward(
        &self,
        request: Request<Body>,
        admitted: Admitted,
    ) -> Result<Response<Body>, ProxyError> {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let (kept, kept_body) = self.keep(&body);
        let mut upload = RequestBody::from_caller(body, self.timeout.idle, kept);
        if parts.headers.contains_key(EXPECT) {
            upload.first_poll().await;
        }
        let progress = upload.state();
        let mut stop = self.stop.clone();
        let response = tokio::select! {
            biased;
            response = self.exchange(parts, upload, kept_body, admitted) => response,
            () = self.out_of_time(&progress) => Err(self.timed_out(progress.is_sent())),
            () = progress.stalled(self.timeout.idle) => Err(ProxyError::UploadStalled),
            () = stop.reached(Phase::Deadline) => Err(ProxyError::Stopping { is_sent: progress.is_sent() }),
        };
        // Where the caller broke off, what the upstream made of that is not the reason.
        let response = response.map_err(|error| progress.fault().unwrap_or(error))?;
        Ok(Self::inbound(response, is_head))
    }

    /// The upstream's answer to a request on a consuming route, as the upstream gives it.
    pub(super) async fn ask(
        &self,
        mut parts: Parts,
        upload: RequestBody,
        kept: KeptBody,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        headers::for_whole_message(&mut parts.headers);
        if !upload.is_end_stream() {
            parts
                .headers
                .insert(CONTENT_LENGTH, upload.size_hint().lower().into());
        }
        let admitted = Admitted {
            is_fresh: true,
            is_consuming: true,
        };
        self.exchange(parts, upload, Some(kept), admitted).await
    }

    /// Begins what the first request will need.
    pub(super) fn prefetch(&self) {
        self.upstream.prefetch();
    }

    /// What a caller has waited for in vain.
    pub(super) fn timed_out(&self, is_sent: bool) -> ProxyError {
        match self.upstream.unresolved() {
            Some(unresolved) if !is_sent => ProxyError::Upstream(unresolved.into()),
            _ => ProxyError::Timeout { is_sent },
        }
    }

    /// `timeout.head` begins when the request's body has ended.
    async fn out_of_time(&self, progress: &UploadState) {
        progress.ended().await;
        tokio::time::sleep(self.timeout.head).await;
    }

    fn keep(&self, body: &Body) -> (Option<replay::Kept>, Option<KeptBody>) {
        let length = body.size_hint().lower();
        if body.is_end_stream() || length > self.replay {
            return (None, None);
        }
        let (kept, kept_body) = replay::keep(self.replay, length, &self.budget);
        (Some(kept), Some(kept_body))
    }

    /// Sends the request, and once more where the upstream refused a token that has a successor.
    async fn exchange(
        &self,
        parts: Parts,
        upload: RequestBody,
        kept: Option<KeptBody>,
        admitted: Admitted,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let had_no_body = upload.is_end_stream();
        let mut headers = headers::outbound(parts.headers, self.upstream.host());
        if had_no_body && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            // RFC 9110 §8.6 asks for it, and strict servers respond with 411 where it is missing.
            headers
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        let head = Head {
            target: self.upstream.target(&parts.uri).map_err(|error| {
                Answer::new(
                    StatusCode::BAD_REQUEST,
                    "http_request_error",
                    format!("the request's target: {error}"),
                )
            })?,
            method: parts.method,
            headers,
            extensions: headers::kept(parts.extensions),
        };
        let token = match self.tokens.current() {
            Some(token) => token,
            None => Box::pin(self.tokens.wait(self.wait)).await?,
        };
        let response = self.send(&head, &token, upload, admitted).await?;
        if !self.rejection.is_in(&response) {
            return Ok(response);
        }
        Box::pin(self.replay(&head, &token, response, (had_no_body, kept), admitted)).await
    }

    /// Sends a request once more whose token was refused, where that can be.
    async fn replay(
        &self,
        head: &Head,
        token: &Arc<AccessToken>,
        refusal: Response<ResponseBody>,
        (had_no_body, kept): (bool, Option<KeptBody>),
        admitted: Admitted,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        self.tokens.reject(token);
        let again = if had_no_body {
            Some(Whole::default())
        } else {
            kept.and_then(|kept| kept.take())
        };
        if self.tokens.are_rejected() {
            // Whatever token it is sent, this is the upstream's answer.
            return Ok(refusal);
        }
        let Some(whole) = again else {
            return Err(ProxyError::NotReplayable);
        };
        let newer = self.tokens.newer(token, self.wait).await?;
        drop(refusal);
        self.metrics.replays.inc();
        let upload = RequestBody::from_kept(whole);
        let response = self.send(head, &newer, upload, admitted).await?;
        if self.rejection.is_in(&response) {
            self.tokens.reject(&newer);
        }
        Ok(response)
    }

    async fn send(
        &self,
        head: &Head,
        token: &Arc<AccessToken>,
        upload: RequestBody,
        admitted: Admitted,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let has_unknown_length = !upload.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH);
        let state = upload.state();
        let mut request = Request::new(Body::new(upload));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.target.clone();
        *request.headers_mut() = head.headers.clone();
        *request.extensions_mut() = head.extensions.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization().clone());
        if has_unknown_length {
            // Unasked, hyper takes the body of a GET for none.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut response = self
            .upstream
            .send(request, admitted.is_fresh, &state.may_be_sent)
            .await?;
        super::headers::conceal(response.headers_mut(), token.authorization());
        // Nobody asked for an upgrade: what follows would not be HTTP.
        if response.status().is_informational() {
            Err(ProxyError::Upgraded)
        } else {
            Ok(response)
        }
    }

    /// The upstream's answer, made ready for the caller of a HEAD request or of another one.
    pub(super) fn inbound(response: Response<ResponseBody>, is_head: bool) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        parts.headers = headers::inbound(parts.headers);
        parts.extensions = headers::kept(parts.extensions);
        let length = match parts.status {
            StatusCode::NO_CONTENT => None,
            status if is_head || status == StatusCode::NOT_MODIFIED => length::stated(&parts.headers),
            _ => body.content_length(),
        };
        length::set(&mut parts.headers, length);
        Response::from_parts(parts, Body::new(body))
    }
}

/// A request's head, for as often as it is sent.
struct Head {
    method: Method,
    target: http::Uri,
    headers: HeaderMap,
    /// How the names of the fields are spelled.
    extensions: Extensions,
}

impl Rejection {
    fn is_in(self, response: &Response<ResponseBody>) -> bool {
        match (self, response.status()) {
            (_, StatusCode::UNAUTHORIZED) => true,
            (Self::Mashery, StatusCode::FORBIDDEN) => {
                let code = response.headers().get("x-mashery-error-code");
                code.is_some_and(|code| code == "ERR_403_NOT_AUTHORIZED")
            }
            _ => false,
        }
    }
}
