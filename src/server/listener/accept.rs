//! Accepts connections and starts a task for each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::bind::SharedTls;
use super::handshake::{self, HandshakeError};
use crate::platform::socket::{Accepted, Acceptor, BACKLOG};
use crate::server::active_router::ActiveRouter;
use crate::server::connection::{self, Transport};
use crate::server::context::ServerContext;
use crate::server::limits::{Admission, ConnectionPermit};
use crate::server::peer::Peer;
use crate::server::stopping::Phase;

/// How long to wait after the system had no descriptor for a connection.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// How long the runtime needs to learn of a connection that waits.
const BACKLOG_WAIT: Duration = Duration::from_millis(1);

/// Starts the tasks of accepted connections.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) tls: Option<SharedTls>,
    pub(super) router: ActiveRouter,
    pub(super) context: Arc<ServerContext>,
    pub(super) tasks: TaskTracker,
}

/// Accepts from one socket until a drain begins, and then the connections that wait: closing the socket would reset them.
/// If the socket is inherited, it outlives the process, and they are left to the next process.
pub(super) async fn accept(acceptor: Acceptor, is_inherited: bool, connections: Connections) {
    let mut stop = connections.context.stop.clone();
    loop {
        let accepted = tokio::select! {
            // A stream of new connections must not delay a stop.
            biased;
            () = stop.reached(Phase::Draining) => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => connections.start(accepted).await,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                connections.context.connections.log_exhaustion(&error);
                let _ = tokio::time::timeout(EXHAUSTED, stop.reached(Phase::Draining)).await;
            }
        }
    }
    for _ in 0..if is_inherited { 0 } else { BACKLOG } {
        match tokio::time::timeout(BACKLOG_WAIT, acceptor.accept()).await {
            Ok(Ok(accepted)) => connections.start(accepted).await,
            Ok(Err(error)) if is_of_one_connection(&error) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

impl Connections {
    /// Starts the task of a connection. At the limit this waits until an idle connection has closed.
    async fn start(&self, accepted: Accepted) {
        let peer = peer(&accepted);
        let this = self.clone();
        match self
            .context
            .connections
            .admit(peer.id(), &self.context.metrics)
            .await
        {
            Admission::Serve(permit) => {
                self.tasks
                    .spawn(async move { this.serve(accepted, peer, permit).await });
            }
            Admission::Refuse(problem, permit) => {
                self.tasks.spawn(async move {
                    let _permit = permit;
                    let opened = this.open(accepted, peer).await;
                    if let Ok((transport, _)) | Err(HandshakeError::PlainHttp(transport, _)) = opened {
                        connection::refuse(transport, &this.context, *problem).await;
                    }
                });
            }
            Admission::Close => {}
        }
    }

    async fn serve(self, accepted: Accepted, peer: Peer, permit: ConnectionPermit) {
        let metrics = &self.context.metrics;
        metrics.connections.inc();
        match self.open(accepted, peer).await {
            Ok((transport, peer)) => {
                connection::serve(transport, self.router, peer, permit, &self.context).await;
            }
            Err(HandshakeError::PlainHttp(transport, address)) => {
                metrics.refused_heads.inc();
                let problem = handshake::plain_http();
                tracing::info!(%address, status = 400, detail = problem.detail, "request head refused");
                // In a box, since it is larger than what an idle connection holds.
                Box::pin(connection::refuse(transport, &self.context, problem)).await;
            }
            Err(HandshakeError::Failed) => {
                metrics.tls_handshake_failures.inc();
            }
            Err(HandshakeError::Disconnected) => {}
        }
        metrics.connections.dec();
    }

    async fn open(
        &self,
        accepted: Accepted,
        peer: Peer,
    ) -> Result<(Box<dyn Transport>, Peer), HandshakeError> {
        let tls = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full()));
        // In a box, since the connection outlives the handshake.
        Box::pin(handshake::open(accepted, peer, tls)).await
    }
}

fn peer(accepted: &Accepted) -> Peer {
    let (address, user) = match accepted {
        Accepted::Tcp(_, from) => (Some(*from), None),
        Accepted::Unix(_, user) => (None, *user),
    };
    Peer {
        address,
        user,
        has_certificate: false,
    }
}

/// Whether an error of accept(2) concerns one connection and not the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
