//! `bondgate demo`: the simulator and the daemon in one process, for a first look.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::run::{DaemonSignals, exit, start_failed};
use super::{Exit, runtime};
use crate::config::{Config, ConfigError, ListenAddress};
use crate::daemon::{Daemon, Readiness, StartError};
use crate::platform::signals::EarlySignals;
use crate::simulator::{Handle, Options, Simulator};
use crate::telemetry;
use crate::token::Clock;

/// The simulator and the daemon in one process: no credentials, no network; prints the curl lines to try
#[derive(Args)]
#[command(after_help = "Nothing here reaches Cisco. Ctrl-C ends it.")]
pub(super) struct DemoArgs {
    /// Where to listen for callers
    #[arg(long, value_name = "ADDRESS", default_value = "localhost:8080")]
    listen: ListenAddress,

    /// Networks of callers beside this machine, where it listens for others too (in a container, say)
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow: Vec<String>,
}

/// The daemon's configuration, but for the places that are known only at the start.
const CONFIG: &str = include_str!("../../config/demo.toml");

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    if !args.listen.is_local() && args.allow.is_empty() {
        eprintln!(
            "bondgate: {} can be reached from other machines, and nothing says which may call; add --allow NETWORK, \
             for example --allow 172.16.0.0/12, or leave --listen out",
            args.listen
        );
        return Ok(Exit::Configuration);
    }
    let runtime = runtime()?;
    let simulator = runtime
        .block_on(Simulator::bind(Options::default()))
        .context("the simulator cannot start")?;
    let handle = simulator.handle();
    let ca_file = ca_file(&handle)?;
    let config = match config(args, &handle, &ca_file) {
        Ok(config) => config,
        Err(error) => {
            let _ = std::fs::remove_file(ca_file);
            eprintln!("bondgate: {error}");
            return Ok(Exit::Configuration);
        }
    };
    let logs = telemetry::init(&config.log)?;
    let daemon = match bind(config) {
        Ok(daemon) => daemon,
        Err(error) => {
            let _ = std::fs::remove_file(ca_file);
            return Ok(start_failed(
                error,
                "choose another address with --listen, for example: bondgate demo --listen localhost:8081",
            ));
        }
    };
    let _log_thread = logs.start(&daemon.metrics().log_lines_dropped);
    handle.put_samples(3);
    let outcome = runtime.block_on(async {
        let signals = DaemonSignals {
            signals: EarlySignals::install()?.and_stop()?,
            log: logs.file.clone(),
        };
        let simulating = tokio::spawn(simulator.run(std::future::pending()));
        let greeting = tokio::spawn(greet(daemon.readiness(), banner(&daemon, &handle)));
        let outcome = daemon.run(signals).await;
        greeting.abort();
        simulating.abort();
        outcome
    })?;
    let _ = std::fs::remove_file(ca_file);
    runtime.shutdown_background();
    Ok(exit(outcome))
}

/// Binds; where only the status page's port is taken, it goes to any free one.
fn bind(config: Config) -> Result<Daemon, StartError> {
    let mut elsewhere = config.clone();
    elsewhere.admin.address = ListenAddress::Localhost(0);
    let clock = Clock::default();
    Daemon::bind(config, &clock).or_else(|_| Daemon::bind(elsewhere, &clock))
}

fn config(args: &DemoArgs, handle: &Handle, ca_file: &Path) -> Result<Config, ConfigError> {
    let ca_file = ca_file.display().to_string();
    let mut places = vec![
        ("BONDGATE_LISTEN", args.listen.to_string()),
        ("BONDGATE_CA_FILE", ca_file),
        ("BONDGATE__UPSTREAM__CISCO__URL", handle.url()),
        ("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", handle.token_url()),
    ];
    if !args.allow.is_empty() {
        // Who tries it on this machine is meant too.
        places.push((
            "BONDGATE_ALLOW",
            format!("127.0.0.0/8,::1,{}", args.allow.join(",")),
        ));
    }
    let places = places.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut config = Config::parse(CONFIG, "demo.toml", places)?;
    // Nobody is served elsewhere, and the secret in it is no secret.
    config.server.lame_duck = Duration::ZERO;
    config.warnings.clear();
    Ok(config)
}

fn ca_file(handle: &Handle) -> anyhow::Result<std::path::PathBuf> {
    let port = handle.address().port();
    let path = std::env::temp_dir().join(format!("bondgate-demo-{}-{port}.pem", std::process::id()));
    let mut file =
        std::fs::File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(handle.ca_pem().as_bytes())?;
    Ok(path)
}

/// Says what to try as soon as it works.
async fn greet(mut readiness: Readiness, banner: String) {
    while !readiness.judge(true).0 {
        readiness.changed().await;
    }
    // Nobody may be reading any more; the daemon serves all the same.
    let _ = std::io::stdout().write_all(banner.as_bytes());
}

fn banner(daemon: &Daemon, handle: &Handle) -> String {
    let address = daemon.addresses().first().cloned().unwrap_or_default();
    // An unspecified address is none to call.
    let address = match address.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        _ => address,
    };
    let curl = match address.strip_prefix("unix:") {
        Some(path) => format!("curl -i --unix-socket {path} http://localhost"),
        None => format!("curl -i http://{address}"),
    };
    let path = "/sb-partner-oauth-proxy-api/rest/v1";
    format!(
        r#"
bondgate is running, with a simulator in Cisco's place. Nothing here reaches Cisco.

Pull a ticket update (three are waiting):
  {curl}{path}/pull/call

Push a ticket; what becomes of it comes back by pull:
  {curl}{path}/push/call -H "Content-Type: application/json" \
    -d '{{"Calls":{{"CustCallID":"INC0001","ShortDescription":"Router down"}},"CallStates":{{"ShortName":"New"}}}}'

What bondgate sent in your place, and faults to try:
  curl {control}/seen
  curl {control}/

Status and metrics: http://{admin}/
Ctrl-C ends it.

"#,
        control = handle.control_url(),
        admin = daemon.admin_address(),
    )
}
