//! The active configuration: a configuration, and everything that was built from it.
//!
//! [`build`] alone makes one, at the start and at a reload. It changes nothing that is in use: its result is applied as
//! a whole, or dropped.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use axum::routing::MethodRouter;

use super::context::{BoundSocket, Context};
use super::file_digests::FileDigests;
use super::reloadable_keys::{changed_keys, is_fixed, match_listeners};
use super::upstream::Upstream;
use crate::admin::{CertificateFacts, Facts, ListenerFacts, UpstreamFacts};
use crate::config::{self, Config, Fault, KeyPath, ListenAddress, Origin, ServerTls};
use crate::problems::configuration;
use crate::proxy::{self, Authorization};
use crate::tls::{self, TlsServer};
use crate::token::TokenReader;

/// A configuration, and what was built from it.
pub(super) struct ActiveConfig {
    pub(super) config: Config,
    /// When the configuration was read.
    pub(super) loaded: SystemTime,
    pub(super) digests: FileDigests,
    pub(super) upstreams: Vec<Upstream>,
    /// One for each bound socket, in the same order.
    pub(super) listeners: Vec<ActiveListener>,
    pub(super) admin: config::Admin,
    pub(super) admin_tls: Option<Arc<TlsServer>>,
    /// The certificates in the files of listeners and upstreams.
    certificates: Vec<CertificateFacts>,
    /// Changes that need a restart, and are not applied before.
    pub(super) restarts: Vec<String>,
    /// What is valid, and probably not meant.
    pub(super) warnings: Vec<Fault>,
}

/// What a bound socket serves.
#[derive(Clone)]
pub(super) struct ActiveListener {
    pub(super) config: config::Listener,
    /// One for each worker.
    pub(super) routers: Vec<MethodRouter>,
    pub(super) tls: Option<Arc<TlsServer>>,
    authorization: Arc<Authorization>,
}

/// Builds an active configuration from a valid configuration; `previous` is `None` at the start. Unchanged parts of
/// `previous` are kept, above all tokens and connections. `warnings` are those of the validation.
pub(super) fn build(
    config: Config,
    mut warnings: Vec<Fault>,
    digests: FileDigests,
    previous: Option<&ActiveConfig>,
    context: &Context,
) -> anyhow::Result<ActiveConfig> {
    check_loops(&config, context)?;
    let mut restarts = changed_keys(&context.settings, &config.settings);
    restarts.retain(|key| is_fixed(key));
    warnings.splice(..0, config.warnings.iter().cloned());
    let mut next = ActiveConfig {
        admin: config.admin.clone(),
        admin_tls: None,
        certificates: Vec::new(),
        upstreams: Vec::new(),
        listeners: Vec::new(),
        config,
        loaded: SystemTime::now(),
        digests,
        restarts,
        warnings,
    };
    next.build_upstreams(previous, context)?;
    next.build_listeners(previous, context)?;
    next.build_admin(previous, context)?;
    next.certificates = certificates(&next, context);
    Ok(next)
}

impl ActiveConfig {
    /// Each upstream's token, by the upstream's name.
    pub(super) fn tokens(&self) -> Vec<(String, TokenReader)> {
        let token = |upstream: &Upstream| (upstream.config.name.clone(), upstream.tokens.clone());
        self.upstreams.iter().map(token).collect()
    }

    /// The upstreams that a listener serves.
    pub(super) fn served_upstreams(&self) -> Vec<config::Upstream> {
        let upstreams = self.upstreams.iter().map(|upstream| upstream.config.clone());
        let is_served = |name: &str| {
            self.listeners
                .iter()
                .any(|listener| listener.config.upstream == name)
        };
        upstreams.filter(|upstream| is_served(&upstream.name)).collect()
    }

