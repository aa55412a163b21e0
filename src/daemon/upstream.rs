//! An upstream as the active configuration has it: its token, its token task and its connections.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::tasks::Tasks;
use crate::config::{self, ProxyRoute};
use crate::proxy::{self, Dependencies};
use crate::tls::{Digest, Trusted};
use crate::token::{Refresher, TokenEndpoint, TokenReader};
use crate::upstream::{ApiStatus, Network, Resolver};

/// An upstream. Configurations in which it is the same share its parts.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) config: config::Upstream,
    pub(super) tokens: TokenReader,
    pub(super) api: ApiStatus,
    pub(super) proxied: Arc<proxy::Upstream>,
    token_task: Arc<TokenTask>,
    trusted: Digest,
    route: Option<ProxyRoute>,
}

impl Upstream {
    /// Builds an upstream. Unchanged parts of the previous one are kept: token and token task, connections.
    pub(super) fn build(
        config: &config::Upstream,
        previous: Option<&Self>,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let roots = Trusted::load(config.ca_file.as_deref())?;
        let (trusted, tls) = (roots.digest(), roots.client());
        let route = config.proxy.route(&config.url)?;
        let fetches_alike = |other: &&Self| other.trusted == trusted && other.config.fetches_like(config);
        let kept = previous.filter(fetches_alike);
        if let Some(same) = kept.filter(|kept| kept.config == *config && kept.route == route) {
            return Ok(same.clone());
        }
        let network = Network {
            tls,
            resolver: context.resolver.clone(),
            refused_login: context.refused_login.clone(),
        };
        let api = match previous.filter(|other| other.config.url == config.url) {
            Some(previous) => previous.api.clone(),
            None => ApiStatus::new(&config.url, context.metrics.upstream(&config.name)),
        };
        let (tokens, token_task) = if let Some(kept) = kept {
            (kept.tokens.clone(), kept.token_task.clone())
        } else {
            let clock = context.clock.clone();
            let endpoint = TokenEndpoint::new(config.clone(), network.clone(), clock.clone());
            let metrics = context.metrics.upstream(&config.name);
            // A token that is equally valid serves until there is a new one.
            let previous = previous.filter(|other| other.config.shares_tokens_with(config));
            let previous = previous.map(|other| &other.tokens);
            let (tokens, refresher) = Refresher::new(&config.name, endpoint, clock, metrics, previous);
            let token_task = TokenTask {
                pending: Mutex::new(Some(refresher)),
                running: OnceLock::new(),
            };
            (tokens, Arc::new(token_task))
        };
        let dependencies = Dependencies {
            network,
            api: api.clone(),
            tokens: tokens.clone(),
            budget: context.replay.clone(),
            spool: context.spool.clone(),
            metrics: context.metrics.clone(),
            activity: context.activity.clone(),
            stop: context.stop.clone(),
        };
        let proxied = proxy::Upstream::new(config, &dependencies, context.workers)?;
        Ok(Self {
            config: config.clone(),
            tokens,
            api,
            proxied: Arc::new(proxied),
            token_task,
            trusted,
            route,
        })
    }

    /// Starts the token task unless it runs already; returns whether it was started.
    pub(super) fn start(&self, tasks: &Tasks, resolver: &Resolver) -> bool {
        let task = &self.token_task;
        let Some(refresher) = task.pending.lock().take() else {
            return false;
        };
        // So that the first request does not wait for the name.
        let proxy = self.route.as_ref().and_then(|route| route.uri.host());
        let host = proxy.unwrap_or(self.config.url.host()).to_owned();
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.addresses(&host).await });
        let name = format!("token refresher of {}", self.config.name);
        let running = AbortOnDropHandle::new(tasks.spawn(name, refresher.run()));
        task.running.set(running).is_ok()
    }
}

/// The task that refreshes a token. It is cancelled when the last configuration that uses it is dropped; its token
/// serves until it expires.
struct TokenTask {
    pending: Mutex<Option<Refresher<TokenEndpoint>>>,
    running: OnceLock<AbortOnDropHandle<()>>,
}
