//! What every configuration of one daemon shares, from its start to its end: sockets, spool, metrics and limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::routing::MethodRouter;

use crate::config::{Config, ListenAddress, ServerTls, Setting};
use crate::proxy::{InFlightLimit, ReplayBudget};
use crate::server::{ActiveSettings, Listener, ListenerSettings, Stopping};
use crate::spool::Spool;
use crate::telemetry::LastingProblems;
use crate::telemetry::activity::Activity;
use crate::telemetry::metrics::Metrics;
use crate::tls::{self, TlsServer};
use crate::token::Clock;
use crate::upstream::{RefusedLogin, Resolver};

/// The shared context.
pub(super) struct Context {
    pub(super) clock: Clock,
    pub(super) resolver: Resolver,
    pub(super) refused_login: RefusedLogin,
    pub(super) metrics: Arc<Metrics>,
    pub(super) activity: Arc<Activity>,
    /// The first fault of the last reload, until one succeeds.
    pub(super) rejected_reload: Arc<LastingProblems>,
    pub(super) in_flight: InFlightLimit,
    pub(super) replay: ReplayBudget,
    pub(super) spool: Spool,
    pub(super) stop: Stopping,
    pub(super) workers: usize,
    pub(super) started: SystemTime,
    /// The settings of the start: some of them hold until the end.
    pub(super) settings: Vec<Setting>,
    pub(super) listeners: Vec<BoundSocket>,
    pub(super) admin: BoundSocket,
}

/// A listener's sockets: what is known of them once they are bound, and what they serve.
pub(super) struct BoundSocket {
    /// The address as it was configured.
    pub(super) configured: ListenAddress,
    /// The mode and the group of a unix socket's file.
    pub(super) file: (u32, Option<String>),
    /// Its address with the bound port: `address` in the status document.
    pub(super) name: String,
    /// Names it in log and status; see [`Listener::label`].
    pub(super) label: String,
    pub(super) url: String,
    /// Each address that is bound, or the path of a unix socket.
    pub(super) bound: Vec<String>,
    /// None for a unix socket.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) is_local: bool,
    pub(super) is_tls: bool,
    /// One for each thread that accepts. Their labels and routers are empty until the first configuration is applied.
    pub(super) settings: Vec<ActiveSettings>,
}

impl Context {
    /// Binds the sockets and opens the spool. Also returns the sockets themselves, and the admin listener's.
    pub(super) fn new(
        config: &Config,
        clock: Clock,
        stop: Stopping,
    ) -> anyhow::Result<(Self, Vec<Listener>, Listener)> {
        let workers = match config.server.workers {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
            count => count,
        };
        let (address, tls) = (&config.admin.address, config.admin.tls.as_ref());
        let (admin_listener, mut admin) = bind(address, (0o660, None), tls, 1)?;
        admin.label = format!("admin {}", admin.label);
        let (mut bound, mut listeners) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            let file = (listener.mode, listener.group.clone());
            let tls = listener.tls.as_ref();
            let (listener, socket) = bind(&listener.address, file, tls, workers)?;
            bound.push(listener);
            listeners.push(socket);
        }
        let metrics = Metrics::new();
        let gauge = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
        metrics.connections_limit.set(gauge(config.limits.connections));
        metrics
            .requests_in_flight_limit
            .set(gauge(config.limits.in_flight));
        let context = Self {
            clock,
            resolver: Resolver::default(),
            refused_login: RefusedLogin::default(),
            in_flight: InFlightLimit::new(&config.limits),
            replay: ReplayBudget::default(),
            spool: Spool::open(&config.spool, metrics.clone())?,
            rejected_reload: Arc::default(),
            metrics,
            activity: Activity::new(),
            stop,
            workers,
            started: SystemTime::now(),
            settings: config.settings.clone(),
            listeners,
            admin,
        };
        Ok((context, bound, admin_listener))
    }
}

fn bind(
    address: &ListenAddress,
    file: (u32, Option<String>),
    tls: Option<&ServerTls>,
    threads: usize,
) -> anyhow::Result<(Listener, BoundSocket)> {
    let initial = ListenerSettings {
        label: Arc::default(),
        router: MethodRouter::new(),
        tls: tls.map(tls::server).transpose()?.map(Arc::new),
    };
    let listener = Listener::bind(address, file.0, file.1.as_deref(), tls.is_some())?;
    let socket = BoundSocket {
        configured: address.clone(),
        file,
        name: listener.name(),
        label: listener.label(),
        url: listener.url(),
        bound: listener.bound(),
        addresses: listener.addresses(),
        is_local: listener.is_local(),
        is_tls: tls.is_some(),
        settings: (0..threads)
            .map(|_| ActiveSettings::new(initial.clone()))
            .collect(),
    };
    Ok((listener, socket))
}

impl BoundSocket {
    /// Serves later requests with other routers and other TLS settings, and later handshakes with the latter.
    pub(super) fn serve(&self, routers: &[MethodRouter], tls: Option<&Arc<TlsServer>>) {
        let label: Arc<str> = self.label.as_str().into();
        for (active, router) in self.settings.iter().zip(routers) {
            active.replace(ListenerSettings {
                label: label.clone(),
                router: router.clone(),
                tls: tls.cloned(),
            });
        }
    }
}
