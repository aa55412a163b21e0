//! Requests on consuming routes: their answer takes a message off a queue, so it comes by way of the
//! spool, and never goes out before it is written down.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;

use super::body::{Download, Upload};
use super::forward::{Forwarder, KeptBody, ProxyError, Whole, headers};
use super::message::{MessageBody, Resumed};
use super::pull_error::PullError;
use crate::config::{self, SecretSource, Timeouts};
use crate::server::{Answer, DeliveryObserver, DeliveryOutcome, ObserveDelivery, Phase, Recording, Stopping};
use crate::spool::{self, Claim, Head, Intake, Key, Spool, SpoolError, Taken, Unkept};

/// Answers requests on the consuming routes of one upstream.
#[derive(Clone)]
pub(super) struct Puller {
    forwarder: Arc<Forwarder>,
    spool: Spool,
    authority: String,
    base: String,
    client_id: SecretSource,
    timeout: Timeouts,
    stop: Stopping,
}

/// The caller that asks for a message.
pub(super) struct Asker {
    /// The name that goes with its key, or else its address.
    pub(super) name: spool::Caller,
    /// A trusted proxy relays for it, and names it: what the proxy has acknowledged is delivered.
    pub(super) is_relayed: bool,
}

/// The most that a request for a message may hold. All that wait for their turn are in memory.
const LONGEST_REQUEST: usize = 64 << 10;
/// A longer answer is never the word of an empty queue.
const LONGEST_WORD: usize = 4 << 10;
/// How long reading the client's id may take.
const LONGEST_READ: Duration = Duration::from_secs(5);

impl Puller {
    pub(super) fn new(
        upstream: &config::Upstream,
        forwarder: Arc<Forwarder>,
        spool: Spool,
        stop: Stopping,
    ) -> Self {
        Self {
            forwarder,
            spool,
            authority: upstream.url.authority().to_string(),
            base: upstream.url.path().trim_end_matches('/').to_owned(),
            client_id: upstream.client_id.clone(),
            timeout: upstream.timeout,
            stop,
        }
    }

    /// A message for a caller, or what the upstream says in place of one.
    ///
    /// `timeout.head` ends the caller's wait. A pull that has begun goes on without it, and its message
    /// answers the next request.
    pub(super) async fn take(
        &self,
        request: Request<Body>,
        asker: Asker,
    ) -> Result<Response<Body>, ProxyError> {
        let (parts, body) = request.into_parts();
        let body = self.whole(body).await?;
        let kept = KeptBody::of(body.clone());
        let upload = Upload::from_kept(Whole::from(body));
        let progress = upload.progress();
        let (mut stop, until) = (self.stop.clone(), self.stop.clone());
        let taken = async {
            let key = Key {
                authority: self.authority.clone(),
                client_id: self.client_id().await?,
                route: format!("{}{}", self.base, parts.uri.path()),
            };
            let method = parts.method.clone();
            let may_pull = move || until.phase() < Phase::Draining;
            let puller = self.clone();
            let pull = move |intake| puller.pull(parts, upload, kept, intake);
            let (settle, is_relayed) = (self.spool.settle(), asker.is_relayed);
            let taken = self.spool.take(key, &method, asker.name, may_pull, pull).await;
            match taken.map_err(PullError::Spool)? {
                Taken::Message(claim) => deliver(*claim, settle, is_relayed),
                Taken::Empty(answer) | Taken::Other(answer) => answer,
            }
        };
        let unanswered = |sent, unsent| {
            if progress.is_sent() { sent } else { unsent }
        };
        tokio::select! {
            taken = taken => taken,
            () = tokio::time::sleep(self.timeout.head) => {
                Err(unanswered(PullError::GoesOn.into(), self.waits_in_vain()))
            }
            () = stop.reached(Phase::Deadline) => {
                Err(unanswered(ProxyError::Stopping { is_sent: true }, PullError::Spool(SpoolError::Stopping).into()))
            }
        }
    }

    /// Why nothing was sent within `timeout.head`.
    fn waits_in_vain(&self) -> ProxyError {
        match self.forwarder.timed_out(false) {
            unresolved @ ProxyError::Connect(_) => unresolved,
            _ => PullError::Waits.into(),
        }
    }

    /// The whole body of a request: what is sent must not depend on the caller's staying.
    async fn whole(&self, body: Body) -> Result<Bytes, ProxyError> {
        let upload = Upload::from_caller(body, self.timeout.idle, None);
        let progress = upload.progress();
        match Limited::new(upload, LONGEST_REQUEST).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ProxyError::from(Answer::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "http_request_error",
                "the body of a request for a message may hold up to 64 KiB",
            ))),
            Err(_) => Err(progress.fault().unwrap_or(ProxyError::Body)),
        }
    }

    async fn client_id(&self) -> Result<String, ProxyError> {
        use secrecy::ExposeSecret as _;
        let source = self.client_id.clone();
        let read = tokio::task::spawn_blocking(move || source.load());
        let read = tokio::time::timeout(LONGEST_READ, read).await;
        match read {
            Ok(Ok(Ok(id))) => Ok(id.expose_secret().to_owned()),
            Ok(Ok(Err(error))) => Err(PullError::NoClient(error.to_string()).into()),
            _ => Err(PullError::NoClient("reading it does not return".to_owned()).into()),
        }
    }

    /// One pull, to its end.
    async fn pull(
        self,
        parts: Parts,
        upload: Box<Upload>,
        kept: KeptBody,
        intake: Intake,
    ) -> Taken<Result<Response<Body>, ProxyError>> {
        let deadline = Instant::now() + self.timeout.pull;
        let progress = upload.progress();
        let asked = tokio::time::timeout_at(deadline, self.forwarder.pull(parts, upload, kept)).await;
        let too_late = |_| {
            Err(ProxyError::Timeout {
                is_sent: progress.is_sent(),
            })
        };
        let response = match asked.unwrap_or_else(too_late) {
            Ok(response) => response,
            Err(error) => {
                if error.is_not_executed() {
                    intake.discard().await;
                } else {
                    intake.lose(&error.to_string()).await;
                }
                return Taken::Other(Err(error));
            }
        };
        let is_success = response.status().is_success();
        if !is_success || response.body().is_end_stream() {
            intake.discard().await;
            let answer = Ok(self.forwarder.inbound(response, false));
            return if is_success {
                Taken::Empty(answer)
            } else {
                Taken::Other(answer)
            };
        }
        let (mut parts, body) = response.into_parts();
        parts.headers = headers::inbound(parts.headers);
        parts.headers.remove(CONTENT_LENGTH);
        let head = Head {
            status: parts.status,
            headers: parts.headers,
            extensions: headers::spelling(parts.extensions),
        };
        take_in(intake, head, Download::new(body, self.timeout.idle), deadline).await
    }
}

