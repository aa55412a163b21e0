//! The application: binds everything, runs the parts as named tasks, puts changed configurations in force,
//! and stops the parts in order.

mod bound;
mod contents;
mod difference;
mod in_force;
mod judge;
mod reload;
mod stop;
mod upstream;
mod workers;

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::Router;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::bound::{judge_exposure, judge_loop};
use self::contents::Contents;
use self::in_force::{AdminPlace, InForce, Place};
use self::reload::Reloader;
use self::stop::drain;
use self::upstream::{Engine, Upstream};
use self::workers::{start_workers, watchdog};
use crate::admin::{self, Facts};
use crate::config::{self, Config, Fault, KeysError, ListenAddress, PAGES_MAY_PULL};
use crate::proxy::{self, AuthorizationLayer, InFlightLayer, ProxyConfigError, ReplayBudget};
use crate::resolver::Resolver;
use crate::server::{
    self, ActiveRouter, ConnectionLimit, Listener, Phase, ServerContext, Stopping, UnixAccess,
};
use crate::spool::{self, Spool};
use crate::supervisor::{Pulses, Supervisor};
use crate::telemetry::metrics::Metrics;
use crate::tls::{self, TlsError};
use crate::token::Clock;

pub use self::judge::{faults, missing_credentials};
pub use self::reload::Source;
pub use crate::admin::Readiness;
pub use crate::server::BindError;

/// A daemon with its sockets bound and nothing running.
pub struct Daemon {
    in_force: InForce,
    engines: Vec<Engine>,
    listeners: Vec<Listener>,
    admin: Listener,
    means: Means,
    readiness: Readiness,
    spool: Spool,
    shared: ServerContext,
    stop: watch::Sender<Phase>,
    supervisor: Arc<Supervisor>,
    source: Option<Source>,
    started: SystemTime,
}

/// What every configuration in force shares.
struct Means {
    clock: Clock,
    resolver: Resolver,
    metrics: Arc<Metrics>,
    in_flight: InFlightLayer,
    budget: ReplayBudget,
    spool: Spool,
    stop: Stopping,
    /// Where a person finds the state of things.
    admin: String,
    workers: usize,
}

impl Means {
    fn admin_router(&self, config: &config::Admin, facts: Facts, readiness: &Readiness) -> Router {
        let settings = admin::Settings::new(config, facts);
        admin::router(
            settings,
            readiness.clone(),
            self.spool.clone(),
            self.metrics.clone(),
        )
    }
}

/// How many workers a configuration asks for.
fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
        count => count,
    }
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What [`faults`] finds; at least one.
    #[error("{}", told(.0))]
    Unusable(Vec<Fault>),
    /// What the configuration names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What a listener is told cannot be done.
    #[error(transparent)]
    Proxy(#[from] ProxyConfigError),
    /// The keys of a listener's callers cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A listener cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    /// An inherited socket can be reached from other machines.
    #[error(
        "{0} was handed over on an address that other machines can reach, and nothing says who may; set allow, keys or \
         tls.client_ca_file, or let systemd listen on 127.0.0.1"
    )]
    Exposed(ListenAddress),
    /// An inherited socket is a unix socket, and its callers were to be judged by what they have not.
    #[error(
        "{0} was handed over as a unix socket, where allow, trusted_proxies and tls have no effect; leave them out, or \
         let systemd listen on TCP"
    )]
    NotTcp(ListenAddress),
    /// An upstream leads to where we turn out to listen.
    #[error(
        "upstream.{upstream}.{key}: leads back to bondgate itself, which listens on {address}; write the API's own address"
    )]
    Loop {
        /// The upstream's name.
        upstream: String,
        /// Its key.
        key: &'static str,
        /// Our address.
        address: ListenAddress,
    },
}

fn told(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    match &lines[..] {
        [one] => one.clone(),
        lines => format!(
            "{} faults in what the configuration names:\n{}",
            lines.len(),
            lines.join("\n")
        ),
    }
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything under way was finished.
    Drained,
    /// The deadline, or a second signal, cut something short.
    Forced,
    /// Everything was finished, but pulled messages that were in memory alone are gone.
    Lost,
    /// A part that should run for ever ended.
    Failed,
}

/// What the operator wants of a running daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An orderly stop; the second time at once.
    Stop,
    /// That the configuration is read again.
    Reload,
}

