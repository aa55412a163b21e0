//! A message that is with a connection: nobody else gets it until it is known how that ended.
//!
//! A caller that broke off may come back faster than we hear that it is gone. So before a queue goes on
//! to a newer message, each connection that still has an older one is asked whether it is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::record::Stamp;

/// One message's time with a connection.
pub(super) struct Lease {
    pub(super) stamp: Stamp,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    is_over: bool,
    is_with_caller: bool,
    /// Questions that were asked, heard by the connection, and answered.
    asked: u64,
    heard: u64,
    answered: u64,
    waker: Option<Waker>,
}

impl Lease {
    pub(super) fn new(stamp: Stamp) -> Arc<Self> {
        Arc::new(Self {
            stamp,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when it is over, or the connection says that its caller is still there.
    pub(super) async fn ask(&self) {
        let question = {
            let mut state = self.state();
            state.asked += 1;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            state.asked
        };
        self.until(|state| state.is_over || state.answered >= question)
            .await;
    }

    /// Resolves when it is over, or with its caller's connection: not on its way there or back.
    pub(super) async fn arrived(&self) {
        self.until(|state| state.is_over || state.is_with_caller).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// The connection's side: ready when somebody asks.
    pub(super) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.asked > state.answered {
            state.heard = state.asked;
            return Poll::Ready(());
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The connection's answer to what it has heard: the caller is still there.
    pub(super) fn answer(&self) {
        let mut state = self.state();
        state.answered = state.heard;
        drop(state);
        self.changed.notify_waiters();
    }

    /// It is with its caller's connection from now on, or not any more.
    pub(super) fn with_caller(&self, is_with_caller: bool) {
        self.state().is_with_caller = is_with_caller;
        self.changed.notify_waiters();
    }

    /// It is known how it ended.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.waker = None;
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_for_the_connection_or_for_the_end() {
        let lease = Lease::new(Stamp::now(None));
        let unanswered = tokio::time::timeout(Duration::from_secs(9), lease.ask()).await;
        assert!(unanswered.is_err());
        let connection = async {
            std::future::poll_fn(|cx| lease.poll_asked(cx)).await;
            lease.answer();
        };
        tokio::join!(lease.ask(), connection);
        let ended = async {
            tokio::task::yield_now().await;
            lease.end();
        };
        tokio::join!(lease.ask(), ended);
        lease.ask().await;
        assert!(lease.is_over());
    }
}
