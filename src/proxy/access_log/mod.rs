//! The layer that writes one log line and counts one request, when the response has ended or the caller has
//! disconnected. Bodies, queries and credentials appear in neither.

mod entry;
mod explanations;
mod identifiers;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tower::Service;

use self::entry::Entry;
use crate::upstream::ResponseBodyError;

pub(super) use self::entry::Settings;
pub(super) use self::explanations::Explanations;

/// Logs and counts the requests of one listener to its upstream.
#[derive(Clone)]
pub(super) struct AccessLog<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> AccessLog<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S> Service<Request<Body>> for AccessLog<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let entry = Entry::begin(&mut request, self.settings.clone());
        let response = self.inner.call(request);
        // When the caller disconnects, the future is dropped, and the entry with it.
        response
            .map(|Ok(mut response)| {
                let entry = entry.follow(&mut response);
                Ok(response.map(|body| Body::new(LoggedBody { body, entry })))
            })
            .boxed()
    }
}

/// A response body whose end completes the log entry.
struct LoggedBody {
    body: Body,
    entry: Box<Entry>,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.entry.response_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                self.entry.is_complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.entry.is_complete = true,
            Poll::Ready(Some(Err(error))) => {
                let error = error
                    .source()
                    .and_then(<dyn Error>::downcast_ref::<ResponseBodyError>);
                self.entry.cut = error.map(ResponseBodyError::code);
            }
            Poll::Pending => {}
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
