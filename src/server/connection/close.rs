//! Ends a connection: sends a response of bondgate's own, or the end of a message, and reads what the caller still sends,
//! so that the caller can read everything.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::head_filter::{HeadFilter, Stalled};
use super::state::{Closing, Reading};
use crate::platform::socket;

/// Bounds on reading what the caller still sends: a close over unread input would reset the connection.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 1 << 20;

impl HeadFilter {
    /// Ends the connection. When `cut_off` resolves, the delivery of a message is no longer waited for.
    pub(super) async fn close(mut self, cut_off: impl Future<Output = ()>) -> Result<(), Stalled> {
        let is_unread = !self.input.is_empty() || self.connection.lock().reading() == Reading::Body;
        let closing = self.connection.lock().end();
        if matches!(closing, Closing::Orderly) && self.observer.is_some() {
            return self.deliver(cut_off).await;
        }
        // The delivery failed. Recorded before a wait for the caller, so that the message can be delivered again.
        if let Some(observer) = self.observer.take() {
            observer.record(false).await;
        }
        match closing {
            Closing::Orderly => self.shut_down(&[], is_unread).await,
            Closing::Respond(response) => {
                let bytes = response.problem.to_bytes(!response.is_bodiless);
                self.shut_down(&bytes, true).await;
            }
            Closing::Abort => {}
            Closing::Reset => socket::reset_on_close(&self.stream.socket()),
        }
        Ok(())
    }

    /// Sends a response and shuts the connection down. Then reads what the caller still sends, if anything is unread.
    async fn shut_down(&mut self, response: &[u8], is_unread: bool) {
        let finished = async {
            self.stream.write_all(response).await?;
            self.stream.shutdown().await
        };
        let is_finished = matches!(tokio::time::timeout(LINGER, finished).await, Ok(Ok(())));
        if is_finished && is_unread && !self.is_eof {
            let mut rest = (&mut self.stream).take(LINGER_BYTES);
            let mut sink = tokio::io::sink();
            let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut sink)).await;
        }
    }
}
