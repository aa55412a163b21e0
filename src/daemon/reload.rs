//! Applies a changed configuration while the daemon runs: everything that can change without a restart, or nothing.
//!
//! Files are read and everything new is built off the control thread. Then each part is replaced at once; running requests
//! finish with the parts that they began with.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::active_config::{ActiveConfig, build};
use super::context::Context;
use super::file_digests::FileDigests;
use super::reloadable_keys::{changed_keys, is_fixed, list};
use super::sandbox_needs::sandbox_needs;
use super::tasks::Tasks;
use super::upstream::Upstream;
use super::validation::{validate_reload, with_all_reload_faults};
use crate::admin::{self, Readiness};
use crate::config::{Config, ConfigError, Fault};
use crate::platform::sandbox::Sandbox;
use crate::platform::service_manager::ServiceManager;
use crate::problems::configuration;
use crate::telemetry::{Lasting, LogHandle, RecentLog};
use crate::tls::{Digest, TlsServer};

/// Where a running daemon finds its configuration again.
pub struct Source {
    /// Reads it.
    pub load: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// What the process may still access.
    pub sandbox: Sandbox,
    /// The log, whose level a reload may change.
    pub log: LogHandle,
}

/// Holds the active configuration, and replaces it.
pub(super) struct Reloader {
    pub(super) context: Arc<Context>,
    pub(super) active: ArcSwap<ActiveConfig>,
    pub(super) source: Option<Source>,
    pub(super) readiness: Readiness,
    /// The recent log; empty if this process has set up no log, as in tests.
    pub(super) log: RecentLog,
    pub(super) service_manager: Arc<ServiceManager>,
    pub(super) tasks: Tasks,
    /// Notified when the operator requests a reload.
    pub(super) requested: Notify,
    /// Whether the configuration was rejected when it was last read. A reload for a file that it names does not change that.
    pub(super) is_file_rejected: AtomicBool,
}

/// How often files are read to find changes. They are not watched: no watch works on every mount. A change counts once
/// two reads in a row agree, so that no half-written file is used.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How long the previous upstream serves while a new one gets its first token: longer than the 5 s for which the C
/// library waits for a dead name server.
const FIRST_TOKEN: Duration = Duration::from_secs(8);

