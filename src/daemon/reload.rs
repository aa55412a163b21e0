//! Puts a changed configuration in force while the daemon runs: all that can be, or nothing.
//!
//! Everything new is made first, off the control thread, since it reads files. Only when all of it is
//! there, what is in force is replaced, piece by piece and each at once; requests under way end with what
//! they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::contents::Contents;
use super::difference;
use super::in_force::{InForce, Next};
use super::judge::faults_of_change;
use super::upstream::{Engine, Upstream};
use super::{Means, Readiness, facts};
use crate::config::{Config, ConfigError};
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;
use crate::telemetry::LogLevel;

/// Where a running daemon finds its configuration again.
pub struct Source {
    /// Reads it.
    pub load: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// The file that it is in, where it is in one.
    pub file: Option<PathBuf>,
    /// What the process may still reach.
    pub sandbox: Sandbox,
    /// How much is logged.
    pub level: LogLevel,
}

/// The task that puts changed configurations in force. It runs the token engines, too, since they come and
/// go with the upstreams.
pub(super) struct Reloader {
    pub(super) means: Arc<Means>,
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    pub(super) source: Option<Arc<Source>>,
    pub(super) readiness: Readiness,
    pub(super) started: SystemTime,
    /// The engines of the start.
    pub(super) engines: Vec<Engine>,
    /// Who is told of it.
    pub(super) supervisor: Arc<Supervisor>,
    /// Rung when the operator asks for it.
    pub(super) asked: Arc<Notify>,
}

/// How often files are looked at. They are read and not watched: no watch sees every mount. What changed is
/// read again when it looks the same twice, so that nobody is caught writing.
const LOOK: Duration = Duration::from_secs(2);
/// How long callers of an upstream are served as before, while its first token is fetched: longer than the 5 s that the
/// C library waits for a dead name server.
const HEAD_START: Duration = Duration::from_secs(8);

/// What made the daemon look at its configuration again.
#[derive(Clone, Copy)]
enum Cause {
    /// The operator, or a configuration file that is watched: it is read again.
    Configuration,
    /// A file that it names: what is in force is made anew from it.
    Files,
}

impl Reloader {
    /// Runs until a token engine ends, which it never should; gives its name then.
    pub(super) async fn run(mut self) -> &'static str {
        let mut engines = JoinSet::new();
        for engine in std::mem::take(&mut self.engines) {
            engine.start(&mut engines);
        }
        let mut seen = self.look().await;
        let mut pending = None;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.asked.notified() => {
                    self.supervisor.reloading();
                    seen = self.reload(Cause::Configuration, &mut engines).await;
                    self.supervisor.ready();
                    pending = None;
                }
                _ = looks.tick(), if !seen.is_empty() => {
                    let now = self.look().await;
                    if now == seen {
                        pending = None;
                    } else if pending.as_ref() == Some(&now) {
                        seen = self.reload(self.cause(&now, &seen), &mut engines).await;
                        pending = None;
                    } else {
                        pending = Some(now);
                    }
                }
                Some(ended) = engines.join_next() => {
                    if !ended.is_err_and(|error| error.is_cancelled()) {
                        return "token refresher";
                    }
                }
            }
        }
    }

    /// Puts in force what changed, or says why not. Gives the contents that were found.
    async fn reload(&self, cause: Cause, engines: &mut JoinSet<()>) -> Contents {
        // Whatever changes from here on is seen at the next look.
        let seen = self.look().await;
        let (source, in_force, means) = (self.source.clone(), self.in_force.load_full(), self.means.clone());
        let made = match (cause, source) {
            (Cause::Configuration, None) => {
                tracing::warn!("there is no configuration to read again");
                return seen;
            }
            (Cause::Configuration, Some(source)) => {
                off_thread(move || read(&source, &in_force, &means)).await
            }
            (Cause::Files, source) => {
                let config = in_force.config.clone();
                let make = move || make(source.as_deref(), &in_force, config, None, &means);
                off_thread(make).await
            }
        };
        let made = made.unwrap_or_else(|| {
            Err(vec![
                "this ran into a bug in bondgate; please report it".to_owned(),
            ])
        });
        match made {
            Ok(next) => {
                self.put_in_force(next, engines).await;
                self.in_force.load().contents.clone()
            }
            Err(faults) => {
                self.means.metrics.reloaded(false);
                tracing::error!(
                    "the configuration is as it was; what was found cannot be put in force: {}",
                    faults.join("; ")
                );
                seen
            }
        }
    }

    async fn put_in_force(&self, next: Next, engines: &mut JoinSet<()>) {
        let before = self.in_force.load_full();
        let now = Arc::new(next.in_force);
        for engine in next.engines {
            engine.start(engines);
        }
        let was_there = |upstream: &Upstream| {
            before
                .upstreams
                .iter()
                .any(|other| other.shares_engine_with(upstream))
        };
        let first_tokens = async {
            for upstream in now.upstreams.iter().filter(|upstream| !was_there(upstream)) {
                upstream.proxied.prefetch();
                let _ = upstream.tokens.wait(HEAD_START).await;
            }
        };
        let _ = tokio::time::timeout(HEAD_START, first_tokens).await;
        for (shared, tls) in next.tls {
            shared.store(Arc::new(tls));
        }
        for (active, router) in next.routers {
            active.replace(router);
        }
        let configured = SystemTime::now();
        let facts = facts(&now.upstreams, &now.places, self.started, configured);
        now.admin.router.replace(
            self.means
                .admin_router(now.admin.config(), facts, &self.readiness),
        );
        let tokens = now
            .upstreams
            .iter()
            .map(|upstream| (upstream.config.name.clone(), upstream.tokens.clone()));
        self.readiness.replace(tokens.collect());
        if let Some(source) = &self.source {
            // It was judged before.
            let _ = source.level.set(&now.config.log.level);
        }
        self.in_force.store(now.clone());
        for upstream in &before.upstreams {
            if !now.upstreams.iter().any(|kept| kept.shares_engine_with(upstream)) {
                upstream.stop();
            }
        }
        self.means.metrics.reloaded(true);
        self.means.metrics.config_loaded(seconds(configured));
        tell(&before.config, &now.config, &next.changed, &next.restarts);
    }

    /// What the files hold now.
    async fn look(&self) -> Contents {
        let (in_force, source) = (self.in_force.load_full(), self.source.clone());
        let look = move || {
            let watched = watched(source.as_deref(), &in_force.config);
            Contents::read(&in_force.config).with(watched.map(Contents::of))
        };
        off_thread(look).await.unwrap_or_default()
    }

    fn cause(&self, now: &Contents, seen: &Contents) -> Cause {
        let in_force = self.in_force.load();
        match watched(self.source.as_deref(), &in_force.config) {
            Some(file) if now.differs_at(file, seen) => Cause::Configuration,
            _ => Cause::Files,
        }
    }
}

