//! Stops the workers in order, or at once where that is wanted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::workers::Workers;
use super::{Outcome, Signal, Signals};
use crate::config::Config;
use crate::server::Phase;
use crate::spool::Spool;

/// How long own answers at the deadline may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How soon after the first a signal is no second one.
const SAME: Duration = Duration::from_millis(200);

/// Callers are told, then nothing new is accepted, then what is left gets its answer.
pub(super) async fn drain(
    config: &Config,
    stop: &watch::Sender<Phase>,
    workers: &mut Workers,
    spool: &Spool,
    signals: &mut impl Signals,
) -> Outcome {
    let (drain, lame_duck) = (config.server.drain, config.server.lame_duck);
    tracing::info!(
        drain_s = drain.as_secs(),
        "stopping; a second signal stops at once"
    );
    stop.send_replace(Phase::LameDuck);
    let finished = async {
        tokio::time::sleep(lame_duck).await;
        stop.send_replace(Phase::Draining);
        while workers.join_next().await.is_some() {}
        spool.settled().await;
    };
    let is_drained = tokio::select! {
        done = tokio::time::timeout(drain, finished) => done.is_ok(),
        () = stop_asked(signals) => false,
    };
    if is_drained {
        return Outcome::Drained;
    }
    stop.send_replace(Phase::Deadline);
    let _ = tokio::time::timeout(LAST_WORDS, async { while workers.join_next().await.is_some() {} }).await;
    Outcome::Forced
}

/// A stop has begun: there is nothing to reload any more, and a signal that comes with the first one is the
/// same (timeout(1) sends it to the process, and then to its group).
async fn stop_asked(signals: &mut impl Signals) {
    let begun = Instant::now();
    while signals.next().await != Signal::Stop || begun.elapsed() < SAME {}
}