    /// What the status page shows of it.
    pub(super) fn facts(&self, context: &Context) -> Facts {
        let listener = |(socket, listener): (&BoundSocket, &ActiveListener)| ListenerFacts {
            address: socket.name.clone(),
            configured: socket.configured.to_string(),
            bound: socket.bound.clone(),
            upstream: listener.config.upstream.clone(),
            access: listener.config.access_control(),
            is_local: socket.is_local,
            is_tls: socket.is_tls,
        };
        let upstream = |upstream: &Upstream| UpstreamFacts {
            name: upstream.config.name.clone(),
            url: upstream.config.url.to_string(),
            api: upstream.api.clone(),
        };
        Facts {
            started: context.started,
            configured: self.loaded,
            configuration: None,
            rejected_reload: context.rejected_reload.clone(),
            listeners: context
                .listeners
                .iter()
                .zip(&self.listeners)
                .map(listener)
                .collect(),
            certificates: self.certificates.clone(),
            upstreams: self.upstreams.iter().map(upstream).collect(),
        }
    }

    fn build_upstreams(&mut self, previous: Option<&ActiveConfig>, context: &Context) -> anyhow::Result<()> {
        for config in &self.config.upstreams {
            let previous = previous.and_then(|active| find(&active.upstreams, &config.name));
            let upstream = Upstream::build(config, previous, context);
            self.upstreams
                .push(upstream.with_context(|| format!("upstream.{}", config.name))?);
        }
        Ok(())
    }

    fn build_listeners(&mut self, previous: Option<&ActiveConfig>, context: &Context) -> anyhow::Result<()> {
        let configs = self.config.listeners.clone();
        let bound: Vec<_> = context
            .listeners
            .iter()
            .map(|socket| &socket.configured)
            .collect();
        let (matched, new) = match_listeners(&bound, &configs);
        let is_new = |at: usize| format!("listener[{at}] is new: {} is not bound", configs[at].address);
        self.restarts.extend(new.into_iter().map(is_new));
        for (number, (socket, at)) in context.listeners.iter().zip(matched).enumerate() {
            let applicable = at.filter(|at| configs[*at].tls.is_some() == socket.is_tls);
            let listener = match (applicable, previous) {
                (Some(at), _) => {
                    self.build_listener(&format!("listener[{at}]"), &configs[at], socket, context)?
                }
                (None, Some(previous)) => {
                    self.restarts.push(match at {
                        Some(at) => format!("listener[{at}].tls is turned on or off"),
                        None => format!("the listener at {} is removed: it still listens", socket.name),
                    });
                    self.keep_listener(&previous.listeners[number], socket, previous, context)
                }
                (None, None) => bail!("{} is not configured", socket.configured),
            };
            self.listeners.push(listener);
        }
        Ok(())
    }

    fn build_listener(
        &mut self,
        key: &str,
        config: &config::Listener,
        socket: &BoundSocket,
        context: &Context,
    ) -> anyhow::Result<ActiveListener> {
        if (config.mode, &config.group) != (socket.file.0, &socket.file.1) {
            self.restarts.push(format!("{key}.mode and group"));
        }
        check_exposure(key, socket, config.is_gated())?;
        ensure!(
            !socket.addresses.is_empty() || config.tcp_keys().iter().all(|(_, is_set)| !is_set),
            "{key}.address: {} was handed over as a unix socket, where allow, trusted_proxies and tls have no effect; \
             leave them out, or let systemd listen on TCP",
            socket.configured
        );
        let upstream = find(&self.upstreams, &config.upstream).context("the upstream is missing")?;
        let is_inherited = matches!(config.address, ListenAddress::Systemd(_));
        let mut warn = |name: &str, problem| {
            let (origin, key) = (Origin::Default, KeyPath::from(key).key(name));
            self.warnings.push(Fault { origin, key, problem });
        };
        if is_inherited && !socket.is_local && config.lets_pages_pull(&upstream.config) {
            warn("allow", configuration::pages_may_pull());
        }
        if is_inherited && !socket.is_local && config.hosts.is_empty() {
            warn("hosts", config::without_hosts(&config.address));
        }
        let authorization = Authorization::new(config, &upstream.config, &context.admin.url);
        let authorization = Arc::new(authorization.with_context(|| format!("{key}.keys"))?);
        Ok(ActiveListener {
            routers: proxy::routers(
                config,
                &socket.label,
                &authorization,
                &context.in_flight,
                &upstream.proxied,
            ),
            tls: build_tls(config.tls.as_ref())?,
            config: config.clone(),
            authorization,
        })
    }