/// Where signals come from.
pub trait Signals {
    /// Resolves at the next signal. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Signal> + Send;
}

impl Daemon {
    /// Binds every listener and judges what the configuration names; tokens live by `clock`.
    pub fn bind(mut config: Config, clock: &Clock) -> Result<Self, StartError> {
        let faults = faults(&config);
        if !faults.is_empty() {
            return Err(StartError::Unusable(faults));
        }
        let (stop, stopping) = server::stopping();
        let started = SystemTime::now();
        let contents = Contents::read(&config);
        let tls = config.admin.tls.as_ref().map(tls::server).transpose()?;
        let unix = UnixAccess {
            mode: 0o660,
            group: None,
        };
        let admin = Listener::bind(&config.admin.address, &unix, tls)?;
        judge_exposure(&admin, &config.admin.address, config.admin.is_gated())?;
        judge_loop(&admin.addresses(), &config.upstreams)?;
        let metrics = Metrics::new();
        let spool = Spool::open(&config.spool, metrics.clone())?;
        let means = Means {
            clock: clock.clone(),
            resolver: Resolver::default(),
            metrics,
            in_flight: InFlightLayer::new(&config.limits),
            budget: ReplayBudget::default(),
            spool: spool.clone(),
            stop: stopping.clone(),
            admin: admin.url(),
            workers: workers(&config),
        };
        let (mut upstreams, mut engines) = (Vec::new(), Vec::new());
        for upstream in &config.upstreams {
            let (upstream, engine) = Upstream::new(upstream, None, &means)?;
            upstreams.push(upstream);
            engines.extend(engine);
        }
        let (mut listeners, mut places) = (Vec::new(), Vec::new());
        let mut warnings = Vec::new();
        for (number, listener) in config.listeners.iter().enumerate() {
            let upstream = upstreams
                .iter()
                .find(|upstream| upstream.config.name == listener.upstream)
                .expect("the configuration was read with this upstream");
            let authorization = AuthorizationLayer::new(listener, &upstream.config, &means.admin)?;
            let routers = proxy::routers(listener, &authorization, &means.in_flight, &upstream.proxied);
            let tls = listener.access.tls.as_ref().map(tls::server).transpose()?;
            let unix = UnixAccess {
                mode: listener.mode,
                group: listener.group.clone(),
            };
            let bound = Listener::bind(&listener.address, &unix, tls)?;
            judge_exposure(&bound, &listener.address, listener.access.is_gated())?;
            if bound.is_unix() && listener.access.is_of_tcp() {
                return Err(StartError::NotTcp(listener.address.clone()));
            }
            judge_loop(&bound.addresses(), &config.upstreams)?;
            let is_inherited = matches!(listener.address, ListenAddress::Systemd(_));
            if is_inherited && !bound.is_local() && listener.lets_pages_pull(&upstream.config) {
                warnings.push(format!("listener[{number}].allow: {PAGES_MAY_PULL}"));
            }
            places.push(Place::new(listener, &bound, authorization, routers));
            listeners.push(bound);
        }
        let shared = ServerContext {
            limits: Arc::new(config.limits),
            connections: ConnectionLimit::new(config.limits.connections, config.limits.refusals),
            metrics: means.metrics.clone(),
            stop: stopping.clone(),
        };
        let readers = upstreams
            .iter()
            .map(|upstream| (upstream.config.name.clone(), upstream.tokens.clone()));
        let readiness = Readiness::new(readers.collect(), stopping);
        let facts = facts(&upstreams, &places, started, started);
        means.metrics.config_loaded(reload::seconds(started));
        let admin_place = AdminPlace::new(
            &config.admin,
            &admin,
            ActiveRouter::new(means.admin_router(&config.admin, facts, &readiness)),
        );
        config.warnings.append(&mut warnings);
        Ok(Self {
            in_force: InForce::new(config, contents, upstreams, places, admin_place),
            engines,
            listeners,
            admin,
            means,
            readiness,
            spool,
            shared,
            stop,
            supervisor: Arc::default(),
            source: None,
            started,
        })
    }

    /// Tells where the configuration is found again: without that a reload finds nothing.
    pub fn read_again_from(&mut self, source: Source) {
        self.source = Some(source);
    }

