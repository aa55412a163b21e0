//! Requests on consuming routes. Their response takes a message off a queue, so it is stored in the spool before a caller
//! gets any of it.

mod body;
mod empty_queue;
mod error;
mod observer;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;

use self::body::{next_frame, passed_through, stored};
use self::empty_queue::is_empty_queue;
pub(super) use self::error::PullError;
use self::observer::{Message, Observer};
use super::dependencies::Dependencies;
use super::forward::{Forwarder, ProxyError, RequestBody, UploadError, headers};
use super::request_record::RequestRecord;
use crate::config;
use crate::problems::network::login_page;
use crate::problems::{request, token};
use crate::server::{ObserveDelivery, Phase, ProblemResponse, Stopping};
use crate::spool::{self, Delivery, PullWriter, QueueId, Spool, SpoolError, TakeOutcome, WriteError};
use crate::telemetry::metrics::{PullMetrics, UpstreamMetrics};
use crate::upstream::{HTML_BEGINNING, ResponseBody, declares_html, is_html};

/// Serves the consuming routes of one upstream.
pub(super) struct Puller {
    upstream: Arc<config::Upstream>,
    forwarder: Arc<Forwarder>,
    spool: Spool,
    stop: Stopping,
    metrics: Arc<UpstreamMetrics>,
}

/// The caller of a consuming route.
pub(super) struct PullCaller {
    /// The name that goes with its key, or else its address.
    pub(super) name: spool::Caller,
    /// A trusted proxy relays for it and names it: what that proxy has acknowledged is delivered.
    pub(super) is_relayed: bool,
}

/// What a request on a consuming route got, for its log line; an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PullOutcome {
    /// A message that was pulled for this request.
    Ticket,
    /// A message that was pulled for an earlier request.
    Redelivery,
    /// The notice of an empty queue.
    Empty,
}

impl PullOutcome {
    /// The name in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Redelivery => "redelivery",
            Self::Empty => "empty",
        }
    }
}

type PullResult = Result<Response<Body>, PullError>;

/// The longest body of a pull request. Requests that wait for their queue keep their bodies in memory.
const LONGEST_REQUEST: usize = 64 << 10;
/// How long reading the client id may take.
const LONGEST_READ: Duration = Duration::from_secs(5);

impl Puller {
    pub(super) fn new(
        upstream: &config::Upstream,
        forwarder: Arc<Forwarder>,
        dependencies: &Dependencies,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        Self {
            upstream: Arc::new(upstream.clone()),
            forwarder,
            spool: dependencies.spool.clone(),
            stop: dependencies.stop.clone(),
            metrics,
        }
    }

    /// The response to a request on a consuming route: a message, or what the upstream responds without one.
    ///
    /// `timeout.head` ends the caller's wait. A pull that was begun goes on, and the next request gets its message.
    pub(super) async fn take(
        self: Arc<Self>,
        request: Request<Body>,
        caller: PullCaller,
        record: RequestRecord,
    ) -> PullResult {
        let (parts, body) = request.into_parts();
        let body = self.whole(body).await?;
        let kept = body.clone();
        let upload = RequestBody::from_bytes(body);
        let progress = upload.state();
        record.lock().upload = Some(progress.clone());
        let known_queue = OnceLock::new();
        let taken = async {
            let url = &self.upstream.url;
            let queue = QueueId::of(url, self.client_id().await?, parts.uri.path());
            let queue = known_queue.get_or_init(|| queue).clone();
            let stop = self.stop.clone();
            let may_pull = move || stop.phase() < Phase::Draining;
            let (puller, method, is_relayed) = (self.clone(), parts.method.clone(), caller.is_relayed);
            let respond = move |taken| async move {
                match taken {
                    TakeOutcome::Message(delivery) => puller.deliver(delivery, is_relayed),
                    TakeOutcome::Pull(writer) => {
                        let metrics = puller.metrics.clone();
                        let result = puller.pull(parts, upload, kept, *writer, is_relayed).await;
                        count(&metrics.pulls, &result);
                        result
                    }
                }
            };
            let taken = self.spool.take(queue, &method, caller.name, may_pull, respond);
            taken.await?
        };
        let mut stop = self.stop.clone();
        tokio::select! {
            taken = taken => taken,
            () = tokio::time::sleep(self.upstream.timeout.head) => {
                Err(if progress.is_sent() { PullError::Continues } else { self.timed_out(known_queue.get()) })
            }
            () = stop.reached(Phase::Deadline) => {
                let is_sent = progress.is_sent();
                Err(ProxyError::Stopping { is_sent }.into())
            }
        }
    }