    /// An unchanged listener. Its upstream may have changed; where that was removed, the previous one stays, too.
    fn keep_listener(
        &mut self,
        listener: &ActiveListener,
        socket: &BoundSocket,
        previous: &ActiveConfig,
        context: &Context,
    ) -> ActiveListener {
        let (config, in_flight) = (&listener.config, &context.in_flight);
        let Some(upstream) = find(&self.upstreams, &config.upstream) else {
            let upstream = find(&previous.upstreams, &config.upstream).cloned();
            self.upstreams.extend(upstream);
            return listener.clone();
        };
        ActiveListener {
            routers: proxy::routers(
                config,
                &socket.label,
                &listener.authorization,
                in_flight,
                &upstream.proxied,
            ),
            ..listener.clone()
        }
    }

    fn build_admin(&mut self, previous: Option<&ActiveConfig>, context: &Context) -> anyhow::Result<()> {
        let (config, socket) = (&self.config.admin, &context.admin);
        let is_applicable = config.address == socket.configured && config.tls.is_some() == socket.is_tls;
        if let (false, Some(previous)) = (is_applicable, previous) {
            self.restarts
                .push("admin.address or admin.tls: [admin] is unchanged".to_owned());
            (self.admin, self.admin_tls) = (previous.admin.clone(), previous.admin_tls.clone());
            return Ok(());
        }
        check_exposure("admin", socket, config.is_gated())?;
        self.admin_tls = build_tls(config.tls.as_ref())?;
        Ok(())
    }
}

/// The certificates in the files that a configuration names.
fn certificates(active: &ActiveConfig, context: &Context) -> Vec<CertificateFacts> {
    let mut all = Vec::new();
    let mut add = |of: String, file: &Path, are_authorities: bool| {
        let found = tls::file_certificates(file).into_iter();
        all.extend(found.map(|certificate| CertificateFacts {
            of: of.clone(),
            file: file.to_owned(),
            is_authority: are_authorities,
            certificate,
        }));
    };
    let listeners = context.listeners.iter().zip(&active.listeners);
    let listeners =
        listeners.map(|(socket, listener)| (format!("listener {}", socket.label), &listener.config.tls));
    for (of, tls) in listeners.chain([("admin".to_owned(), &active.admin.tls)]) {
        if let Some(tls) = tls {
            add(of.clone(), &tls.certificate_file, false);
            if let Some(file) = &tls.client_ca_file {
                add(format!("{of}, client certificates"), file, true);
            }
        }
    }
    for upstream in &active.upstreams {
        if let Some(file) = &upstream.config.ca_file {
            add(format!("upstream {}, ca_file", upstream.config.name), file, true);
        }
    }
    all
}

/// The upstream with this name.
fn find<'a>(upstreams: &'a [Upstream], name: &str) -> Option<&'a Upstream> {
    upstreams.iter().find(|upstream| upstream.config.name == name)
}

/// Inherited sockets, and ports that the system chose, are known only once they are bound.
fn check_loops(config: &Config, context: &Context) -> anyhow::Result<()> {
    let sockets = context.listeners.iter().chain([&context.admin]);
    for address in sockets.flat_map(|socket| &socket.addresses) {
        let address = ListenAddress::Socket(*address);
        let mut loops = config
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.loops(&address));
        if let Some((key, problem)) = loops.next() {
            bail!("{key}: {problem}");
        }
    }
    Ok(())
}

fn build_tls(tls: Option<&ServerTls>) -> anyhow::Result<Option<Arc<TlsServer>>> {
    Ok(tls.map(tls::server).transpose()?.map(Arc::new))
}

/// An inherited socket may have an address for which the configuration requires access control.
fn check_exposure(key: &str, socket: &BoundSocket, is_gated: bool) -> anyhow::Result<()> {
    ensure!(
        socket.is_local || is_gated,
        "{key}.address: {} was handed over on an address that other machines can reach, without access control; set \
         allow, keys or tls.client_ca_file, or let systemd listen on 127.0.0.1",
        socket.configured
    );
    Ok(())
}
