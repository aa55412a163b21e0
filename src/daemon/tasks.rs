//! The daemon's long-lived tasks and threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::worker_heartbeat::Heartbeats;
use crate::platform::service_manager::ServiceManager;
use crate::server::{self, Listener, ServerContext};

/// Spawns tasks that run until the daemon ends. The names of those that end earlier, or panic, are sent.
#[derive(Clone)]
pub(super) struct Tasks(pub(super) mpsc::UnboundedSender<String>);

impl Tasks {
    /// Spawns a task. Aborting the handle cancels it, and sends nothing.
    pub(super) fn spawn(
        &self,
        name: impl Into<String>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (name, ended) = (name.into(), self.0.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(future));
        tokio::spawn(async move {
            let _ = task.await;
            let _ = ended.send(name);
        })
    }
}

/// The worker threads; each entry ends with its thread.
pub(super) type Workers = JoinSet<()>;

/// Starts the workers, which accept from clones of the same sockets, and a task that pings the watchdog as long as every
/// worker makes progress.
pub(super) fn start_workers(
    listeners: &[Listener],
    context: &Context,
    shared: &ServerContext,
    tasks: &Tasks,
    service_manager: &Arc<ServiceManager>,
) -> io::Result<Workers> {
    let (mut workers, mut heartbeats) = (JoinSet::new(), Heartbeats::default());
    // Without a watchdog there is never a ping.
    let every = service_manager.ping_interval().unwrap_or(Duration::MAX);
    for number in 0..context.workers {
        let heartbeat = heartbeats.add().run(every / 2);
        let sockets = context.listeners.iter();
        let settings = sockets.map(|socket| socket.settings[number].clone());
        let listeners = listeners.iter().cloned().zip(settings).collect();
        let thread = server::start(number, listeners, heartbeat, shared.clone())?;
        workers.spawn_blocking(move || match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "worker failed"),
            Err(_) => tracing::error!("bug in bondgate, please report it: worker panicked"),
        });
    }
    tasks.spawn(
        "watchdog",
        ping_watchdog(service_manager.clone(), heartbeats, every),
    );
    Ok(workers)
}

async fn ping_watchdog(service_manager: Arc<ServiceManager>, mut heartbeats: Heartbeats, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if heartbeats.check() {
            service_manager.ping_watchdog();
        } else {
            tracing::error!("worker stalled, withholding the watchdog ping");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_task_is_reported_by_name_unless_it_was_cancelled() {
        let (sender, mut ended) = mpsc::unbounded_channel();
        let tasks = Tasks(sender);
        let cancelled = tasks.spawn("cancelled", std::future::pending());
        cancelled.abort();
        tasks.spawn("returned", async {});
        assert_eq!(ended.recv().await.unwrap(), "returned");
        tasks.spawn("panicked", async { panic!("a bug") });
        assert_eq!(ended.recv().await.unwrap(), "panicked");
        drop(tasks);
        assert_eq!(ended.recv().await, None);
    }
}
