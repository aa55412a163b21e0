//! Worker threads: each a runtime of its own that accepts from the shared sockets and serves what it
//! accepted to the end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use socket2::SockRef;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::active_router::ActiveRouter;
use super::answer::Answer;
use super::connection;
use super::crowd::{Admission, Crowd};
use super::listener::{BACKLOG, Listener, Listening, SharedTls, Stream};
use super::peer::Peer;
use super::stall::Watched;
use super::{Phase, Stopping};
use crate::config::Limits;
use crate::telemetry::metrics::Metrics;
use crate::tls;

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// Bounds on callers.
    pub limits: Arc<Limits>,
    /// The cap on connections, over all workers.
    pub connections: Crowd,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// When to end.
    pub stop: Stopping,
}

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to leave accepting alone when the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Starts a worker thread, which ends when it has drained. `listeners` come with this worker's routers; `background`
/// runs beside them on the worker's runtime.
pub fn start(
    number: usize,
    listeners: &[(&Listener, ActiveRouter)],
    background: impl Future<Output = ()> + Send + 'static,
    shared: Shared,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let sockets = listeners
        .iter()
        .map(|(listener, router)| Ok((Sockets::of(listener)?, router.clone())))
        .collect::<io::Result<Vec<_>>>()?;
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                tokio::spawn(background);
                accept_all(sockets, Arc::new(shared)).await
            })
        })
}

/// Serves one listener within the runtime at hand, until a stop has drained it.
pub async fn serve(listener: &Listener, router: ActiveRouter, shared: Shared) -> io::Result<()> {
    accept_all(vec![(Sockets::of(listener)?, router)], Arc::new(shared)).await
}

/// One listener's sockets, to be accepted from by one thread.
struct Sockets {
    listening: Vec<Listening>,
    is_inherited: bool,
    tls: Option<SharedTls>,
}

impl Sockets {
    fn of(listener: &Listener) -> io::Result<Self> {
        Ok(Self {
            listening: listener.sockets()?,
            is_inherited: listener.is_inherited(),
            tls: listener.tls().cloned(),
        })
    }
}

async fn accept_all(listeners: Vec<(Sockets, ActiveRouter)>, shared: Arc<Shared>) -> io::Result<()> {
    let (tasks, accepting) = (TaskTracker::new(), TaskTracker::new());
    for (listener, router) in listeners {
        let Sockets {
            listening,
            is_inherited,
            tls,
        } = listener;
        for socket in listening {
            let socket = Socket::new(socket)?;
            let (tls, router) = (tls.clone(), router.clone());
            let (shared, tasks) = (shared.clone(), tasks.clone());
            accepting.spawn(
                Accept {
                    socket,
                    is_inherited,
                    tls,
                    router,
                    shared,
                    tasks,
                }
                .run(),
            );
        }
    }
    accepting.close();
    accepting.wait().await;
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = after_deadline(shared.stop.clone()) => {}
    }
    Ok(())
}

/// Whatever has no answer at the deadline gets one of ours; that takes a moment.
async fn after_deadline(mut stop: Stopping) {
    stop.reached(Phase::Deadline).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

struct Accept {
    socket: Socket,
    is_inherited: bool,
    tls: Option<SharedTls>,
    router: ActiveRouter,
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream),
}

impl Socket {
    fn new(socket: Listening) -> io::Result<Self> {
        match socket {
            Listening::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            Listening::Unix(listener) => tokio::net::UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, from)| Accepted::Tcp(stream, from)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// The next connection that waits, by a look past what the runtime knows.
    fn accept_at_hand(&self) -> io::Result<Accepted> {
        let socket = match self {
            Self::Tcp(listener) => SockRef::from(listener),
            Self::Unix(listener) => SockRef::from(listener),
        };
        let (stream, from) = socket.accept()?;
        stream.set_nonblocking(true)?;
        if let Some(from) = from.as_socket() {
            tokio::net::TcpStream::from_std(stream.into()).map(|stream| Accepted::Tcp(stream, from))
        } else {
            let stream = OwnedFd::from(stream).into();
            tokio::net::UnixStream::from_std(stream).map(Accepted::Unix)
        }
    }
}

impl Accept {
    async fn run(self) {
        let mut stop = self.shared.stop.clone();
        loop {
            let accepted = tokio::select! {
                // Callers that come and come do not put a stop off.
                biased;
                () = stop.reached(Phase::Draining) => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => self.take(accepted).await,
                Err(error) if is_of_one_caller(&error) => {}
                Err(error) => {
                    self.shared.connections.told.exhausted(&error);
                    // What cannot be accepted now must not keep a stop from being seen.
                    tokio::select! {
                        () = tokio::time::sleep(EXHAUSTED) => {}
                        () = stop.reached(Phase::Draining) => break,
                    }
                }
            }
        }
        if !self.is_inherited {
            self.take_backlog().await;
        }
    }

