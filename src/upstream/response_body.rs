//! The body of an upstream's response, which returns its connection to the pool at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::connection::Connection;
use super::destination::end_of_connection;
use super::pool::Pool;
use super::status::ApiStatus;
use crate::problems::{Problem, api};

/// A response's body. Polling it drives the connection. Trailers are dropped.
///
/// A [`Poll::Pending`] precedes each failure, so that hyper's server flushes: a caller that received nothing at all would
/// send its request again.
pub struct ResponseBody {
    incoming: Incoming,
    /// `None` once the body is complete or the connection has ended.
    connection: Option<Connection>,
    pool: Option<Pool>,
    idle_limit: Duration,
    /// Runs while nothing arrives.
    idle_timer: Option<Pin<Box<Sleep>>>,
    failure: Option<ResponseBodyError>,
    api: Option<ApiStatus>,
    /// The response calls itself HTML, and its body has not begun.
    may_be_page: bool,
}

/// The body ended early: the connection broke, the framing is invalid, or nothing arrived for `timeout.idle`.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.cause())]
pub struct ResponseBodyError(Box<Problem>);

impl ResponseBodyError {
    /// The problem's code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code()
    }
}

impl ResponseBody {
    /// The connection goes to `pool` at the end of the body, or is closed without one.
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        pool: Option<Pool>,
        idle_limit: Duration,
    ) -> Self {
        let mut body = Self {
            incoming,
            connection: Some(connection),
            pool,
            idle_limit,
            idle_timer: None,
            failure: None,
            api: None,
            may_be_page: false,
        };
        if body.incoming.is_end_stream() {
            body.release_connection();
        }
        body
    }

    /// The length of the body, if its framing states one.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Records in `api` how the body ends, and how it begins where that shows whether it is a page.
    pub fn report_to(&mut self, api: &ApiStatus, may_be_page: bool) {
        self.may_be_page = may_be_page;
        if self.is_end_stream() {
            self.report_beginning(api, &[]);
            api.body_ended();
        } else {
            self.api = Some(api.clone());
        }
    }

    /// The failure of a body that ended early, for this reason.
    fn failed(&self, reason: &str) -> ResponseBodyError {
        ResponseBodyError(Box::new(match &self.api {
            Some(api) => api.body_failed(reason),
            None => api::cut_short("the API", reason),
        }))
    }

    fn report_beginning(&mut self, api: &ApiStatus, beginning: &[u8]) {
        if std::mem::take(&mut self.may_be_page) {
            api.body_began(beginning);
        }
    }

    fn release_connection(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let is_ready = connection.is_ready();
        match &self.pool {
            Some(pool) if is_ready => pool.put(connection),
            _ => connection.close(),
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut self.connection
        {
            // That first poll made the connection read on.
            if connection.poll_drive(cx).is_ready() {
                self.connection = None;
            }
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        if self.may_be_page
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let (Some(data), Some(api)) = (frame.data_ref(), self.api.clone())
        {
            self.report_beginning(&api, data);
        }
        let has_more = match &polled {
            Poll::Ready(Some(Ok(_))) => !self.incoming.is_end_stream(),
            polled => polled.is_pending(),
        };
        if !has_more {
            self.release_connection();
            if !matches!(polled, Poll::Ready(Some(Err(_))))
                && let Some(api) = self.api.take()
            {
                api.body_ended();
            }
        }
        polled
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let start = || Box::pin(tokio::time::sleep(self.idle_limit));
        self.idle_timer.get_or_insert_with(start).as_mut().poll(cx)
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let body = self.get_mut();
        if let Some(failure) = body.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let failure = loop {
            match body.poll_incoming(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    body.idle_timer = None;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => break body.failed(end_of_connection(&error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(body.poll_idle(cx));
                    break body.failed("nothing came for timeout.idle");
                }
            }
        };
        body.failure = Some(failure);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.incoming.is_end_stream()
    }

    // No size hint: axum would turn that of a HEAD response into a `Content-Length: 0`.
}
