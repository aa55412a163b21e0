//! The application: binds the sockets, runs the parts as named tasks, reloads the configuration and stops in order.

mod active_config;
mod context;
mod file_digests;
pub mod preflight;
mod reload;
mod reloadable_keys;
mod sandbox_needs;
mod shutdown;
mod tasks;
mod upstream;
mod validation;
mod worker_heartbeat;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use self::context::Context;
use self::file_digests::FileDigests;
use self::reload::Reloader;
use self::tasks::{Tasks, start_workers};
use crate::config::Config;
use crate::platform::service_manager::ServiceManager;
use crate::problems;
use crate::server::{self, ConnectionLimit, Listener, Phase, ServerContext, Stopping};
use crate::telemetry::RecentLog;
use crate::telemetry::metrics::Metrics;
use crate::token::Clock;

pub use self::reload::Source;
pub use self::sandbox_needs::enter_sandbox;
pub use self::shutdown::Outcome;
pub use self::validation::{Findings, inspect, validate, with_all_faults};
pub use crate::admin::Readiness;
pub use crate::platform::signals::Signal;
pub use crate::server::BindError;

/// The most time, at the end of a stop, in which open status pages get their last event and the end of their stream. It
/// takes a few milliseconds, unless one of them reads nothing.
const LAST_EVENTS: Duration = Duration::from_millis(200);

/// A daemon with its sockets bound and nothing running.
pub struct Daemon {
    reloader: Reloader,
    listeners: Vec<Listener>,
    admin: Listener,
    ended_tasks: mpsc::UnboundedReceiver<String>,
    stop: watch::Sender<Phase>,
}

impl Daemon {
    /// Validates the configuration and binds every listener. Tokens expire by `clock`. The error is a [`BindError`] where
    /// an address cannot be listened on.
    pub fn bind(config: Config, clock: &Clock) -> anyhow::Result<Self> {
        let warnings = validate(&config, false).into_warnings()?;
        let digests = FileDigests::read(&config, None);
        let (stop, stopping) = server::stopping();
        let (context, listeners, admin) = Context::new(&config, clock.clone(), stopping.clone())?;
        let active = active_config::build(config, warnings, digests, None, &context)?;
        let (sender, ended_tasks) = mpsc::unbounded_channel();
        let reloader = Reloader {
            readiness: Readiness::new(active.tokens(), stopping),
            log: RecentLog::default(),
            context: Arc::new(context),
            active: ArcSwap::from_pointee(active),
            source: None,
            service_manager: Arc::default(),
            tasks: Tasks(sender),
            requested: Notify::new(),
            is_file_rejected: AtomicBool::new(false),
        };
        Ok(Self {
            reloader,
            listeners,
            admin,
            ended_tasks,
            stop,
        })
    }

    /// Sets where a reload finds the configuration; without that it is rejected.
    pub fn reload_from(&mut self, source: Source) {
        self.reloader.source = Some(source);
    }

    /// Reports changes of state to a service manager.
    #[must_use]
    pub fn supervised(mut self, service_manager: ServiceManager) -> Self {
        self.reloader.service_manager = Arc::new(service_manager);
        self
    }

    /// Offers the recent log on the admin listener.
    #[must_use]
    pub fn with_log(mut self, log: RecentLog) -> Self {
        self.reloader.log = log;
        self
    }

    /// The listeners' addresses, for people.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::name).collect()
    }

    /// The admin listener's address, for people.
    #[must_use]
    pub fn admin_address(&self) -> String {
        self.admin.name()
    }

    /// Whether callers should be sent here, for programs that run the daemon in their own process.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.reloader.readiness.clone()
    }

    /// The daemon's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.reloader.context.metrics
    }

    /// Runs until a stop is requested and has drained. The calling thread is the control thread: its runtime refreshes
    /// tokens and serves the admin listener, whatever load the workers have. `next_signal` resolves at the operator's next
    /// signal, and is cancel safe.
    pub async fn run(mut self, mut next_signal: impl AsyncFnMut() -> Signal) -> io::Result<Outcome> {
        let reloader = Arc::new(self.reloader);
        let (context, tasks, service_manager) =
            (&reloader.context, &reloader.tasks, &reloader.service_manager);
        let active = reloader.active.load_full();
        let config = &active.config;
        for warning in &active.warnings {
            tracing::warn!(problem = warning.problem.code(), %warning, "configuration warning");
        }
        context.spool.start(Handle::current());
        let spool = context.spool.clone();
        tasks.spawn("spool watch", async move { spool.watch().await });
        for upstream in &active.upstreams {
            upstream.start(tasks, &context.resolver);
        }
        reloader.apply(&active);

        let shared = |stop: Stopping, connections, problem| ServerContext {
            limits: Arc::new(config.limits),
            connections: ConnectionLimit::new(connections, config.limits.refusals, problem),
            metrics: context.metrics.clone(),
            activity: context.activity.clone(),
            stop,
        };
        // Health checks are answered to the end: the admin listener is stopped last.
        let (admin_stop, admin_stopping) = server::stopping();
        let admin_shared = shared(
            admin_stopping,
            config.admin.connections,
            problems::admin::too_many_connections as fn(_) -> _,
        );
        let (admin, admin_settings) = (self.admin, context.admin.settings[0].clone());
        tracing::info!("status, health and metrics are at {}", context.admin.url);
        let admin_task = tasks.spawn("admin listener", async move {
            if let Err(error) = server::serve(&admin, admin_settings, admin_shared).await {
                tracing::error!(%error, "admin listener failed");
            }
        });
        let shared = shared(
            context.stop.clone(),
            config.limits.connections,
            problems::request::too_many_connections,
        );
        let mut workers = start_workers(&self.listeners, context, &shared, tasks, service_manager)?;
        for (socket, listener) in context.listeners.iter().zip(&active.listeners) {
            tracing::info!(upstream = listener.config.upstream, "listening on {}", socket.url);
        }
        // Only the workers' clones of the sockets stay open: they close when the workers stop accepting.
        drop(self.listeners);
        drop(active);
        service_manager.ready();
        tasks.spawn("reloader", reloader.clone().run());

        let ended = loop {
            tokio::select! {
                signal = next_signal() => match signal {
                    Signal::Stop => break None,
                    Signal::Reload => reloader.requested.notify_one(),
                    Signal::ReopenLog => {}
                },
                Some(task) = self.ended_tasks.recv() => break Some(task),
                Some(_) = workers.join_next() => break Some("worker".to_owned()),
            }
        };
        if let Some(task) = ended {
            tracing::error!(task, "task ended early, stopping");
            context.spool.report_lost_at_end().await;
            return Ok(Outcome::Failed);
        }
        service_manager.stopping();
        let config = reloader.active.load().config.server.clone();
        reloader.readiness.begin_stop(config.drain);
        let outcome = shutdown::drain(&config, &self.stop, &mut workers, &context.spool, next_signal).await;
        let _ = admin_stop.send(Phase::Deadline);
        let _ = timeout(LAST_EVENTS, admin_task).await;
        Ok(outcome)
    }
}
