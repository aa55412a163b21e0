//! One log line and one count for each request, when its answer has ended. Bodies, queries and
//! credentials are in neither.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};

use super::caller::Caller;
use crate::server::Permit;
use crate::telemetry::metrics::UpstreamMetrics;

/// What callers and Cisco call a request by.
static CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
static TRANSACTION: HeaderName = HeaderName::from_static("x-transaction-id");

/// What is noted of a request while it is under way.
pub(super) struct Observation {
    began: Instant,
    upstream: Arc<str>,
    metrics: Arc<UpstreamMetrics>,
    method: Method,
    path: String,
    correlation: Option<String>,
    transaction: Option<String>,
    caller: Caller,
    status: u16,
    error: Option<&'static str>,
    reason: Option<String>,
    bytes: u64,
    is_whole: bool,
    place: Option<Permit>,
}

impl Observation {
    pub(super) fn begin<B>(
        request: &Request<B>,
        upstream: &Arc<str>,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Self {
        metrics.in_flight.inc();
        Self {
            began: Instant::now(),
            upstream: upstream.clone(),
            metrics: metrics.clone(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            correlation: text(request.headers(), &CORRELATION),
            transaction: None,
            caller: Caller::default(),
            status: 0,
            error: None,
            reason: None,
            bytes: 0,
            is_whole: false,
            place: None,
        }
    }

    /// Notes who sent it.
    pub(super) fn caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    /// Holds the request's place until the answer has ended.
    pub(super) fn hold(&mut self, place: Permit) {
        self.place = Some(place);
    }

    /// Notes that the answer is ours, and why.
    pub(super) fn own_answer(&mut self, error: &'static str, reason: String) {
        self.error = Some(error);
        self.reason = Some(reason);
        self.metrics.own_answer(error);
    }

    /// Follows the answer to its end.
    pub(super) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.status = response.status().as_u16();
        self.transaction = text(response.headers(), &TRANSACTION);
        self.metrics.answered(self.status);
        self.metrics.duration.observe(self.began.elapsed().as_secs_f64());
        // An answer to HEAD has no body that could be cut short: hyper drops the one that is there.
        self.is_whole = response.body().is_end_stream() || self.method == Method::HEAD;
        response.map(|body| {
            Body::new(Observed {
                body,
                observation: self,
            })
        })
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        // The message as a field and not as a format: this is the one line that each request has.
        tracing::info!(
            message = if self.status == 0 {
                "the caller left before its answer"
            } else if self.is_whole {
                "answered"
            } else {
                "the answer was cut short"
            },
            upstream = &*self.upstream,
            caller = self.caller.name.as_deref(),
            address = self
                .caller
                .address
                .map(|address| tracing::field::display(Shown(address))),
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            error = self.error,
            reason = self.reason,
            bytes = self.bytes,
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            correlation_id = self.correlation,
            transaction_id = self.transaction,
        );
    }
}

/// An address in our log. Nearly all are IPv4, and each is told once a request: that costs a tenth without padding
/// and width.
struct Shown(IpAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IpAddr::V4(address) = self.0 else {
            return self.0.fmt(f);
        };
        let (mut text, mut end) = ([b'.'; 15], 0);
        for (place, octet) in address.octets().into_iter().enumerate() {
            end += usize::from(place > 0);
            for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
                if octet >= least {
                    text[end] = b'0' + digit;
                    end += 1;
                }
            }
        }
        f.write_str(std::str::from_utf8(&text[..end]).map_err(|_| fmt::Error)?)
    }
}

/// Somebody else's text in our log: one line, bounded.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(128).collect())
}

struct Observed {
    body: Body,
    observation: Observation,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let observed = self.get_mut();
        let polled = Pin::new(&mut observed.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                observed.observation.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                observed.observation.is_whole = observed.body.is_end_stream();
            }
            Poll::Ready(None) => observed.observation.is_whole = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_the_standard_library_shows_it() {
        for text in [
            "0.0.0.0",
            "1.20.100.255",
            "10.0.9.99",
            "127.0.0.1",
            "255.255.255.255",
            "::1",
            "2001:db8::7",
        ] {
            assert_eq!(Shown(text.parse().unwrap()).to_string(), text);
        }
    }
}
