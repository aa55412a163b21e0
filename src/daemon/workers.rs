//! The workers: started at the start, and watched for as long as they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::in_force::InForce;
use crate::server::{self, Listener, ServerContext};
use crate::supervisor::{Pulse, Pulses, Supervisor};

/// The workers' threads, each ended when its thread has.
pub(super) type Workers = JoinSet<()>;

/// Starts as many as the configuration says, each with the listeners' sockets and a router of its own for each.
pub(super) fn start_workers(
    in_force: &InForce,
    listeners: &[Listener],
    count: usize,
    shared: &ServerContext,
    mut pulse: impl FnMut() -> Option<(Pulse, Duration)>,
) -> std::io::Result<Workers> {
    let mut workers = JoinSet::new();
    for number in 0..count {
        let pulse = pulse();
        let beat = async move {
            if let Some((pulse, every)) = pulse {
                pulse.beat(every).await;
            }
        };
        let routers = in_force.places.iter().map(|place| place.routers[number].clone());
        let listeners: Vec<_> = listeners.iter().zip(routers).collect();
        let thread = server::start(number, &listeners, beat, shared.clone())?;
        workers.spawn_blocking(move || match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a worker failed"),
            Err(_) => tracing::error!("a worker ran into a bug in bondgate; please report it"),
        });
    }
    Ok(workers)
}

/// Says that the daemon lives, from the control thread, for as long as every worker gives a sign of it.
pub(super) async fn watchdog(
    supervisor: Arc<Supervisor>,
    mut pulses: Pulses,
    every: Duration,
) -> &'static str {
    loop {
        tokio::time::sleep(every).await;
        if pulses.are_all_there() {
            supervisor.alive();
        } else {
            tracing::error!("a worker stands still, and the watchdog is not told that all is well");
        }
    }
}
