//! The workers: started at the start, and watched for as long as they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::heartbeat::{Heartbeat, Heartbeats};
use super::in_force::InForce;
use crate::platform::service_manager::ServiceManager;
use crate::server::{self, Listener, Shared};

/// The workers' threads, each ended when its thread has.
pub(super) type Workers = JoinSet<()>;

/// Starts as many as the configuration says, each with the listeners' sockets and a router of its own for each.
pub(super) fn start_workers(
    in_force: &InForce,
    listeners: &[Listener],
    shared: &Shared,
    mut heartbeat: impl FnMut() -> Option<(Heartbeat, Duration)>,
) -> std::io::Result<Workers> {
    let count = match in_force.config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
        count => count,
    };
    let mut workers = JoinSet::new();
    for number in 0..count {
        let heartbeat = heartbeat();
        let proxies: Vec<_> = in_force.places.iter().map(|place| place.proxy.clone()).collect();
        let make_apps: server::MakeApps = Box::new(move || {
            if let Some((heartbeat, interval)) = heartbeat {
                tokio::spawn(heartbeat.run(interval));
            }
            proxies
                .iter()
                .map(|proxy| proxy.application().map_err(std::io::Error::other))
                .collect()
        });
        let thread = server::start(number, listeners, make_apps, shared.clone())?;
        workers.spawn_blocking(move || match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a worker failed"),
            Err(_) => tracing::error!("a worker ran into a bug in bondgate; please report it"),
        });
    }
    Ok(workers)
}

/// Pings the watchdog from the control thread, as long as every worker has a heartbeat.
pub(super) async fn watchdog(
    service_manager: Arc<ServiceManager>,
    mut heartbeats: Heartbeats,
    interval: Duration,
) -> &'static str {
    loop {
        tokio::time::sleep(interval).await;
        if heartbeats.check() {
            service_manager.ping_watchdog();
        } else {
            tracing::error!("worker stalled, withholding the watchdog ping");
        }
    }
}