/// Writes an answer down as it comes, and judges what it is once it is whole.
async fn take_in(
    mut intake: Intake,
    head: Head,
    mut body: Download,
    deadline: Instant,
) -> Taken<Result<Response<Body>, ProxyError>> {
    intake.head(head.clone());
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                intake.lose(&error.to_string()).await;
                return Taken::Other(Err(PullError::Broken.into()));
            }
            Err(_) => {
                intake.lose("its answer was not whole within timeout.pull").await;
                return Taken::Other(Err(PullError::Broken.into()));
            }
        };
        let Ok(piece) = frame.into_data() else { continue };
        if let Err(unkept) = intake.write(&piece).await {
            return pass_on(intake, unkept, head, body).await;
        }
    }
    if let Some(word) = intake.body().filter(|body| is_empty_queue(body)) {
        let word = Bytes::copy_from_slice(word);
        intake.discard().await;
        return Taken::Empty(Ok(answer(head, Body::from(word))));
    }
    match intake.finish().await {
        Ok(claim) => Taken::Message(Box::new(claim)),
        Err(unkept) => pass_on(intake, unkept, head, body).await,
    }
}

/// An answer that the spool cannot keep goes to its caller alone, where all of it is still at hand.
async fn pass_on(
    intake: Intake,
    unkept: Unkept,
    head: Head,
    rest: Download,
) -> Taken<Result<Response<Body>, ProxyError>> {
    match unkept {
        Unkept::TooLarge(begun) => {
            intake.pass_through().await;
            Taken::Other(Ok(answer(head, Body::new(Resumed::new(begun, rest)))))
        }
        Unkept::Gone(why) => {
            intake.lose(why).await;
            Taken::Other(Err(PullError::Broken.into()))
        }
    }
}

/// The word of an empty queue, which takes nothing off it (Cisco's Smart Bonding API; formerly 204).
fn is_empty_queue(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Word {
        message: String,
        #[serde(rename = "status")]
        _status: Option<serde_json::Value>,
    }
    if body.len() > LONGEST_WORD {
        return false;
    }
    body.trim_ascii().is_empty()
        || serde_json::from_slice::<Word>(body).is_ok_and(|word| {
            word.message
                .to_ascii_lowercase()
                .contains("no messages available")
        })
}

fn answer(head: Head, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    *response.extensions_mut() = head.extensions;
    response
}

fn deliver(mut claim: Claim, settle: Duration, is_relayed: bool) -> Result<Response<Body>, ProxyError> {
    let body = MessageBody::open(
        claim
            .body()
            .map_err(SpoolError::Unusable)
            .map_err(PullError::Spool)?,
    );
    let mut response = answer(claim.head().clone(), Body::empty());
    response.headers_mut().insert(CONTENT_LENGTH, body.left().into());
    if let Some(pulled) = claim.redelivered() {
        let pulled = httpdate::fmt_http_date(pulled.time());
        let pulled = HeaderValue::try_from(pulled).expect("a date is visible ASCII");
        response.headers_mut().insert(headers::REDELIVERED, pulled);
    }
    claim.begin();
    response.extensions_mut().insert(ObserveDelivery::new(Delivery {
        claim,
        settle,
        is_relayed,
    }));
    Ok(response.map(|_| Body::new(body)))
}

/// Reports to the spool what the connection observes.
struct Delivery {
    claim: Claim,
    settle: Duration,
    is_relayed: bool,
}

impl DeliveryObserver for Delivery {
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.claim.poll_asked(cx)
    }

    fn is_connected(&mut self) {
        self.claim.is_there();
    }

    fn settle(&self) -> Duration {
        self.settle
    }

    fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    fn record(self: Box<Self>, outcome: DeliveryOutcome) -> Recording {
        Box::pin(async move {
            if outcome == DeliveryOutcome::Delivered {
                self.claim.delivered();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_of_an_empty_queue_is_no_message() {
        for word in [
            "",
            " \r\n",
            r#"{"message":"No messages available to Send","status":"200"}"#,
            r#"{"status":200,"message":"no messages available"}"#,
        ] {
            assert!(is_empty_queue(word.as_bytes()), "{word}");
        }
        for message in [
            r#"{"Calls":{"Remarks":"No messages available to Send"}}"#,
            r#"{"message":"No messages available to Send","Calls":{}}"#,
            r#"{"message":"Send"}"#,
            "No messages available to Send",
            "[]",
        ] {
            assert!(!is_empty_queue(message.as_bytes()), "{message}");
        }
    }
}