    /// Takes what waits when the stop comes: closing the socket would reset it.
    async fn take_backlog(&self) {
        for _ in 0..BACKLOG {
            match self.socket.accept_at_hand() {
                Ok(accepted) => self.take(accepted).await,
                Err(error) if is_of_one_caller(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Serves a connection, or tells that there is no place for it; waits where another has to make room first.
    async fn take(&self, accepted: Accepted) {
        let peer = accepted.peer();
        let (shared, router) = (self.shared.clone(), self.router.clone());
        let tls = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full()));
        match shared.connections.admit(peer.id()).await {
            Admission::Place(place) => {
                self.tasks.spawn(async move {
                    let metrics = shared.metrics.clone();
                    let counted = Counted::new(&metrics);
                    let successor = match open(accepted, peer, tls, shared.limits.stall).await {
                        Ok((stream, peer)) => connection::serve(stream, router, peer, shared).await,
                        Err(Unopened::Plain(stream, peer)) => {
                            connection::serve(stream, plain_http(), peer, shared).await
                        }
                        Err(Unopened::Refused) => {
                            metrics.refused.inc();
                            None
                        }
                        Err(Unopened::Gone) => None,
                    };
                    drop(counted);
                    // The socket is closed by now. Without a successor the place is free.
                    if let Some(successor) = successor {
                        metrics.evicted.inc();
                        let _ = successor.send(place);
                    }
                });
            }
            Admission::Refusal(answer, permit) => {
                shared.metrics.crowded_out.inc();
                self.tasks.spawn(async move {
                    let _permit = permit;
                    let opened = open(accepted, peer, tls, shared.limits.stall).await;
                    if let Ok((stream, _)) | Err(Unopened::Plain(stream, _)) = opened {
                        connection::refuse(stream, shared.limits.clone(), *answer).await;
                    }
                });
            }
            Admission::Close => {
                shared.metrics.crowded_out.inc();
            }
        }
    }
}

/// One connection in the metrics, for as long as it lives.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

impl Accepted {
    fn peer(&self) -> Peer {
        let (address, user) = match self {
            Self::Tcp(_, from) => (Some(*from), None),
            Self::Unix(stream) => (None, stream.peer_cred().ok().map(|credentials| credentials.uid())),
        };
        Peer {
            address,
            user,
            has_certificate: false,
        }
    }
}

/// Why nothing can be served on a connection that should be TLS.
enum Unopened {
    /// The caller speaks plain HTTP, and can be told so.
    Plain(Stream, Peer),
    /// It came to no agreement.
    Refused,
    /// It said nothing, as a load balancer does that only looks whether somebody listens.
    Gone,
}

/// The connection as callers speak on it, behind the TLS handshake where there is one.
async fn open(
    accepted: Accepted,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    stall: Duration,
) -> Result<(Stream, Peer), Unopened> {
    let (stream, from) = match accepted {
        Accepted::Unix(stream) => return Ok((Stream::Unix(Watched::new(stream, stall)), peer)),
        Accepted::Tcp(stream, from) => (stream, from),
    };
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return Ok((Stream::Tcp(Watched::new(stream, stall)), peer));
    };
    let shaken = async {
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok() && first[0].is_ascii_alphabetic() {
            return Err(Unopened::Plain(Stream::Tcp(Watched::new(stream, stall)), peer));
        }
        match tls.accept(Watched::new(stream, stall)).await {
            Ok(stream) => {
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                let peer = Peer {
                    has_certificate,
                    ..peer
                };
                Ok((Stream::Tls(Box::new(stream)), peer))
            }
            Err(error) if is_gone(&error) => Err(Unopened::Gone),
            Err(error) => {
                tracing::info!(address = %from, "refused at the door: the TLS handshake failed: {}", reason(&error));
                Err(Unopened::Refused)
            }
        }
    };
    tokio::time::timeout(HANDSHAKE, shaken).await.unwrap_or_else(|_| {
        tracing::debug!(address = %from, "a TLS handshake took too long");
        Err(Unopened::Gone)
    })
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Why a handshake failed, with the fix where it is known.
fn reason(error: &io::Error) -> String {
    use rustls::{AlertDescription, Error};

    if tls::is_version_1(error) {
        return format!("the client certificate is {}; {}", tls::VERSION_1, tls::REISSUE);
    }
    let mend = match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        )) => " (the caller does not trust this listener's certificate)",
        Some(Error::NoCertificatesPresented) => " (the caller needs a certificate from tls.client_ca_file)",
        Some(Error::InvalidCertificate(_)) => " (the caller's certificate is none from tls.client_ca_file)",
        Some(Error::NoApplicationProtocol) => {
            " (the caller's ALPN names neither http/1.1 nor http/1.0; this listener speaks no other protocol)"
        }
        _ => "",
    };
    format!("{error}{mend}")
}

/// Refuses plain HTTP on a listener that speaks TLS.
fn plain_http() -> ActiveRouter {
    let refuse = async || {
        let detail = "this listener speaks TLS; use an https:// URL";
        Answer::new(StatusCode::BAD_REQUEST, "http_request_error", detail).into_response()
    };
    ActiveRouter::new(Router::new().fallback(refuse))
}

/// Errors of `accept` that concern the connection and not the socket (accept(2)).
fn is_of_one_caller(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Config;
    use crate::server::{UnixAccess, stopping};

    #[tokio::test]
    async fn what_waits_in_the_backlog_when_a_stop_comes_is_answered() {
        let text = "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n\
                    [[listener]]\naddress = \"127.0.0.1:0\"\n";
        let config = Config::parse(text, "test.toml", []).unwrap();
        let unix = UnixAccess {
            mode: 0o660,
            group: None,
        };
        let listener = Listener::bind(&config.listeners[0].address, &unix, None).unwrap();
        let mut caller = tokio::net::TcpStream::connect(listener.addresses()[0])
            .await
            .unwrap();
        caller
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let (stop, stopping) = stopping();
        stop.send_replace(Phase::Draining);
        let shared = Shared {
            limits: Arc::new(config.limits),
            connections: Crowd::new(config.limits.connections, config.limits.refusals),
            metrics: Metrics::new(),
            stop: stopping,
        };
        let router = Router::new().fallback(async || "served");

        serve(&listener, ActiveRouter::new(router), shared).await.unwrap();
        drop(listener);

        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.contains("Connection: close") && answer.ends_with("served"),
            "{answer}"
        );
    }
}
