//! Accepts connections and starts a task for each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::handshake::{self, HandshakeError};
use crate::platform::socket::{Accepted, Acceptor, BACKLOG};
use crate::problems::request::caller_handshake_failed;
use crate::server::active_settings::ActiveSettings;
use crate::server::connection;
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
    pub(super) settings: ActiveSettings,
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
        let (this, peer) = (self.clone(), Peer::of(&accepted));
        let admission = self.context.connections.admit(peer.id(), &self.context.metrics);
        match admission.await {
            Admission::Serve(permit) => {
                self.tasks.spawn(this.serve(accepted, peer, permit));
            }
            Admission::Refuse(problem, permit) => {
                self.record_refusal(&peer, problem.status.as_u16(), problem.problem.code());
                self.tasks.spawn(async move {
                    let _permit = permit;
                    let tls = this.settings.load().tls.clone();
                    let opened = handshake::open(accepted, tls.as_ref()).await;
                    if let Ok(transport) | Err(HandshakeError::PlainHttp(transport)) = opened {
                        connection::refuse(transport, None, &this.settings, &this.context, *problem).await;
                    }
                });
            }
            Admission::Close(problem) => self.record_refusal(&peer, 0, problem),
        }
    }

    async fn serve(self, accepted: Accepted, peer: Peer, permit: ConnectionPermit) {
        let metrics = &self.context.metrics;
        metrics.connections.inc();
        let tls = self.settings.load().tls.clone();
        // In boxes, since they are larger than what an idle connection holds.
        match Box::pin(handshake::open(accepted, tls.as_ref())).await {
            Ok(transport) => {
                connection::serve(transport, tls, self.settings, peer, permit, &self.context).await;
            }
            Err(HandshakeError::PlainHttp(transport)) => {
                let problem = handshake::plain_http();
                let refused =
                    connection::refuse(transport, Some(&peer), &self.settings, &self.context, problem);
                Box::pin(refused).await;
            }
            Err(HandshakeError::Failed(reason)) => self.report_failed_handshake(&peer, &reason),
            Err(HandshakeError::Disconnected) => {}
        }
        metrics.connections.dec();
    }

    fn report_failed_handshake(&self, peer: &Peer, reason: &str) {
        self.context.metrics.tls_handshake_failures.inc();
        let problem = caller_handshake_failed(reason);
        self.record_refusal(peer, 0, problem.code());
        tracing::info!(
            listener = &*self.settings.load().label,
            address = peer.address.map(tracing::field::display),
            problem = problem.code(),
            reason,
            "TLS handshake failed"
        );
    }

    fn record_refusal(&self, peer: &Peer, status: u16, problem: &'static str) {
        self.context.record_refusal(&self.settings, peer, status, problem);
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
