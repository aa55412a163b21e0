//! What a configuration has put in force, and what another one would.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;

use super::bound::judge_loop;
use super::contents::Contents;
use super::difference;
use super::judge::unreadable;
use super::upstream::{Engine, Upstream};
use super::{Means, StartError};
use crate::config::{self, Config, ServerTls, Setting};
use crate::proxy::{self, AuthorizationLayer};
use crate::server::{ActiveRouter, Listener, SharedTls};
use crate::tls;

/// What is in force. Only what hangs on it by an `Arc` of its own is replaced, the rest is made anew.
pub(super) struct InForce {
    pub(super) config: Config,
    pub(super) contents: Contents,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) places: Vec<Place>,
    pub(super) admin: AdminPlace,
    /// What was set at the start: some of it holds until the end.
    started: Arc<Vec<Setting>>,
}

/// A listener that is bound.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) config: config::Listener,
    pub(super) name: String,
    /// One for each worker.
    pub(super) routers: Vec<ActiveRouter>,
    authorization: AuthorizationLayer,
    addresses: Vec<SocketAddr>,
    is_local: bool,
    is_unix: bool,
    tls: Option<SharedTls>,
}

/// The admin listener, which is bound.
#[derive(Clone)]
pub(super) struct AdminPlace {
    config: config::Admin,
    pub(super) router: ActiveRouter,
    is_local: bool,
    tls: Option<SharedTls>,
}

/// What takes the place of what is in force, made but not used: up to here nothing has changed.
pub(super) struct Next {
    pub(super) in_force: InForce,
    /// New engines.
    pub(super) engines: Vec<Engine>,
    pub(super) routers: Vec<(ActiveRouter, Router)>,
    pub(super) tls: Vec<(SharedTls, ServerConfig)>,
    /// What changed, by key.
    pub(super) changed: Vec<String>,
    /// What takes a restart, by key, with what becomes of it until then.
    pub(super) restarts: Vec<String>,
}

impl Place {
    pub(super) fn new(
        config: &config::Listener,
        bound: &Listener,
        authorization: AuthorizationLayer,
        routers: Vec<Router>,
    ) -> Self {
        Self {
            config: config.clone(),
            name: bound.name(),
            routers: routers.into_iter().map(ActiveRouter::new).collect(),
            authorization,
            addresses: bound.addresses(),
            is_local: bound.is_local(),
            is_unix: bound.is_unix(),
            tls: bound.tls().cloned(),
        }
    }
}

impl AdminPlace {
    pub(super) fn new(config: &config::Admin, bound: &Listener, router: ActiveRouter) -> Self {
        Self {
            config: config.clone(),
            router,
            is_local: bound.is_local(),
            tls: bound.tls().cloned(),
        }
    }

    pub(super) fn config(&self) -> &config::Admin {
        &self.config
    }
}

impl InForce {
    pub(super) fn new(
        config: Config,
        contents: Contents,
        upstreams: Vec<Upstream>,
        places: Vec<Place>,
        admin: AdminPlace,
    ) -> Self {
        Self {
            started: Arc::new(config.settings.clone()),
            contents,
            config,
            upstreams,
            places,
            admin,
        }
    }

    /// What a configuration would put in force, or every reason why it cannot be.
    pub(super) fn next(
        &self,
        config: Config,
        contents: Contents,
        means: &Means,
    ) -> Result<Next, Vec<String>> {
        let mut plan = Plan {
            before: self,
            means,
            contents: &contents,
            upstreams: Vec::new(),
            engines: Vec::new(),
            routers: Vec::new(),
            tls: Vec::new(),
            restarts: Vec::new(),
            faults: Vec::new(),
        };
        plan.upstreams(&config.upstreams);
        let places = plan.places(&config.listeners);
        let admin = plan.admin(&config.admin);
        for place in &self.places {
            if let Err(error) = judge_loop(&place.addresses, &config.upstreams) {
                plan.fault("upstream", error);
            }
        }
        if !plan.faults.is_empty() {
            return Err(plan.faults);
        }
        let mut changed = difference::changed(&self.config.settings, &config.settings);
        changed.retain(|key| !difference::is_fixed(key));
        changed.extend(contents.changed_keys(&config, &self.contents));
        // What no key shows: a secret that is inline, the system's own certificates.
        let is_new = |upstream: &&Upstream| plan.engines.iter().any(|engine| upstream.is_of(engine));
        for upstream in plan.upstreams.iter().filter(is_new) {
            let name = format!("upstream.{}", upstream.config.name);
            if !changed.iter().any(|key| key.starts_with(&format!("{name}."))) {
                changed.push(name);
            }
        }
        let fixed = difference::changed(&self.started, &config.settings);
        let fixed = fixed.into_iter().filter(|key| difference::is_fixed(key));
        let mut restarts: Vec<_> = fixed.map(|key| format!("{key} is as at the start")).collect();
        restarts.append(&mut plan.restarts);
        Ok(Next {
            engines: plan.engines,
            routers: plan.routers,
            tls: plan.tls,
            changed,
            restarts,
            in_force: Self {
                started: self.started.clone(),
                upstreams: plan.upstreams,
                config,
                contents,
                places,
                admin,
            },
        })
    }

    fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.config.name == name)
    }
}

/// A [`Next`] while it is made.
struct Plan<'a> {
    before: &'a InForce,
    means: &'a Means,
    contents: &'a Contents,
    upstreams: Vec<Upstream>,
    engines: Vec<Engine>,
    routers: Vec<(ActiveRouter, Router)>,
    tls: Vec<(SharedTls, ServerConfig)>,
    restarts: Vec<String>,
    faults: Vec<String>,
}

