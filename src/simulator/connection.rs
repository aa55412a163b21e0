//! One accepted connection: TLS, HTTP/1 by hyper, and the ways to end it that HTTP does not know.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::Answerer;
use super::locked;
use super::tap::{Framing, RawHead, Tap};

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection that was shut down is read on, so that unread bytes do not turn its FIN into a reset.
const LINGER: Duration = Duration::from_secs(5);

/// How a fault ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// With a TCP reset.
    Reset,
    /// With TLS close_notify and a FIN.
    Close,
    /// With these bytes in the place of an answer, then as [`Cut::Close`].
    Raw(Bytes),
}

/// What the parts of one connection share: its reader, its service and the task that owns the socket.
#[derive(Debug)]
pub(super) struct Link {
    number: u64,
    framing: Mutex<Framing>,
    cut: Mutex<Option<Cut>>,
    cut_after_flush: Mutex<Option<Cut>>,
    wake: Notify,
}

impl Link {
    fn new(number: u64) -> Self {
        Link {
            number,
            framing: Mutex::default(),
            cut: Mutex::default(),
            cut_after_flush: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Counts the accepted connections from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The head of the request that hyper has just handed to the service.
    pub(super) fn next_head(&self) -> Option<RawHead> {
        locked(&self.framing).next_head()
    }

    pub(super) fn feed(&self, bytes: &[u8]) {
        locked(&self.framing).feed(bytes);
    }

    /// Ends the connection now.
    pub(super) fn cut(&self, cut: Cut) {
        *locked(&self.cut) = Some(cut);
        self.wake.notify_one();
    }

    /// Ends the connection when everything written so far has left.
    pub(super) fn cut_after_flush(&self, cut: Cut) {
        *locked(&self.cut_after_flush) = Some(cut);
    }

    pub(super) fn flushed(&self) {
        if let Some(cut) = locked(&self.cut_after_flush).take() {
            self.cut(cut);
        }
    }

    async fn until_cut(&self) -> Cut {
        loop {
            if let Some(cut) = locked(&self.cut).take() {
                return cut;
            }
            self.wake.notified().await;
        }
    }
}

/// Serves a connection to its end; `reset` changing is its end too.
pub(super) async fn serve(
    stream: TcpStream,
    number: u64,
    tls: TlsAcceptor,
    answerer: Arc<Answerer>,
    mut reset: watch::Receiver<u64>,
) {
    // An answer's head and body are often two writes: none may wait for the acknowledgement of the other.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else {
        return;
    };
    let link = Arc::new(Link::new(number));
    let service = {
        let link = Arc::clone(&link);
        service_fn(move |request| {
            let answerer = Arc::clone(&answerer);
            let link = Arc::clone(&link);
            async move { Ok::<_, Infallible>(answerer.answer(request, link).await) }
        })
    };
    let io = TokioIo::new(Tap::new(stream, Arc::clone(&link)));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(io, service);
    let cut = tokio::select! {
        _ = &mut connection => return,
        cut = link.until_cut() => cut,
        _ = reset.changed() => Cut::Reset,
    };
    let stream = connection.into_parts().io.into_inner().into_inner();
    end(stream, cut).await;
}

async fn end(mut stream: TlsStream<TcpStream>, cut: Cut) {
    if cut == Cut::Reset {
        // Closing with a linger of zero sends a reset; without it this would be a FIN.
        let _ = stream.get_ref().0.set_zero_linger();
        return;
    }
    if let Cut::Raw(bytes) = &cut
        && stream.write_all(bytes).await.is_err()
    {
        return;
    }
    if stream.shutdown().await.is_ok() {
        let drain = async { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}
