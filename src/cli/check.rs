//! `bondgate check`: checks the configuration, and with `--live` everything that it names.

use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::{ConfigArgs, Exit, load, runtime};
use crate::config::{Config, Endpoint, Upstream};
use crate::daemon;
use crate::tls;
use crate::token::{self, Clock, TokenEndpoint, TokenSource as _};
use crate::upstream::{Network, Resolver};

/// Check the configuration and print every error with its line; exit code 0 means that there is none
#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Also test DNS, outbound proxy, TLS, clock, token and API. Takes no message off a queue
    #[arg(long)]
    live: bool,

    /// Print every value and its source, secrets redacted
    #[arg(long)]
    print: bool,
}

const DNS_ADVICE: &str = "check DNS, or set proxy if the network has one";
/// The limit for one call, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A lookup that takes longer indicates a name server that does not respond.
const SLOW_LOOKUP: Duration = Duration::from_secs(2);
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(30);

pub(super) fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let loaded = load(args.config.file().as_deref());
    if let (true, Ok(config)) = (args.print, &loaded) {
        print_settings(config);
    }
    let (config, findings) = daemon::inspect(loaded);
    for warning in &findings.warnings {
        eprintln!("warning: {warning}");
    }
    findings.into_warnings()?;
    println!("the configuration is valid");
    match config.filter(|_| args.live) {
        Some(config) => runtime()?.block_on(check_live(&config)),
        None => Ok(Exit::Done),
    }
}

fn print_settings(config: &Config) {
    let settings = config.settings.iter();
    let pairs: Vec<_> = settings
        .map(|setting| (format!("{} = {}", setting.key, setting.value), &setting.origin))
        .collect();
    let width = pairs.iter().map(|(pair, _)| pair.len()).max().unwrap_or(0);
    let width = width.min(72);
    for (pair, origin) in pairs {
        println!("{pair:width$}  # {origin}");
    }
}

/// Tests each upstream up to the first step that fails, and prints a line for each step.
async fn check_live(config: &Config) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let resolver = Resolver::default();
    for upstream in &config.upstreams {
        println!("upstream {}:", upstream.name);
        if let Err(error) = check_upstream(upstream, &resolver).await {
            println!("  FAILED  {error:#}");
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

async fn check_upstream(upstream: &Upstream, resolver: &Resolver) -> anyhow::Result<()> {
    let tls = tls::client(upstream.ca_file.as_deref())?;
    for endpoint in [&upstream.token_url, &upstream.url] {
        resolve(upstream, endpoint, resolver).await?;
    }
    let skew = connect(upstream, &upstream.token_url, tls.clone(), resolver).await?;
    let clock = match skew.map(|skew| skew.as_secs()) {
        None => "the identity service sends no Date to compare with".to_owned(),
        Some(seconds) if seconds > MAX_CLOCK_SKEW.as_secs() => anyhow::bail!(
            "this machine's clock is {seconds} s off the identity service's, so the lifetime of tokens is computed \
             wrongly; run NTP"
        ),
        Some(seconds) => format!("within {} s of the identity service's", seconds.max(1)),
    };
    passed("clock", &clock);
    let endpoint = TokenEndpoint::new(upstream.clone(), network(tls.clone(), resolver), Clock::default());
    let token = match endpoint.fetch().await?.lifetime.as_secs() {
        0 => "granted in its last second, as the identity service reuses tokens".to_owned(),
        seconds => format!("granted, lifetime {seconds} s"),
    };
    passed("token", &token);
    connect(upstream, &upstream.url, tls, resolver).await?;
    passed("API", &format!("{} responds", upstream.url.authority()));
    Ok(())
}

fn network(tls: rustls::ClientConfig, resolver: &Resolver) -> Network {
    Network {
        resolver: resolver.clone(),
        ..Network::new(tls)
    }
}

async fn resolve(upstream: &Upstream, endpoint: &Endpoint, resolver: &Resolver) -> anyhow::Result<()> {
    let host = endpoint.host();
    let route = upstream.proxy.route(endpoint)?;
    let proxy = route.as_ref().map(|route| route.uri.host().unwrap_or_default());
    let started = Instant::now();
    let addresses = resolver.addresses(proxy.unwrap_or(host)).await;
    let took = started.elapsed();
    let addresses = addresses.map_err(|error| anyhow::anyhow!("{error}: {DNS_ADVICE}"))?;
    let address = addresses[0].ip();
    let name = match proxy {
        Some(proxy) => format!("{host} through the outbound proxy {proxy} ({address})"),
        None => format!("{host} is {address}"),
    };
    passed("name", &name);
    if took > SLOW_LOOKUP {
        let seconds = took.as_secs_f32();
        println!(
            "      warning: that took {seconds:.1} s; a name server in /etc/resolv.conf does not respond"
        );
    }
    Ok(())
}

/// Shows that TCP, the proxy and TLS work: any HTTP response does. Returns how far the clocks differ.
async fn connect(
    upstream: &Upstream,
    endpoint: &Endpoint,
    tls: rustls::ClientConfig,
    resolver: &Resolver,
) -> anyhow::Result<Option<Duration>> {
    // An error of reqwest shows the URL, which may hold a secret.
    let without_url = reqwest::Error::without_url;
    let route = upstream.proxy.route(endpoint)?;
    let client = token::http_client(upstream, network(tls, resolver), route).map_err(without_url)?;
    let scheme = if endpoint.is_https() { "https" } else { "http" };
    let authority = endpoint.authority();
    let request = client
        .head(format!("{scheme}://{authority}/"))
        .timeout(CALL_TIMEOUT);
    let response = request.send().await;
    let response = response.map_err(without_url).map_err(|error| {
        if let Some((_, problem)) = tls::handshake_problem(&error, "check", authority.as_str()) {
            return anyhow::Error::new(problem);
        }
        let error = anyhow::Error::new(error);
        anyhow::anyhow!(
            "cannot reach {authority}: {error:#}; if the network intercepts TLS, set ca_file to its CA"
        )
    })?;
    let trusted = format!("{authority} is reached and its certificate is trusted");
    passed("TLS", &trusted);
    let date = response.headers().get("date");
    let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Ok(date.map(|date| {
        let difference = SystemTime::now().duration_since(date);
        difference.unwrap_or_else(|error| error.duration())
    }))
}

fn passed(step: &str, result: &str) {
    println!("  ok  {step:6} {result}");
}
