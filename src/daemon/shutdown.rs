//! Stops the workers: in order, or at once at the deadline or a second signal.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::tasks::Workers;
use crate::config::Server;
use crate::platform::signals::Signal;
use crate::server::Phase;
use crate::spool::Spool;

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every request was finished.
    Drained,
    /// A request was cut short, pulled messages are lost with the memory or the directory that held them, or a part of the
    /// daemon failed.
    Failed,
}

/// How long it may take to write bondgate's own responses at the deadline.
const LAST_RESPONSES: Duration = Duration::from_secs(1);
/// A second signal within this time is the first one again: timeout(1) signals the process, and then its group.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Drains the workers: responses close their connections, then nothing new is accepted, then the rest is finished.
pub(super) async fn drain(
    config: &Server,
    stop: &watch::Sender<Phase>,
    workers: &mut Workers,
    spool: &Spool,
    next_signal: impl AsyncFnMut() -> Signal,
) -> Outcome {
    let drain_s = config.drain.as_secs();
    tracing::info!(drain_s, "stopping; a second signal stops at once");
    stop.send_replace(Phase::LameDuck);
    let finished = async {
        sleep(config.lame_duck).await;
        stop.send_replace(Phase::Draining);
        while workers.join_next().await.is_some() {}
        spool.settled().await;
    };
    let is_drained = tokio::select! {
        finished = timeout(config.drain, finished) => finished.is_ok(),
        () = second_stop(next_signal) => false,
    };
    let outcome = if is_drained {
        tracing::info!("drained, nothing was cut short");
        Outcome::Drained
    } else {
        stop.send_replace(Phase::Deadline);
        let _ = timeout(LAST_RESPONSES, async {
            while workers.join_next().await.is_some() {}
        })
        .await;
        tracing::warn!("stopped before every request was finished");
        Outcome::Failed
    };
    if spool.report_lost_at_end().await {
        return Outcome::Failed;
    }
    outcome
}

async fn second_stop(mut next_signal: impl AsyncFnMut() -> Signal) {
    let begun = Instant::now();
    while next_signal().await != Signal::Stop || begun.elapsed() < SAME_SIGNAL {}
}
