//! This process's state of one queue: a lock, the failed deliveries, and the leases of messages by connections.
//!
//! No other request gets a message until its lease ends. A caller that disconnected may be back before its connection's
//! end is noticed. So before a queue goes on to a newer message, each connection with an older one is asked whether its
//! caller is still connected.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::failed_deliveries::FailedDeliveries;
use super::id::MessageId;

/// This process's state of one queue.
pub(super) struct Queue {
    /// Held by the one request that looks for a message, or pulls one.
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
    leases: Mutex<Vec<Lease>>,
    pub(super) failed_deliveries: FailedDeliveries,
}

/// Who asks for a message: the name that goes with a caller's key, or else its address.
pub type Caller = Arc<str>;

/// How long a connection may take to confirm that its caller is connected.
const CONFIRMATION: Duration = Duration::from_secs(1);

impl Queue {
    pub(super) fn new(pauses: Arc<[Duration]>) -> Self {
        Self {
            lock: Arc::default(),
            leases: Mutex::default(),
            failed_deliveries: FailedDeliveries::new(pauses),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Lease>> {
        let mut leases = self.leases.lock();
        leases.retain(|lease| !lease.is_over());
        leases
    }

    pub(super) fn lease(&self, message: MessageId) -> Leased {
        let (asking, questions) = mpsc::unbounded_channel();
        let (on_connection, is_on_connection) = watch::channel(false);
        self.leases().push(Lease {
            message,
            questions: asking,
            is_on_connection,
        });
        Leased {
            questions,
            asked: None,
            is_on_connection: on_connection,
        }
    }

    /// The messages that are on connections of this process.
    pub(super) fn in_progress(&self) -> Vec<MessageId> {
        self.leases().iter().map(|lease| lease.message).collect()
    }

    pub(super) fn is_in_use(&self) -> bool {
        !self.leases().is_empty() || !self.failed_deliveries.is_empty()
    }

    /// Waits until every message that is on a connection is confirmed there, or back in the queue.
    pub(super) async fn confirm_leases(&self) {
        let mut leases = self.leases().clone();
        for lease in &mut leases {
            lease.settled().await;
        }
        let deadline = Instant::now() + CONFIRMATION;
        for lease in &leases {
            let confirmed = tokio::time::timeout_at(deadline, lease.confirmed()).await;
            if confirmed.is_err() {
                tracing::info!(
                    "connection did not confirm within 1 s that its caller is connected, assuming that it is"
                );
            }
        }
        for lease in &mut leases {
            lease.settled().await;
        }
    }
}

/// A lease, for the queue.
#[derive(Clone)]
struct Lease {
    message: MessageId,
    questions: mpsc::UnboundedSender<Question>,
    is_on_connection: watch::Receiver<bool>,
}

/// A lease, for the connection. It ends when this is dropped.
pub struct Leased {
    questions: mpsc::UnboundedReceiver<Question>,
    asked: Option<Question>,
    is_on_connection: watch::Sender<bool>,
}

/// Asks whether the caller is connected. A reply confirms it.
type Question = oneshot::Sender<()>;

impl Lease {
    fn is_over(&self) -> bool {
        self.questions.is_closed()
    }

    /// Resolves when the message is on its connection, and not on its way there or back, or when the lease is over.
    async fn settled(&mut self) {
        let _ = self.is_on_connection.wait_for(|is| *is).await;
    }

    /// Asks whether the caller is connected. Resolves when the connection confirms it, or when the lease is over.
    async fn confirmed(&self) {
        let (question, confirmed) = oneshot::channel();
        if self.questions.send(question).is_ok() {
            let _ = confirmed.await;
        }
    }
}

impl Leased {
    /// The message is on its connection from now on, or not any more.
    pub fn set_on_connection(&self, is: bool) {
        self.is_on_connection.send_replace(is);
    }

    /// Ready when the spool asks whether the caller is still connected.
    pub fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The queue keeps its end of the lease until this is dropped.
        self.questions.poll_recv(cx).map(|question| self.asked = question)
    }

    /// Confirms that the caller is connected.
    pub fn confirm(&mut self) {
        if let Some(question) = self.asked.take() {
            let _ = question.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_the_connections_answer_or_for_the_end_of_the_lease() {
        let queue = Queue::new([].into());
        let mut leased = queue.lease(MessageId::now(None));
        let lease = queue.leases()[0].clone();
        let unanswered = tokio::time::timeout(Duration::from_secs(9), lease.confirmed()).await;
        assert!(unanswered.is_err());
        // The question of one that no longer waits is answered too.
        for _ in 0..2 {
            let connection = async {
                std::future::poll_fn(|cx| leased.poll_asked(cx)).await;
                leased.confirm();
            };
            let confirmed = tokio::time::timeout(Duration::from_secs(1), lease.confirmed());
            let _ = tokio::join!(confirmed, connection);
        }
        let ended = async {
            tokio::task::yield_now().await;
            drop(leased);
        };
        tokio::join!(lease.confirmed(), ended);
        lease.confirmed().await;
        assert!(lease.is_over());
    }
}
