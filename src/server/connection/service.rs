//! Passes requests from hyper to the router, and decides what becomes of the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tower::Service as _;

use super::refusal_responses::certificate_not_accepted;
use super::state::{Connection, Reading};
use super::transport::CallerTls;
use crate::server::active_settings::ActiveSettings;
use crate::server::delivery_observer::ObserveDelivery;
use crate::server::peer::Peer;
use crate::server::stopping::Stopping;
use crate::spelling::Recorded;

/// Serves the requests of one connection.
pub(super) struct RouterService {
    pub(super) settings: ActiveSettings,
    /// For TLS.
    pub(super) tls: Option<Box<CallerTls>>,
    pub(super) peer: Peer,
    pub(super) connection: Connection,
    pub(super) stop: Stopping,
}

/// The request is refused. The connection's state has the response.
#[derive(Debug, thiserror::Error)]
#[error("request refused")]
pub(super) struct Refused;

impl RouterService {
    /// Passes a request to the active router, and marks a response that is the last one of the connection. After a reload,
    /// the caller's certificate is checked again, by the settings that come with that router.
    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Refused> {
        let (mut head, body) = request.into_parts();
        if self.connection.lock().needs_recorded_spelling() {
            let recorded = Recorded(std::mem::take(&mut head.extensions));
            head.extensions.insert(recorded);
        } else {
            head.extensions.clear();
        }
        head.extensions.insert(self.peer.clone());
        let unread = (!body.is_end_stream()).then(|| RequestBody(Arc::new(Mutex::new(Some(body)))));
        let body = unread.clone().map_or_else(Body::empty, Body::new);
        let settings = self.settings.load();
        if let Some(caller) = &self.tls
            && !settings
                .tls
                .as_ref()
                .is_some_and(|tls| caller.is_accepted_by(tls))
        {
            self.connection.lock().refuse_request(certificate_not_accepted());
            return Err(Refused);
        }
        let response = settings.router.clone().call(Request::from_parts(head, body));
        drop(settings);
        let Ok(mut response) = response.await;
        let has_arrived = self.connection.lock().reading() != Reading::Body;
        let is_body_read = match unread {
            Some(unread) => unread.drain(has_arrived).await,
            None => true,
        };
        let mut connection = self.connection.lock();
        if let Some(refusal) = connection.body_refusal() {
            response = refusal.into_response();
        }
        let observer = response.extensions_mut().remove::<ObserveDelivery>();
        let observer = observer.and_then(|observer| observer.take());
        if connection.response_ready(observer, is_body_read, self.stop.phase()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        drop(connection);
        Ok(ResponseBody::wrap(response, self.connection.clone()))
    }
}

/// A request body. hyper reads ahead: when the response is ready, hyper may hold parts of the body that the router has
/// not read, and would close the connection without an announcement. So the body is kept beside its reader, to be drained.
#[derive(Clone)]
struct RequestBody(Arc<Mutex<Option<Incoming>>>);

impl RequestBody {
    /// Whether the body is read to its end when its response is ready. If it has arrived completely, the rest that was
    /// not read is discarded.
    async fn drain(mut self, has_arrived: bool) -> bool {
        let is_read_still = Arc::get_mut(&mut self.0).is_none();
        while self.0.lock().is_some() {
            if is_read_still || !has_arrived {
                return false;
            }
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await;
            if matches!(frame, Some(Err(_))) {
                return false;
            }
        }
        true
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.0.lock();
        let Some(incoming) = &mut *body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || incoming.is_end_stream() {
            *body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock();
        body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// A response body that records when hyper is done with it.
pub(super) struct ResponseBody {
    body: Body,
    /// The length that a 304 announces, which has no body. hyper sends it for a body of that length, which it does not
    /// read.
    announced: Option<u64>,
    connection: Connection,
}

impl ResponseBody {
    fn wrap(response: Response<Body>, connection: Connection) -> Response<Self> {
        let mut announced = None;
        if response.status() == StatusCode::NOT_MODIFIED {
            let length = response.headers().get(CONTENT_LENGTH);
            announced = length.and_then(|length| length.to_str().ok()?.parse().ok());
        }
        response.map(|body| Self {
            body,
            announced,
            connection,
        })
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.connection.lock().response_taken();
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.announced.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}
