//! `bondgate check`: is the configuration right, and (`--live`) does everything that it names work?

use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use reqwest::redirect::Policy;

use super::{ConfigArgs, Exit, load, runtime, tell_faults};
use crate::config::{Config, Endpoint, Fault, Upstream};
use crate::daemon;
use crate::tls;
use crate::token::{Clock, TokenEndpoint, TokenSource as _};
use crate::upstream::{ResolveError, Resolver};

/// Read the configuration and name every fault with its line; exit code 0 means that it is right
#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Also try it: names, outbound proxy, TLS, clock, token, API. Takes no message off a queue
    #[arg(long)]
    live: bool,

    /// Show every value in force and where it comes from, secrets redacted
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let config = match load(args.config.file().as_deref()) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    if args.print {
        print_settings(&config);
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    let missing = missing(&config);
    if !missing.is_empty() {
        tell_faults("what the configuration names", &missing);
        return Ok(Exit::Configuration);
    }
    println!("the configuration is right");
    if args.live {
        return runtime()?.block_on(live(&config));
    }
    Ok(Exit::Done)
}

fn print_settings(config: &Config) {
    let width = config
        .settings
        .iter()
        .map(|setting| setting.key.to_string().len() + setting.value.len() + 3)
        .max()
        .unwrap_or(0);
    let width = width.min(72);
    for setting in &config.settings {
        let pair = format!("{} = {}", setting.key, setting.value);
        println!("{pair:width$}  # {}", setting.origin);
    }
}

/// What the configuration names and cannot be had or used: what a start would refuse, and the secrets,
/// which the daemon waits for and a check does not.
fn missing(config: &Config) -> Vec<Fault> {
    let mut faults = daemon::faults(config);
    faults.extend(daemon::missing_credentials(config));
    faults
}

/// Tries each upstream, a line a step, and stops at the first step that fails.
async fn live(config: &Config) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let resolver = Resolver::default();
    for upstream in &config.upstreams {
        println!("upstream {}:", upstream.name);
        if let Err(why) = walk(upstream, &resolver).await {
            println!("  FAILED  {why}");
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

async fn walk(upstream: &Upstream, resolver: &Resolver) -> Result<(), String> {
    let tls = tls::client(upstream.ca_file.as_deref());
    let tls = tls.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    for endpoint in [&upstream.token_url, &upstream.url] {
        resolve(upstream, endpoint, resolver).await?;
    }
    let skew = reach(upstream, &upstream.token_url, tls.clone(), resolver).await?;
    told(
        "clock",
        &match skew {
            None => "the identity service sends no Date to compare with".to_owned(),
            Some(skew) if skew > Duration::from_secs(30) => {
                return Err(format!(
                    "this machine's clock is {} s off the identity service's: tokens will seem to live longer or shorter; run NTP",
                    skew.as_secs()
                ));
            }
            Some(skew) => format!("within {} s of the identity service's", skew.as_secs().max(1)),
        },
    );
    let endpoint = TokenEndpoint::new(upstream.clone(), tls.clone(), resolver.clone(), Clock::default());
    let grant = endpoint.fetch().await.map_err(|error| error.to_string())?;
    told(
        "token",
        &match grant.lifetime.as_secs() {
            0 => {
                "granted in its last second: the identity service returns a token until it expires".to_owned()
            }
            seconds => format!("granted, lives for {seconds} s"),
        },
    );
    reach(upstream, &upstream.url, tls, resolver).await?;
    told("API", &format!("{} answers", upstream.url.authority()));
    Ok(())
}

async fn resolve(upstream: &Upstream, endpoint: &Endpoint, resolver: &Resolver) -> Result<(), String> {
    let host = endpoint.host();
    let route = upstream
        .proxy
        .route(endpoint)
        .map_err(|error| error.to_string())?;
    let name = match &route {
        None => host,
        Some(route) => route.uri.host().unwrap_or_default(),
    };
    let began = Instant::now();
    let found = resolver.addresses(name).await;
    let took = began.elapsed();
    let addresses = found.map_err(|error| match error {
        ResolveError::TimedOut(_) => format!("{error} (waited {} s): {DNS}", took.as_secs()),
        ResolveError::Failed { ref source, .. } => format!("{error} ({source}): {DNS}"),
    })?;
    let address = addresses[0].ip();
    let what = match &route {
        Some(_) => format!("{host} by way of the outbound proxy {name} ({address})"),
        None => format!("{host} is {address}"),
    };
    told("name", &what);
    if took > SLOW {
        let seconds = took.as_secs_f32();
        println!(
            "      warning: that took {seconds:.1} s; a name server in /etc/resolv.conf does not answer"
        );
    }
    Ok(())
}

const DNS: &str = "check DNS, or set proxy if the network has one";
/// How long one call may take, connecting included.
const LONGEST: Duration = Duration::from_secs(15);
/// What no name server takes that answers at all.
const SLOW: Duration = Duration::from_secs(2);

/// Any HTTP answer will do: it shows that TCP, the proxy and TLS work. Says how far the clocks differ.
async fn reach(
    upstream: &Upstream,
    endpoint: &Endpoint,
    tls: rustls::ClientConfig,
    resolver: &Resolver,
) -> Result<Option<Duration>, String> {
    let unusable = |error: reqwest::Error| error.without_url().to_string();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .http1_only()
        .no_proxy()
        .dns_resolver(resolver.clone())
        .connect_timeout(upstream.timeout.connect)
        .timeout(LONGEST);
    if let Some(route) = upstream
        .proxy
        .route(endpoint)
        .map_err(|error| error.to_string())?
    {
        let mut proxy = reqwest::Proxy::all(route.uri.to_string()).map_err(unusable)?;
        if let Some((user, password)) = route.credentials() {
            proxy = proxy.basic_auth(&user, &password);
        }
        builder = builder.proxy(proxy);
    }
    let scheme = if endpoint.is_https() { "https" } else { "http" };
    let url = format!("{scheme}://{}/", endpoint.authority());
    let response = builder.build().map_err(unusable)?.head(url).send().await;
    let response = response.map_err(|error| {
        let error = error.without_url();
        if tls::is_version_1(&error) {
            return format!(
                "{}: its certificate is {}; whoever runs it has to replace it by one of version 3",
                endpoint.authority(),
                tls::VERSION_1
            );
        }
        let error = anyhow::Error::new(error);
        format!(
            "cannot reach {}: {error:#}; behind a TLS-intercepting network its CA goes into ca_file",
            endpoint.authority()
        )
    })?;
    told(
        "TLS",
        &format!(
            "{} is reached and its certificate is trusted",
            endpoint.authority()
        ),
    );
    let date = response
        .headers()
        .get("date")
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Ok(date.map(|date| {
        let now = SystemTime::now();
        now.duration_since(date).unwrap_or_else(|error| error.duration())
    }))
}

fn told(step: &str, what: &str) {
    println!("  ok  {step:6} {what}");
}
