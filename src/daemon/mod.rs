//! The application: binds everything, runs the parts as named tasks, and stops them in order.

mod judge;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Facts};
use crate::config::{Config, Fault, ListenAddress, PAGES_MAY_PULL};
use crate::proxy::{InFlight, Parts, Proxy, ProxyConfigError, ReplayBudget};
use crate::server::{self, Crowd, Listener, Phase, Shared, UnixAccess};
use crate::spool::{self, Spool};
use crate::supervisor::{Pulse, Pulses, Supervisor};
use crate::telemetry::metrics::Metrics;
use crate::tls::{self, TlsError};
use crate::token::{self, Clock, Refresher, Schedule, TokenEndpoint};

pub use self::judge::{faults, missing_credentials};
pub use crate::admin::Readiness;
pub use crate::server::BindError;

/// A daemon with its sockets bound and nothing running.
pub struct Daemon {
    config: Config,
    listeners: Vec<Listener>,
    admin: Listener,
    proxies: Vec<Proxy>,
    refreshers: Vec<Refresher<TokenEndpoint>>,
    readiness: Readiness,
    spool: Spool,
    shared: Shared,
    stop: watch::Sender<Phase>,
    supervisor: Arc<Supervisor>,
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

/// A stop is asked for once, and a second time to have it now.
pub trait StopSignals {
    /// Resolves at the next signal.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// How long own answers at the deadline may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Daemon {
    /// Binds every listener and judges what the configuration names; tokens live by `clock`.
    pub fn bind(mut config: Config, clock: &Clock) -> Result<Self, StartError> {
        let faults = faults(&config);
        if !faults.is_empty() {
            return Err(StartError::Unusable(faults));
        }
        let metrics = Metrics::new();
        let (stop, stopping) = server::stopping();
        let in_flight = InFlight::new(&config.limits);
        let budget = ReplayBudget::default();
        let spool = Spool::open(&config.spool, metrics.clone())?;
        let mut refreshers = Vec::new();
        let mut readers = Vec::new();
        let mut clients = Vec::new();
        for upstream in &config.upstreams {
            let client = tls::client(upstream.ca_file.as_deref())?;
            let (writer, reader) = token::cell(clock.clone());
            let endpoint = TokenEndpoint::new(upstream.clone(), client.clone(), clock.clone());
            let counted = metrics.upstream(&upstream.name);
            refreshers.push(Refresher::new(
                &upstream.name,
                endpoint,
                writer,
                Schedule::default(),
                counted,
            ));
            readers.push((upstream.name.clone(), reader));
            clients.push(client);
        }
        let tls = config.admin.tls.as_ref().map(tls::server).transpose()?;
        let admin = Listener::bind(
            &config.admin.address,
            &UnixAccess {
                mode: 0o660,
                group: None,
            },
            tls,
        )?;
        judge_exposure(&admin, &config.admin.address, config.admin.is_gated())?;
        judge_loop(&admin, &config)?;
        let mut listeners = Vec::new();
        let mut proxies = Vec::new();
        let mut warnings = Vec::new();
        for (number, listener) in config.listeners.iter().enumerate() {
            let at = config
                .upstreams
                .iter()
                .position(|upstream| upstream.name == listener.upstream);
            let at = at.expect("the configuration was read with this upstream");
            let parts = Parts {
                tls: clients[at].clone(),
                tokens: readers[at].1.clone(),
                in_flight: in_flight.clone(),
                budget: budget.clone(),
                spool: spool.clone(),
                metrics: metrics.clone(),
                admin: admin.url(),
                stop: stopping.clone(),
            };
            proxies.push(Proxy::new(listener, &config.upstreams[at], parts)?);
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
            judge_loop(&bound, &config)?;
            let is_inherited = matches!(listener.address, ListenAddress::Systemd(_));
            if is_inherited && !bound.is_local() && listener.lets_pages_pull(&config.upstreams[at]) {
                warnings.push(format!("listener[{number}].allow: {PAGES_MAY_PULL}"));
            }
            listeners.push(bound);
        }
        let shared = Shared {
            limits: config.limits,
            connections: Crowd::new(config.limits.connections, config.limits.refusals),
            metrics,
            stop: stopping.clone(),
        };
        let readiness = Readiness::new(readers, stopping);
        config.warnings.append(&mut warnings);
        Ok(Self {
            config,
            listeners,
            admin,
            proxies,
            refreshers,
            readiness,
            spool,
            shared,
            stop,
            supervisor: Arc::default(),
        })
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

    /// Runs until a stop is asked for and has drained. Runs on the control thread: its runtime
    /// refreshes tokens and answers the admin listener, whatever load the workers have.
    pub async fn run(self, mut signals: impl StopSignals) -> std::io::Result<Outcome> {
        for warning in &self.config.warnings {
            tracing::warn!("{warning}");
        }
        self.spool.start(tokio::runtime::Handle::current());
        let mut parts = JoinSet::new();
        for refresher in self.refreshers {
            parts.spawn(async move {
                refresher.run().await;
                "token refresher"
            });
        }
        let facts = Facts {
            started: SystemTime::now(),
            listeners: self
                .listeners
                .iter()
                .map(Listener::name)
                .zip(
                    self.config
                        .listeners
                        .iter()
                        .map(|listener| listener.upstream.clone()),
                )
                .collect(),
            upstreams: self
                .config
                .upstreams
                .iter()
                .map(|upstream| (upstream.name.clone(), upstream.url.to_string()))
                .collect(),
        };
        // Health is answered to the end: the admin listener has a stop of its own.
        let (admin_stop, admin_stopping) = server::stopping();
        let admin_app = admin::router(
            &self.config.admin,
            self.readiness.clone(),
            facts,
            self.shared.metrics.clone(),
        );
        let admin_shared = Shared {
            stop: admin_stopping,
            connections: Crowd::new(self.config.admin.connections, self.config.limits.refusals),
            ..self.shared.clone()
        };
        let admin_listener = self.admin;
        tracing::info!("status, health and metrics are at {}", admin_listener.url());
        parts.spawn(async move {
            if let Err(error) = server::serve(&admin_listener, admin_app, admin_shared).await {
                tracing::error!(%error, "the admin listener failed");
            }
            "admin listener"
        });

        let mut pulses = Pulses::default();
        let every = self.supervisor.every();
        let mut workers = start_workers(&self.config, &self.listeners, &self.proxies, &self.shared, || {
            every.map(|every| (pulses.add(), every / 2))
        })?;
        if let Some(every) = every {
            parts.spawn(watchdog(self.supervisor.clone(), pulses, every));
        }
        for (listener, config) in self.listeners.iter().zip(&self.config.listeners) {
            tracing::info!(upstream = config.upstream, "listening on {}", listener.url());
        }
        // Only the workers' own sockets are left: they close when the workers stop to accept.
        drop(self.listeners);
        self.supervisor.ready();

        tokio::select! {
            () = signals.next() => {}
            Some(ended) = parts.join_next() => return Ok(failed(ended.unwrap_or("a part"))),
            Some(_) = workers.join_next() => return Ok(failed("worker")),
        }
        self.supervisor.stopping();
        let outcome = drain(&self.config, &self.stop, &mut workers, &self.spool, &mut signals).await;
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

/// An inherited socket is judged by the address that it turns out to have.
fn judge_exposure(bound: &Listener, address: &ListenAddress, is_gated: bool) -> Result<(), StartError> {
    if bound.is_local() || is_gated {
        Ok(())
    } else {
        Err(StartError::Exposed(address.clone()))
    }
}

/// Which port it is, and what was inherited, is known only now.
fn judge_loop(bound: &Listener, config: &Config) -> Result<(), StartError> {
    for address in bound.addresses().into_iter().map(ListenAddress::Socket) {
        for upstream in &config.upstreams {
            for (key, endpoint) in [("url", &upstream.url), ("token_url", &upstream.token_url)] {
                if address.is_reached_by(endpoint) {
                    let upstream = upstream.name.clone();
                    return Err(StartError::Loop {
                        upstream,
                        key,
                        address,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Says that the daemon lives, from the control thread, for as long as every worker gives a sign of it.
async fn watchdog(supervisor: Arc<Supervisor>, mut pulses: Pulses, every: Duration) -> &'static str {
    loop {
        tokio::time::sleep(every).await;
        if pulses.are_all_there() {
            supervisor.alive();
        } else {
            tracing::error!("a worker stands still, and the watchdog is not told that all is well");
        }
    }
}

type Workers = JoinSet<()>;

fn start_workers(
    config: &Config,
    listeners: &[Listener],
    proxies: &[Proxy],
    shared: &Shared,
    mut pulse: impl FnMut() -> Option<(Pulse, Duration)>,
) -> std::io::Result<Workers> {
    let cores = || {
        std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(4)
    };
    let count = if config.server.workers == 0 {
        cores()
    } else {
        config.server.workers
    };
    let mut workers = JoinSet::new();
    for number in 0..count {
        let (proxies, pulse) = (proxies.to_vec(), pulse());
        let make_app: server::MakeApp = Box::new(move || {
            if let Some((pulse, every)) = pulse {
                tokio::spawn(pulse.beat(every));
            }
            proxies
                .iter()
                .map(|proxy| proxy.router().map_err(std::io::Error::other))
                .collect()
        });
        let thread = server::start(number, listeners, make_app, shared.clone())?;
        workers.spawn_blocking(move || match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a worker failed"),
            Err(_) => tracing::error!("a worker ran into a bug in bondgate; please report it"),
        });
    }
    Ok(workers)
}

fn failed(part: &str) -> Outcome {
    tracing::error!("the {part} ended, which it never should; stopping");
    Outcome::Failed
}

/// Callers are told, then nothing new is accepted, then what is left gets its answer.
async fn drain(
    config: &Config,
    stop: &watch::Sender<Phase>,
    workers: &mut Workers,
    spool: &Spool,
    signals: &mut impl StopSignals,
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
        () = signals.next() => false,
    };
    if is_drained {
        return Outcome::Drained;
    }
    stop.send_replace(Phase::Deadline);
    let _ = tokio::time::timeout(LAST_WORDS, async { while workers.join_next().await.is_some() {} }).await;
    Outcome::Forced
}