impl Plan<'_> {
    fn upstreams(&mut self, configs: &[config::Upstream]) {
        for config in configs {
            let of = |key: &str| format!("upstream.{}{key}", config.name);
            match Upstream::new(config, self.before.upstream(&config.name), self.means) {
                Ok((upstream, engine)) => {
                    if let Some(engine) = engine {
                        for (key, error) in unreadable(config) {
                            self.fault(&of(&format!(".{key}")), error);
                        }
                        self.engines.push(engine);
                    }
                    self.upstreams.push(upstream);
                }
                Err(error) => self.fault(&of(""), error),
            }
        }
    }

    fn places(&mut self, configs: &[config::Listener]) -> Vec<Place> {
        let before = self.before;
        let addresses: Vec<_> = before.places.iter().map(|place| &place.config.address).collect();
        let (found, new) = difference::matched(&addresses, configs);
        for at in new {
            let address = &configs[at].address;
            self.restarts
                .push(format!("listener[{at}] is new: {address} is not listened on"));
        }
        let pairs = before.places.iter().zip(found);
        let places = pairs.map(|(place, at)| match at.map(|at| (at, &configs[at])) {
            Some((at, config)) if config.access.tls.is_some() == place.tls.is_some() => {
                self.place(place, &format!("listener[{at}]"), config)
            }
            Some((at, _)) => {
                let what = "begins or ceases to speak TLS: this listener is as it was";
                self.restarts.push(format!("listener[{at}].tls {what}"));
                self.left_alone(place)
            }
            None => {
                let what = "is gone: it is listened on as before";
                self.restarts
                    .push(format!("the listener at {} {what}", place.name));
                self.left_alone(place)
            }
        });
        places.collect()
    }

    fn place(&mut self, place: &Place, key: &str, config: &config::Listener) -> Place {
        if config.mode != place.config.mode || config.group != place.config.group {
            self.restarts
                .push(format!("{key}.mode and group are as at the start"));
        }
        if !place.is_local && !config.access.is_gated() {
            self.fault(key, StartError::Exposed(config.address.clone()));
        }
        if place.is_unix && config.access.is_of_tcp() {
            self.fault(key, StartError::NotTcp(config.address.clone()));
        }
        // An upstream with a fault is missing here, and has been told.
        let mut authorization = place.authorization.clone();
        if let Some(at) = self.position(&config.upstream) {
            match AuthorizationLayer::new(config, &self.upstreams[at].config, &self.means.admin) {
                Ok(now) => authorization = now,
                Err(error) => self.fault(&format!("{key}.keys"), error),
            }
            self.route(place, config, &authorization, at);
        }
        let before = place.config.access.tls.as_ref();
        self.tls(key, place.tls.as_ref(), config.access.tls.as_ref(), before);
        Place {
            config: config::Listener {
                mode: place.config.mode,
                group: place.config.group.clone(),
                ..config.clone()
            },
            authorization,
            ..place.clone()
        }
    }

    fn route(
        &mut self,
        place: &Place,
        config: &config::Listener,
        authorization: &AuthorizationLayer,
        at: usize,
    ) {
        let upstream = &self.upstreams[at].proxied;
        let routers = proxy::routers(config, authorization, &self.means.in_flight, upstream);
        self.routers.extend(place.routers.iter().cloned().zip(routers));
    }

    /// A listener that goes on as before, with its upstream as it is now, or as it was where it is gone.
    fn left_alone(&mut self, place: &Place) -> Place {
        let name = &place.config.upstream;
        if let Some(at) = self.position(name) {
            self.route(place, &place.config, &place.authorization, at);
        } else if let Some(upstream) = self.before.upstream(name) {
            self.upstreams.push(upstream.clone());
        }
        place.clone()
    }

    fn admin(&mut self, config: &config::Admin) -> AdminPlace {
        let place = &self.before.admin;
        if config.address != place.config.address {
            self.restarts
                .push("admin.address: all of [admin] is as it was".to_owned());
            return place.clone();
        }
        if config.tls.is_some() != place.tls.is_some() {
            let what = "begins or ceases to speak TLS: all of [admin] is as it was";
            self.restarts.push(format!("admin.tls {what}"));
            return place.clone();
        }
        if !place.is_local && !config.is_gated() {
            self.fault("admin", StartError::Exposed(config.address.clone()));
        }
        self.tls(
            "admin",
            place.tls.as_ref(),
            config.tls.as_ref(),
            place.config.tls.as_ref(),
        );
        AdminPlace {
            config: config.clone(),
            ..place.clone()
        }
    }

    /// Kept where it is the same: sessions can be resumed.
    fn tls(
        &mut self,
        key: &str,
        shared: Option<&SharedTls>,
        now: Option<&ServerTls>,
        before: Option<&ServerTls>,
    ) {
        let (Some(shared), Some(tls)) = (shared, now) else {
            return;
        };
        let is_changed = |path| self.contents.differs_at(path, &self.before.contents);
        if Some(tls) == before && !tls.files().any(|(_, path)| is_changed(path)) {
            return;
        }
        match tls::server(tls) {
            Ok(config) => self.tls.push((shared.clone(), config)),
            Err(error) => self.fault(&format!("{key}.tls"), error),
        }
    }

    fn position(&self, upstream: &str) -> Option<usize> {
        self.upstreams
            .iter()
            .position(|known| known.config.name == upstream)
    }

    fn fault(&mut self, key: &str, error: impl std::error::Error + Send + Sync + 'static) {
        self.faults
            .push(format!("{key}: {:#}", anyhow::Error::new(error)));
    }
}
