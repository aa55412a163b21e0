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

use super::access::Admitted;
use super::body::{Download, Progress, Upload};
use super::error::ProxyError;
use super::headers;
use super::length;
use super::link::Arriving;
use super::replay::{self, KeptBody, ReplayBudget, Whole};
use super::upstream::Upstream;
use crate::config::{self, OutboundError, Timeouts, TokenRejection};
use crate::resolver::Resolver;
use crate::server::{Answer, Phase, Stopping};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::token::{AccessToken, TokenReader};

/// Relays requests to one upstream from one worker.
pub(super) struct Forwarder {
    upstream: Upstream,
    tokens: TokenReader,
    timeout: Timeouts,
    wait: Duration,
    replay: u64,
    budget: ReplayBudget,
    rejection: TokenRejection,
    metrics: Arc<UpstreamMetrics>,
    stop: Stopping,
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
            upstream: Upstream::new(upstream, tls, resolver)?,
            tokens,
            timeout: upstream.timeout,
            wait: upstream.wait,
            replay: upstream.replay,
            budget,
            rejection: upstream.token_rejection,
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
        let mut upload = Upload::from_caller(body, self.timeout.idle, kept);
        if parts.headers.contains_key(EXPECT) {
            upload.invite().await;
        }
        let progress = upload.progress();
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
        Ok(self.inbound(response, is_head))
    }

    /// The upstream's answer to a request on a consuming route, as the upstream gives it.
    pub(super) async fn ask(
        &self,
        mut parts: Parts,
        upload: Box<Upload>,
        kept: KeptBody,
    ) -> Result<Response<Arriving>, ProxyError> {
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
            Some(unresolved) if !is_sent => ProxyError::Connect(unresolved.into()),
            _ => ProxyError::Timeout { is_sent },
        }
    }

    /// `timeout.head` begins when the request's body has ended.
    async fn out_of_time(&self, progress: &Progress) {
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
        upload: Box<Upload>,
        kept: Option<KeptBody>,
        admitted: Admitted,
    ) -> Result<Response<Arriving>, ProxyError> {
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
        if !rejects_token(self.rejection, &response) {
            return Ok(response);
        }
        Box::pin(self.replay(&head, &token, response, (had_no_body, kept), admitted)).await
    }

    /// Sends a request once more whose token was refused, where that can be.
    async fn replay(
        &self,
        head: &Head,
        token: &Arc<AccessToken>,
        refusal: Response<Arriving>,
        (had_no_body, kept): (bool, Option<KeptBody>),
        admitted: Admitted,
    ) -> Result<Response<Arriving>, ProxyError> {
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
        let upload = Upload::from_kept(whole);
        let response = self.send(head, &newer, upload, admitted).await?;
        if rejects_token(self.rejection, &response) {
            self.tokens.reject(&newer);
        }
        Ok(response)
    }

    async fn send(
        &self,
        head: &Head,
        token: &Arc<AccessToken>,
        upload: Box<Upload>,
        admitted: Admitted,
    ) -> Result<Response<Arriving>, ProxyError> {
        let has_unknown_length = !upload.is_end_stream() && !head.headers.contains_key(CONTENT_LENGTH);
        let mut request = Request::new(upload);
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
        let mut response = self.upstream.send(request, admitted.is_fresh).await?;
        super::headers::conceal(response.headers_mut(), token.authorization());
        // Nobody asked for an upgrade: what follows would not be HTTP.
        if response.status().is_informational() {
            Err(ProxyError::Upgraded)
        } else {
            Ok(response)
        }
    }

    /// The upstream's answer, made ready for the caller of a HEAD request or of another one.
    pub(super) fn inbound(&self, response: Response<Arriving>, is_head: bool) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        parts.headers = headers::inbound(parts.headers);
        parts.extensions = headers::kept(parts.extensions);
        let length = match parts.status {
            StatusCode::NO_CONTENT => None,
            status if is_head || status == StatusCode::NOT_MODIFIED => length::stated(&parts.headers),
            _ => body.size_hint().exact(),
        };
        length::set(&mut parts.headers, length);
        Response::from_parts(parts, Body::new(Download::new(body, self.timeout.idle)))
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

/// Whether a response rejects the token.
fn rejects_token(rejection: TokenRejection, response: &Response<Arriving>) -> bool {
    match (rejection, response.status()) {
        (_, StatusCode::UNAUTHORIZED) => true,
        (TokenRejection::Mashery, StatusCode::FORBIDDEN) => {
            let code = response.headers().get("x-mashery-error-code");
            code.is_some_and(|code| code == "ERR_403_NOT_AUTHORIZED")
        }
        _ => false,
    }
}