    /// Why nothing was sent within `timeout.head`.
    fn timed_out(&self, queue: Option<&QueueId>) -> PullError {
        match self.forwarder.timed_out(false) {
            unresolved @ ProxyError::Upstream(_) => unresolved.into(),
            _ => PullError::Waiting(self.spool.why_waiting(queue)),
        }
    }

    /// Reads the whole body of a request: the pull must not depend on the caller.
    async fn whole(&self, body: Body) -> Result<Bytes, ProxyError> {
        let upload = RequestBody::from_caller(body, self.upstream.timeout.idle, None);
        let progress = upload.state();
        match Limited::new(upload, LONGEST_REQUEST).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ProxyError::from(ProblemResponse::invalid(
                StatusCode::PAYLOAD_TOO_LARGE,
                request::too_large("the body of a request for a message is over 64 KiB", "send less"),
            ))),
            Err(_) => Err(progress
                .upload_error()
                .unwrap_or(ProxyError::Body(UploadError::Broken))),
        }
    }

    async fn client_id(&self) -> Result<String, PullError> {
        use secrecy::ExposeSecret as _;
        let source = self.upstream.client_id.clone();
        let read = tokio::task::spawn_blocking(move || source.load());
        match tokio::time::timeout(LONGEST_READ, read).await {
            Ok(Ok(Ok(id))) => Ok(id.expose_secret().to_owned()),
            Ok(Ok(Err(error))) => Err(PullError::NoClientId(error.into())),
            _ => Err(PullError::NoClientId(token::credentials_hang())),
        }
    }

    /// Pulls, and stores the response if it is a message.
    async fn pull(
        self: Arc<Self>,
        mut parts: Parts,
        upload: RequestBody,
        kept: Bytes,
        mut writer: PullWriter,
        is_relayed: bool,
    ) -> PullResult {
        let deadline = Instant::now() + self.upstream.timeout.pull;
        let progress = upload.state();
        let (method, uri) = (parts.method.clone(), std::mem::take(&mut parts.uri));
        let asked = tokio::time::timeout_at(deadline, self.forwarder.pull(&uri, parts, upload, kept)).await;
        let too_late = |_| {
            let is_sent = progress.is_sent();
            let limit = self.upstream.timeout.pull;
            Err(ProxyError::Timeout { is_sent, limit })
        };
        let mut asked = asked.unwrap_or_else(too_late);
        self.forwarder.record(&method, &uri, &mut asked);
        let response = match asked {
            Ok(response) => response,
            Err(error) if error.is_not_executed() => {
                writer.discard().await;
                return Err(error.into());
            }
            Err(error) => {
                writer.lose(error.problem().cause()).await;
                return Err(error.into());
            }
        };
        if !response.status().is_success() {
            writer.discard().await;
            return Ok(Forwarder::inbound(response, false));
        }
        if response.body().is_end_stream() {
            writer.queue_is_empty().await;
            return Ok(with_outcome(
                Forwarder::inbound(response, false),
                PullOutcome::Empty,
            ));
        }
        let (mut head, mut body) = response.into_parts();
        head.version = Version::default();
        head.headers = headers::inbound(head.headers);
        head.headers.remove(CONTENT_LENGTH);
        head.extensions = headers::spelling(head.extensions);
        writer.head(&head);
        let mut beginning = Vec::new();
        let stored = store(&mut writer, &mut body, deadline, &mut beginning).await;
        if declares_html(&head.headers) && is_html(&beginning) {
            let problem = login_page("API request", self.upstream.url.host(), "");
            // A filter may have replaced the API's response, so that the queue is one message shorter.
            writer.lose(problem.cause()).await;
            return Err(PullError::Page(problem));
        }
        if let Err(error) = stored {
            return self.not_stored(writer, error, head, body, is_relayed).await;
        }
        if let Some(notice) = writer.small_body().filter(|body| is_empty_queue(body)) {
            let notice = Bytes::copy_from_slice(notice);
            writer.queue_is_empty().await;
            return Ok(with_outcome(
                Response::from_parts(head, Body::from(notice)),
                PullOutcome::Empty,
            ));
        }
        match writer.finish(head.clone()).await {
            Ok(delivery) => self.deliver(delivery, is_relayed),
            Err(error) => self.not_stored(writer, error, head, body, is_relayed).await,
        }
    }

    /// Passes a response through that cannot be stored, or reports it as lost.
    async fn not_stored(
        &self,
        writer: PullWriter,
        error: WriteError,
        head: response::Parts,
        rest: ResponseBody,
        is_relayed: bool,
    ) -> PullResult {
        if matches!(error, WriteError::Incomplete(_) | WriteError::Endless) {
            writer.lose(&error.to_string()).await;
            return Err(PullError::Incomplete);
        }
        let passed = writer.pass_through(error).await;
        let (begun, passing) = passed.map_err(|_| PullError::Incomplete)?;
        let body = passed_through(begun, rest, passing.broken_off());
        let response = with_outcome(Response::from_parts(head, body), PullOutcome::Ticket);
        Ok(self.observed(response, Message::PassedThrough(Box::new(passing)), is_relayed))
    }

    /// The response that delivers a message.
    fn deliver(&self, delivery: Delivery, is_relayed: bool) -> PullResult {
        let body = delivery.body().map_err(SpoolError::Unusable)?;
        let length = body.length();
        let mut response = Response::from_parts(delivery.head().clone(), stored(body));
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        let outcome = if delivery.redelivered().is_some() {
            PullOutcome::Redelivery
        } else {
            PullOutcome::Ticket
        };
        response.extensions_mut().insert(outcome);
        if let Some(pulled) = delivery.redelivered() {
            let pulled = httpdate::fmt_http_date(pulled.time());
            let pulled = HeaderValue::try_from(pulled).expect("a date is visible ASCII");
            response.headers_mut().insert(headers::REDELIVERED, pulled);
        }
        Ok(self.observed(response, Message::Stored(delivery), is_relayed))
    }

    /// Attaches the observer of its delivery to a response.
    fn observed(
        &self,
        mut response: Response<Body>,
        mut message: Message,
        is_relayed: bool,
    ) -> Response<Body> {
        message.lease().set_on_connection(true);
        response.extensions_mut().insert(ObserveDelivery::new(Observer {
            message,
            settle: self.spool.settle(),
            is_relayed,
        }));
        response
    }
}

/// Counts a pull by its result.
fn count(metrics: &PullMetrics, result: &PullResult) {
    let response = result.as_ref().ok();
    let counter = match response.and_then(|response| response.extensions().get()) {
        Some(PullOutcome::Empty) => &metrics.empty,
        Some(_) => &metrics.messages,
        None => {
            metrics.failed.inc();
            return;
        }
    };
    counter.inc();
    metrics.set_last_success();
}

fn with_outcome(mut response: Response<Body>, outcome: PullOutcome) -> Response<Body> {
    response.extensions_mut().insert(outcome);
    response
}

/// Stores a response's body as it comes, and the beginning of it in `beginning`.
async fn store(
    writer: &mut PullWriter,
    body: &mut ResponseBody,
    deadline: Instant,
    beginning: &mut Vec<u8>,
) -> Result<(), WriteError> {
    loop {
        let Some(frame) = next_frame(body, deadline).await else {
            return Ok(());
        };
        if let Ok(piece) = frame.map_err(WriteError::Incomplete)?.into_data() {
            beginning.extend(piece.iter().take(HTML_BEGINNING.saturating_sub(beginning.len())));
            writer.write(&piece).await?;
        }
    }
}