/// The configuration file, where a change of it is to be noticed.
fn watched<'a>(source: Option<&'a Source>, config: &Config) -> Option<&'a Path> {
    source?.file.as_deref().filter(|_| config.server.watch)
}

fn read(source: &Source, in_force: &InForce, means: &Means) -> Result<Next, Vec<String>> {
    // Should it change while it is read, that is seen at the next look.
    let file = source.file.as_deref().map(Contents::of);
    let config = (source.load)().map_err(|error| {
        let faults = error.faults.iter().map(ToString::to_string);
        faults.collect::<Vec<_>>()
    })?;
    make(Some(source), in_force, config, file, means)
}

/// What a configuration would put in force. What the sandbox withholds is told first: the rest of it could
/// only be told as what it looks like from inside.
fn make(
    source: Option<&Source>,
    in_force: &InForce,
    config: Config,
    file: Option<Contents>,
    means: &Means,
) -> Result<Next, Vec<String>> {
    let mut faults = source
        .map(|source| source.sandbox.withholds(&config))
        .unwrap_or_default();
    if faults.is_empty() {
        faults.extend(faults_of_change(&config).iter().map(ToString::to_string));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let watched = watched(source, &config);
    let file = file.or_else(|| watched.map(|file| in_force.contents.only(file)));
    let contents = Contents::read(&config).with(file.filter(|_| watched.is_some()));
    in_force.next(config, contents, means)
}

/// One line for what changed, and one for each thing that did not.
fn tell(before: &Config, now: &Config, changed: &[String], restarts: &[String]) {
    if changed.is_empty() {
        tracing::info!("the configuration was read again: nothing in it that can change has changed");
    } else {
        tracing::info!(
            "the configuration in force has changed: {}",
            difference::named(changed)
        );
    }
    for restart in restarts {
        tracing::warn!("needs a restart: {restart} until then");
    }
    for warning in now
        .warnings
        .iter()
        .filter(|warning| !before.warnings.contains(warning))
    {
        tracing::warn!("{warning}");
    }
}

/// Files may be on a file system that hangs: the control thread reads none. Nothing where a bug ended it.
async fn off_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
