//! An upstream while the daemon runs: its token engine, and the way to it.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use tokio::task::{AbortHandle, JoinSet};

use super::{Means, StartError};
use crate::config::{self, ProxyRoute};
use crate::proxy::{self, Dependencies, ProxyConfigError};
use crate::tls::{Digest, Trusted};
use crate::token::{self, Refresher, Schedule, TokenEndpoint, TokenReader};

/// What keeps an upstream's token fresh, once it is started.
pub(super) struct Engine {
    refresher: Refresher<TokenEndpoint>,
    task: Task,
}

/// A started engine's task.
type Task = Arc<OnceLock<AbortHandle>>;

/// An upstream, as one configuration has it.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) config: config::Upstream,
    pub(super) tokens: TokenReader,
    pub(super) proxied: Arc<proxy::Upstream>,
    task: Task,
    client: ClientConfig,
    trusted: Digest,
    route: Option<ProxyRoute>,
}

impl Upstream {
    /// An upstream as the configuration has it now. What it had `before` and is still right is kept: its
    /// token and engine, its connections. An engine that comes with it is a new one.
    pub(super) fn new(
        config: &config::Upstream,
        before: Option<&Self>,
        means: &Means,
    ) -> Result<(Self, Option<Engine>), StartError> {
        let trusted = Trusted::load(config.ca_file.as_deref())?;
        let digest = trusted.digest();
        let before_trusts_the_same = before.filter(|before| before.trusted == digest);
        let client = match before_trusts_the_same {
            Some(before) => before.client.clone(),
            None => trusted.client(),
        };
        let route = config.proxy.route(&config.url).map_err(ProxyConfigError::from)?;
        let kept = before_trusts_the_same.filter(|before| before.config.fetches_like(config));
        let (tokens, task, engine) = if let Some(before) = kept {
            (before.tokens.clone(), before.task.clone(), None)
        } else {
            let (tokens, engine) = Engine::new(config, before, client.clone(), means);
            (tokens, engine.task.clone(), Some(engine))
        };
        let proxied = match kept.filter(|before| before.config == *config && before.route == route) {
            Some(before) => before.proxied.clone(),
            None => Arc::new(proxied(config, client.clone(), tokens.clone(), means)?),
        };
        let upstream = Self {
            config: config.clone(),
            tokens,
            proxied,
            task,
            client,
            trusted: digest,
            route,
        };
        Ok((upstream, engine))
    }

    /// Whether the other has the same token and engine.
    pub(super) fn shares_engine_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.task, &other.task)
    }

    /// Whether this is the upstream of an engine.
    pub(super) fn is_of(&self, engine: &Engine) -> bool {
        Arc::ptr_eq(&self.task, &engine.task)
    }

    /// Ends its engine. A token that it has serves to its end.
    pub(super) fn stop(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Engine {
    /// A new engine. A token of before that is as good serves until there is another.
    fn new(
        config: &config::Upstream,
        before: Option<&Upstream>,
        client: ClientConfig,
        means: &Means,
    ) -> (TokenReader, Self) {
        let (writer, reader) = token::cell(means.clock.clone());
        if let Some(before) = before.filter(|before| before.config.shares_tokens_with(config)) {
            writer.adopt(&before.tokens);
        }
        let (resolver, clock) = (means.resolver.clone(), means.clock.clone());
        let endpoint = TokenEndpoint::new(config.clone(), client, resolver, clock);
        let counted = means.metrics.upstream(&config.name);
        let engine = Self {
            refresher: Refresher::new(&config.name, endpoint, writer, Schedule::default(), counted),
            task: Task::default(),
        };
        (reader, engine)
    }

    /// Runs it among others, until its upstream is [stopped](Upstream::stop).
    pub(super) fn start(self, among: &mut JoinSet<()>) {
        let _ = self.task.set(among.spawn(self.refresher.run()));
    }
}

fn proxied(
    config: &config::Upstream,
    tls: ClientConfig,
    tokens: TokenReader,
    means: &Means,
) -> Result<proxy::Upstream, ProxyConfigError> {
    let dependencies = Dependencies {
        tls,
        resolver: means.resolver.clone(),
        tokens,
        budget: means.budget.clone(),
        spool: means.spool.clone(),
        metrics: means.metrics.clone(),
        stop: means.stop.clone(),
    };
    Ok(proxy::Upstream::new(config, &dependencies, means.workers)?)
}
