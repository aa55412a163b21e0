//! One connection to the simulated Cisco: TLS, HTTP/1 by hyper, a wire recorder between them, and the endings that
//! HTTP does not know.
//!
//! hyper groups header lines by name and lowers their case. So the wire recorder, beneath hyper, keeps the bytes that
//! were read since the last response: they begin with the next request's head.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::io::{InspectReader, InspectWriter};
use tower::ServiceExt as _;

use super::fault::Then;

/// Time for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a closed connection is still read, because unread bytes would turn its FIN into a reset.
const LINGER: Duration = Duration::from_secs(5);
/// The recorder keeps no more than this. It is more than hyper's limit for a head.
const HEAD_LIMIT: usize = 512 * 1024;

/// A connection, for the layers of its requests.
#[derive(Debug)]
pub(super) struct Connection {
    /// Numbers the accepted connections from 1.
    pub(super) number: u64,
    /// The bytes since the last response; none while a request is handled.
    received: Mutex<Option<Vec<u8>>>,
    takeover: mpsc::UnboundedSender<(Bytes, Then)>,
}

impl Connection {
    /// The bytes of the request's head, and of what arrived with it.
    pub(super) fn take_head(&self) -> Vec<u8> {
        self.received().take().unwrap_or_default()
    }

    /// Takes the connection from hyper: sends `bytes` in place of a response, then ends as `then` says. Does not
    /// return, because the connection's task drops the request.
    pub(super) async fn take_over(&self, bytes: Bytes, then: Then) -> Response {
        let _ = self.takeover.send((bytes, then));
        std::future::pending().await
    }

    fn received(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.received.lock().expect("no panic under this lock")
    }

    fn record(&self, bytes: &[u8]) {
        if let Some(received) = &mut *self.received()
            && received.len() < HEAD_LIMIT
        {
            received.extend_from_slice(bytes);
        }
    }
}

/// Serves a connection until it ends or a fault takes it over.
pub(super) async fn serve(stream: TcpStream, number: u64, tls: TlsAcceptor, router: Router) {
    // The head and the body of a response may be two writes, and neither must wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else {
        return;
    };
    let (takeover, mut takeovers) = mpsc::unbounded_channel();
    let connection = Arc::new(Connection {
        number,
        received: Mutex::new(Some(Vec::new())),
        takeover,
    });
    let (reader, writer) = (Arc::clone(&connection), Arc::clone(&connection));
    let io = InspectReader::new(stream, move |bytes| reader.record(bytes));
    let io = InspectWriter::new(io, move |_| *writer.received() = Some(Vec::new()));
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&connection));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let (bytes, then) = tokio::select! {
        _ = &mut http => return,
        Some(takeover) = takeovers.recv() => takeover,
    };
    let stream = http.into_parts().io.into_inner().into_inner().into_inner();
    end(stream, &bytes, then).await;
}

async fn end(mut stream: TlsStream<TcpStream>, bytes: &[u8], then: Then) {
    if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    match then {
        // Without this option, dropping the socket would send a FIN.
        Then::Reset => drop(stream.get_ref().0.set_zero_linger()),
        Then::Hang => read_to_end(stream).await,
        Then::Close => {
            if stream.shutdown().await.is_ok() {
                let _ = tokio::time::timeout(LINGER, read_to_end(stream)).await;
            }
        }
    }
}

async fn read_to_end(mut stream: TlsStream<TcpStream>) {
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}
