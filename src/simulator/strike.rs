//! Does to a request what a fault says.
//!
//! Some kinds take the place of the answer, before the request is obeyed or after. The others spoil the real answer,
//! so the request is always obeyed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::sleep;

use super::answer::{broken_off, drained};
use super::connection::{Cut, Link};
use super::faults::{Fault, Kind, Then};
use super::identity::okta;
use super::record::{Endpoint, Recorded};
use super::reply;

/// How much is sent of a body whose size is not known before "half" of it is over.
const HALF_OF_UNKNOWN: u64 = 1024;

/// Answers `request` with what `fault` leaves of the answer that `obey` would give.
pub(super) async fn strike<F>(
    fault: Fault,
    endpoint: Endpoint,
    request: Request<Recorded>,
    link: Arc<Link>,
    obey: impl FnOnce(Request<Recorded>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    match fault.kind {
        Kind::Slow { ms } => {
            let pause = Duration::from_millis(ms);
            if fault.after_effect {
                let response = obey(request).await;
                sleep(pause).await;
                response
            } else {
                sleep(pause).await;
                obey(request).await
            }
        }
        Kind::TruncatedJson => cropped(obey(request).await, None),
        Kind::Half { then } => cropped(obey(request).await, Some((then, link))),
        Kind::NoAccessToken => {
            retold(obey(request).await, |reply| {
                reply.remove("access_token");
            })
            .await
        }
        Kind::BadToken => {
            retold(obey(request).await, |reply| {
                if let Some(token) = reply.get_mut("access_token") {
                    *token = Value::from("bad\r\ntoken: \u{7f}\u{fc}");
                }
            })
            .await
        }
        kind => {
            if fault.after_effect {
                drop(obey(request).await);
            } else if !fault.early
                && let Err(error) = drained(request.into_body()).await
            {
                return broken_off(&error);
            }
            instead(kind, endpoint, &link).await
        }
    }
}

/// The answer of the kinds that take the real one's place.
async fn instead(kind: Kind, endpoint: Endpoint, link: &Link) -> Response<Body> {
    match kind {
        Kind::Reset => cut(link, Cut::Reset).await,
        Kind::Close => cut(link, Cut::Close).await,
        Kind::Raw { bytes } => cut(link, Cut::Raw(bytes)).await,
        Kind::Status { code, headers, body } => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = code;
            *response.headers_mut() = headers;
            response
        }
        Kind::Html { status } => reply::html(status),
        Kind::Empty => Response::new(Body::empty()),
        Kind::RateLimited {
            retry_after,
            reset_in,
        } => rate_limited(endpoint, retry_after, reset_in),
        // The rest spoil an answer and never come here; a hang is the mildest of wrong guesses.
        _ => std::future::pending().await,
    }
}

/// Ends the connection; the task that owns it drops the request that waits here.
async fn cut(link: &Link, cut: Cut) -> Response<Body> {
    link.cut(cut);
    std::future::pending().await
}

fn rate_limited(endpoint: Endpoint, retry_after: Option<u64>, reset_in: u64) -> Response<Body> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut response = if endpoint == Endpoint::Token {
        reply::json(
            StatusCode::TOO_MANY_REQUESTS,
            &okta(
                "E0000047",
                "API call exceeded rate limit due to too many requests.",
            ),
        )
    } else {
        reply::message(StatusCode::TOO_MANY_REQUESTS, "Too many requests")
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-rate-limit-limit", 600),
        ("x-rate-limit-remaining", 0),
        ("x-rate-limit-reset", now.as_secs().saturating_add(reset_in)),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The same answer with its JSON object changed; one without is left alone.
async fn retold(
    response: Response<Body>,
    change: impl FnOnce(&mut serde_json::Map<String, Value>),
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    // Token replies are small and never fail; another endpoint's stream is none of this fault's business.
    if body.size_hint().upper().is_none_or(|size| size > 1 << 20) {
        return Response::from_parts(parts, body);
    }
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let Ok(Value::Object(mut reply)) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    change(&mut reply);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::Object(reply).to_string()))
}

fn cropped(response: Response<Body>, then: Option<(Then, Arc<Link>)>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let whole = body.size_hint().exact();
    let left = whole.map_or(HALF_OF_UNKNOWN, |whole| whole / 2);
    let claimed = if then.is_some() { whole } else { Some(left) };
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(
        parts,
        Body::new(Cropped {
            body,
            left,
            claimed,
            then,
        }),
    )
}

/// A body that ends before its end.
#[derive(Debug)]
struct Cropped {
    body: Body,
    left: u64,
    /// What is still missing of the size that the head told.
    claimed: Option<u64>,
    then: Option<(Then, Arc<Link>)>,
}

impl HttpBody for Cropped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left == 0 {
            let Some((then, link)) = &self.then else {
                return Poll::Ready(None);
            };
            match then {
                Then::Reset => link.cut_after_flush(Cut::Reset),
                Then::Close => link.cut_after_flush(Cut::Close),
                Then::Hang => {}
            }
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            self.left = 0;
            return Poll::Ready(frame);
        };
        let Ok(mut data) = frame.into_data() else {
            return Poll::Ready(None);
        };
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = data.len() as u64;
        self.left -= length;
        self.claimed = self.claimed.map(|claimed| claimed.saturating_sub(length));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.then.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.claimed.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
