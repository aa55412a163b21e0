//! The lease of a message by a connection: no other request gets the message until the lease ends.
//!
//! A caller that disconnected may be back before its connection's end is noticed. So before a queue goes on to a newer
//! message, each connection with an older one is asked whether its caller is still connected.

use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot, watch};

use super::id::MessageId;

/// A lease, for the queue.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) message: MessageId,
    questions: mpsc::UnboundedSender<Question>,
    is_on_connection: watch::Receiver<bool>,
}

/// A lease, for the connection. It ends when this is dropped.
pub(super) struct Leased {
    questions: mpsc::UnboundedReceiver<Question>,
    asked: Option<Question>,
    is_on_connection: watch::Sender<bool>,
}

/// Asks whether the caller is connected. The answer says that it is.
type Question = oneshot::Sender<()>;

pub(super) fn lease(message: MessageId) -> (Lease, Leased) {
    let (asking, questions) = mpsc::unbounded_channel();
    let (on_connection, is_on_connection) = watch::channel(false);
    let lease = Lease {
        message,
        questions: asking,
        is_on_connection,
    };
    let leased = Leased {
        questions,
        asked: None,
        is_on_connection: on_connection,
    };
    (lease, leased)
}

impl Lease {
    pub(super) fn is_over(&self) -> bool {
        self.questions.is_closed()
    }

    /// Resolves when the message is on its connection, and not on its way there or back, or when the lease is over.
    pub(super) async fn settled(&mut self) {
        let _ = self.is_on_connection.wait_for(|is| *is).await;
    }

    /// Asks whether the caller is connected. Resolves when the connection confirms it, or when the lease is over.
    pub(super) async fn confirmed(&self) {
        let (question, confirmed) = oneshot::channel();
        if self.questions.send(question).is_ok() {
            let _ = confirmed.await;
        }
    }
}

impl Leased {
    /// The message is on its connection from now on, or not any more.
    pub(super) fn set_on_connection(&self, is: bool) {
        self.is_on_connection.send_replace(is);
    }

    /// Ready when a question was asked.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.questions.poll_recv(cx) {
            Poll::Ready(Some(question)) => {
                self.asked = Some(question);
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Answers the last question: the caller is connected.
    pub(super) fn confirm(&mut self) {
        if let Some(question) = self.asked.take() {
            let _ = question.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_the_connections_answer_or_for_the_end_of_the_lease() {
        let (lease, mut leased) = lease(MessageId::now(None));
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