    /// Where callers come in, as told to people.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::name).collect()
    }

    /// Where the admin listener is, as told to people.
    #[must_use]
    pub fn admin_address(&self) -> String {
        self.admin.name()
    }

    /// Has somebody told how it is.
    #[must_use]
    pub fn supervised(mut self, supervisor: Supervisor) -> Self {
        self.supervisor = Arc::new(supervisor);
        self
    }

    /// Whether callers should be sent here, for whoever runs the daemon in its own process.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Its numbers, for what counts in its process beside it.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.means.metrics
    }

    /// Runs until a stop is asked for and has drained. Runs on the control thread: its runtime
    /// refreshes tokens and answers the admin listener, whatever load the workers have.
    pub async fn run(self, mut signals: impl Signals) -> std::io::Result<Outcome> {
        for warning in &self.in_force.config.warnings {
            tracing::warn!("{warning}");
        }
        self.spool.start(tokio::runtime::Handle::current());
        for upstream in &self.in_force.upstreams {
            upstream.proxied.prefetch();
        }
        // Health is answered to the end: the admin listener has a stop of its own.
        let (admin_stop, admin_stopping) = server::stopping();
        let admin_router = self.in_force.admin.router.clone();
        let admin_shared = ServerContext {
            stop: admin_stopping,
            connections: ConnectionLimit::new(
                self.in_force.config.admin.connections,
                self.in_force.config.limits.refusals,
            ),
            ..self.shared.clone()
        };
        let admin_listener = self.admin;
        tracing::info!("status, health and metrics are at {}", admin_listener.url());
        let mut parts = JoinSet::new();
        parts.spawn(async move {
            if let Err(error) = server::serve(&admin_listener, admin_router, admin_shared).await {
                tracing::error!(%error, "the admin listener failed");
            }
            "admin listener"
        });
        let watched = self.spool.clone();
        parts.spawn(async move {
            watched.watch().await;
            "spool's watch"
        });

        let mut pulses = Pulses::default();
        let every = self.supervisor.every();
        let mut workers = start_workers(
            &self.in_force,
            &self.listeners,
            self.means.workers,
            &self.shared,
            || every.map(|every| (pulses.add(), every / 2)),
        )?;
        if let Some(every) = every {
            parts.spawn(watchdog(self.supervisor.clone(), pulses, every));
        }
        for (listener, place) in self.listeners.iter().zip(&self.in_force.places) {
            tracing::info!(
                upstream = place.config.upstream,
                "listening on {}",
                listener.url()
            );
        }
        // Only the workers' own sockets are left: they close when the workers stop to accept.
        drop(self.listeners);
        self.supervisor.ready();

        let in_force = Arc::new(ArcSwap::from_pointee(self.in_force));
        let asked = Arc::new(Notify::new());
        let reloader = Reloader {
            means: Arc::new(self.means),
            in_force: in_force.clone(),
            source: self.source.map(Arc::new),
            readiness: self.readiness,
            started: self.started,
            engines: self.engines,
            supervisor: self.supervisor.clone(),
            asked: asked.clone(),
        };
        parts.spawn(reloader.run());
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => asked.notify_one(),
                },
                Some(ended) = parts.join_next() => return Ok(failed(ended.unwrap_or("a part"))),
                Some(_) = workers.join_next() => return Ok(failed("worker")),
            }
        }
        self.supervisor.stopping();
        let config = in_force.load().config.clone();
        let outcome = drain(&config, &self.stop, &mut workers, &self.spool, &mut signals).await;
        let _ = admin_stop.send(Phase::Deadline);
        if outcome == Outcome::Drained {
            tracing::info!("drained, nothing was cut short");
        } else {
            tracing::warn!("stopped before everything was finished");
        }
        let lost = self.spool.undelivered();
        if lost > 0 {
            tracing::error!(
                lost,
                "pulled messages that no caller took were held in memory and are gone; set spool.directory"
            );
            return Ok(Outcome::Lost);
        }
        Ok(outcome)
    }
}

fn facts(upstreams: &[Upstream], places: &[Place], started: SystemTime, configured: SystemTime) -> Facts {
    Facts {
        started,
        configured,
        listeners: places
            .iter()
            .map(|place| (place.name.clone(), place.config.upstream.clone()))
            .collect(),
        upstreams: upstreams
            .iter()
            .map(|upstream| (upstream.config.name.clone(), upstream.config.url.to_string()))
            .collect(),
    }
}

fn failed(part: &str) -> Outcome {
    tracing::error!("the {part} ended, which it never should; stopping");
    Outcome::Failed
}
