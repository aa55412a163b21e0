//! A request in progress, and the layers that record it, its body and the status of its response.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::cisco::endpoint::Endpoint;
use super::cisco::responses;
use super::connection::Connection;
use super::record::Seen;
use super::simulation::Handle;

/// The largest body that is accepted, except by the transfers, which keep nothing.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// More header lines than hyper accepts.
const MAX_HEADERS: usize = 128;

/// The request in progress, for its layers and handlers.
pub(super) type InProgress = Extension<Arc<Exchange>>;

/// A request in progress. Dropped before there is a response, it marks the request as abandoned.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) connection: Arc<Connection>,
    pub(super) simulation: Handle,
    /// The request as recorded when its head had been read.
    pub(super) request: Seen,
}

impl Exchange {
    /// Changes the recorded request, unless it has been dropped from the record.
    pub(super) fn update(&self, change: impl FnOnce(&mut Seen)) {
        let record = &self.simulation.record;
        record.send_modify(|record| record.update(self.request.sequence, change));
    }

    pub(super) fn responded(&self, response: &Response) {
        self.update(|seen| seen.status = Some(response.status().as_u16()));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.update(|seen| seen.abandoned = seen.status.is_none());
    }
}

/// The size and hash of a request body.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BodyDigest {
    bytes: u64,
    sha256: String,
}

/// Records a request when its head has been read, and the status of its response.
pub(super) async fn record(
    State(simulation): State<Handle>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut request = seen(&connection, &parts, body.is_end_stream());
    let _in_progress = (request.endpoint == Endpoint::Token).then(|| simulation.tokens.request_started());
    simulation.record.send_modify(|record| record.add(&mut request));
    let exchange = Arc::new(Exchange {
        connection,
        simulation,
        request,
    });
    parts.extensions.insert(Arc::clone(&exchange));
    let response = next.run(Request::from_parts(parts, body)).await;
    exchange.responded(&response);
    response
}

fn seen(connection: &Connection, parts: &Parts, bodiless: bool) -> Seen {
    let latin1 = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let head = connection.take_head();
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut raw = httparse::Request::new(&mut lines);
    let (target, headers) = if raw.parse(&head).is_ok_and(|parsed| parsed.is_complete()) {
        let headers = raw.headers.iter();
        let headers = headers.map(|line| (line.name.to_owned(), latin1(line.value)));
        (raw.path.unwrap_or_default().to_owned(), headers.collect())
    } else {
        // A pipelined request arrived together with an earlier one; hyper's view of it has lower-case names.
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), latin1(value.as_bytes())));
        (parts.uri.to_string(), headers.collect())
    };
    let is_1_0 = parts.version == Version::HTTP_10;
    Seen {
        connection: connection.number,
        endpoint: Endpoint::of(parts.uri.path()),
        method: parts.method.to_string(),
        target,
        version: if is_1_0 { "HTTP/1.0" } else { "HTTP/1.1" },
        headers,
        body_sha256: bodiless.then(|| format!("{:x}", Sha256::digest([]))),
        body_complete: bodiless,
        ..Seen::default()
    }
}

/// Reads the request body to its end before the request is handled.
pub(super) async fn read_body(Extension(exchange): InProgress, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match receive(&exchange, body).await {
        Ok((body, digest)) => {
            parts.extensions.insert(digest);
            next.run(Request::from_parts(parts, body.into())).await
        }
        Err(response) => *response,
    }
}

/// Records a body as it arrives. The body of a transfer is not returned.
pub(super) async fn receive(
    exchange: &Exchange,
    mut body: Body,
) -> Result<(Bytes, BodyDigest), Box<Response>> {
    let mut kept = Vec::new();
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| responses::message(400, &format!("The body broke off: {error}")))?;
        let data = frame.into_data().unwrap_or_default();
        exchange.update(|seen| seen.add_body(&data));
        hash.update(&data);
        bytes += data.len() as u64;
        if exchange.request.endpoint != Endpoint::Transfer {
            kept.extend_from_slice(&data);
        }
        if kept.len() > BODY_LIMIT {
            return Err(responses::message(413, "The body is larger than 64 MiB").into());
        }
    }
    let sha256 = format!("{:x}", hash.finalize());
    exchange.update(|seen| {
        seen.body_complete = true;
        seen.body_sha256 = Some(sha256.clone());
    });
    Ok((kept.into(), BodyDigest { bytes, sha256 }))
}