impl Reloader {
    /// Reloads when requested and when files change; never ends.
    pub(super) async fn run(self: Arc<Self>) {
        let mut seen = self.active.load().digests.clone();
        seen.config_file = self.read_digests().await.config_file;
        let mut last = seen.clone();
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.requested.notified() => {
                    self.service_manager.reloading();
                    seen = self.reload(true, self.read_digests().await).await;
                    self.service_manager.ready();
                }
                _ = ticks.tick() => {
                    let found = self.read_digests().await;
                    if found != seen && found == last {
                        seen = self.reload(found.config_file != seen.config_file, found.clone()).await;
                    }
                    last = found;
                }
            }
        }
    }

    /// Replaces the active configuration, or reports why not. The new one is built from the configuration file, or, if
    /// only a file that the configuration names has changed, from the same configuration. Returns the digests for later
    /// comparisons.
    async fn reload(self: &Arc<Self>, from_file: bool, mut found: FileDigests) -> FileDigests {
        let (this, config_file) = (self.clone(), found.config_file);
        let built = spawn_blocking(move || this.build(from_file, config_file)).await;
        let built = built.context("bug in bondgate, please report it").flatten();
        if from_file {
            self.is_file_rejected.store(built.is_err(), Ordering::Relaxed);
        }
        self.context.metrics.count_reload(built.is_ok());
        match built {
            Ok(now) => {
                found = now.digests.clone();
                self.replace(now).await;
                if !self.is_file_rejected.load(Ordering::Relaxed) {
                    self.context.rejected_reload.replace(Vec::new());
                }
            }
            Err(error) => {
                let rejected = report_rejected(&error);
                self.context.rejected_reload.replace(vec![rejected]);
            }
        }
        found
    }

    /// Reads and builds a configuration. `config_file` is its digest from before it is read.
    fn build(&self, from_file: bool, config_file: Option<Digest>) -> anyhow::Result<ActiveConfig> {
        let active = self.active.load_full();
        let source = self.source.as_ref();
        let config = if from_file {
            let source = source.context("there is no configuration to read again")?;
            (source.load)().map_err(|error| with_all_reload_faults(error, &active.config))?
        } else {
            active.config.clone()
        };
        // What the sandbox denies is reported alone: other checks would only report its effects.
        let denied = source.map(|source| source.sandbox.denied(&sandbox_needs(&config)));
        let denied = denied.unwrap_or_default();
        ensure!(denied.is_empty(), denied.join("\n"));
        let warnings = validate_reload(&config, &active.config).into_warnings()?;
        let mut digests = FileDigests::read(&config, None);
        digests.config_file = config_file.filter(|_| config.server.watch);
        let mut built = build(config, warnings, digests, Some(&active), &self.context)?;
        if !from_file {
            built.loaded = active.loaded;
        }
        Ok(built)
    }

    async fn replace(&self, now: ActiveConfig) {
        let (before, now) = (self.active.load_full(), Arc::new(now));
        let (tasks, resolver) = (&self.tasks, &self.context.resolver);
        let upstreams = now.upstreams.iter();
        let started: Vec<_> = upstreams
            .filter(|upstream| upstream.start(tasks, resolver))
            .collect();
        let first_tokens = async {
            for upstream in &started {
                let _ = upstream.tokens.wait(FIRST_TOKEN).await;
            }
        };
        let _ = timeout(FIRST_TOKEN, first_tokens).await;
        self.apply(&now);
        self.active.store(now.clone());
        report(&before, &now, &started);
    }

    /// Makes a configuration take effect from the next request on, on open connections too.
    pub(super) fn apply(&self, now: &ActiveConfig) {
        let context = &self.context;
        for (socket, listener) in context.listeners.iter().zip(&now.listeners) {
            socket.serve(&listener.routers, listener.tls.as_ref());
            self.publish_expiry(&socket.name, listener.tls.as_ref());
        }
        self.publish_expiry(&context.admin.name, now.admin_tls.as_ref());
        self.readiness.replace(now.tokens());
        context.spool.set_upstreams(now.served_upstreams());
        let mut facts = now.facts(context);
        facts.configuration = self.source.as_ref().map(|source| {
            let file = source.file.as_deref();
            let file = file.and_then(|file| std::path::absolute(file).ok());
            file.unwrap_or("environment".into())
        });
        let sources = admin::Sources {
            facts,
            readiness: self.readiness.clone(),
            spool: context.spool.clone(),
            metrics: context.metrics.clone(),
            activity: context.activity.clone(),
            log: self.log.clone(),
        };
        let router = admin::router(&now.admin, &context.admin.addresses, sources);
        context.admin.serve(&[router], now.admin_tls.as_ref());
        if let Some(source) = &self.source {
            // It was validated before.
            let _ = source.log.set_level(&now.config.log.level);
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        context.metrics.config_last_success.set(since_1970.as_secs_f64());
    }

    fn publish_expiry(&self, listener: &str, tls: Option<&Arc<TlsServer>>) {
        if let Some(expires) = tls.and_then(|tls| tls.expires) {
            let since_1970 = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
            let metrics = &self.context.metrics;
            metrics.set_certificate_expiry(listener, since_1970.as_secs_f64());
        }
    }

    async fn read_digests(self: &Arc<Self>) -> FileDigests {
        let this = self.clone();
        let read = spawn_blocking(move || {
            let file = this.source.as_ref().and_then(|source| source.file.as_deref());
            FileDigests::read(&this.active.load().config, file)
        });
        read.await.unwrap_or_default()
    }
}

/// Logs one line for each fault. Returns the first one.
fn report_rejected(error: &anyhow::Error) -> Lasting {
    const REJECTED: &str = "reload rejected, keeping the current configuration";
    let faults = error.downcast_ref().map(|ConfigError { faults, .. }| &faults[..]);
    for fault in faults.unwrap_or_default() {
        tracing::error!(problem = fault.problem.code(), %fault, "{REJECTED}");
    }
    if let Some([Fault { origin, key, problem }, ..]) = faults {
        return Lasting::new(problem.clone(), format!("{origin}: {key}"));
    }
    let problem = configuration::reload_rejected(format!("{error:#}").replace('\n', "; "));
    tracing::error!(problem = problem.code(), fault = %problem, "{REJECTED}");
    Lasting::new(problem, String::new())
}

/// Logs one line for what changed, and one for each thing that could not.
fn report(before: &ActiveConfig, now: &ActiveConfig, started: &[&Upstream]) {
    let mut changed = changed_keys(&before.config.settings, &now.config.settings);
    changed.retain(|key| !is_fixed(key));
    changed.extend(now.digests.changed_keys(&now.config, &before.digests));
    // Inline secrets and the system's certificates change without a key.
    for upstream in started {
        let name = format!("upstream.{}", upstream.config.name);
        if !changed.iter().any(|key| key.starts_with(&format!("{name}."))) {
            changed.push(name);
        }
    }
    if changed.is_empty() {
        tracing::info!("reload found no changes");
    } else {
        tracing::info!(changed = list(&changed), "reload applied");
    }
    for change in &now.restarts {
        tracing::warn!(change, "change needs a restart");
    }
    for warning in &now.warnings {
        if !before.warnings.contains(warning) {
            tracing::warn!(problem = warning.problem.code(), %warning, "configuration warning");
        }
    }
}
