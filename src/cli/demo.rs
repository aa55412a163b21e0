//! `bondgate demo`: the simulator and the daemon in one process, for a first look.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::runtime::Runtime;

use super::run::{run_to_end, start_failed};
use super::{Exit, output, runtime};
use crate::config::{Config, ConfigError, ListenAddress};
use crate::daemon::{BindError, Daemon, Readiness};
use crate::platform::files;
use crate::platform::shell::{CONTINUED, CURL, literal};
use crate::platform::signals::Signals;
use crate::simulator::{Handle, Options, Simulator};
use crate::telemetry;
use crate::token::Clock;

/// Run the simulator and the daemon in one process, without credentials and network; prints curl lines to try
#[derive(Args)]
#[command(after_help = "Nothing here reaches Cisco. Ctrl-C ends it.")]
pub(super) struct DemoArgs {
    /// Where to listen for callers
    #[arg(long, value_name = "ADDRESS", default_value = "localhost:8080")]
    listen: ListenAddress,

    /// Networks whose callers are allowed beside this machine; for --listen off loopback, as in a container
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    allow: Vec<String>,
}

/// The daemon's configuration, except for the addresses and files that are known only at the start.
const CONFIG: &str = include_str!("../../config/demo.toml");

/// What the banner pushes.
const TICKET: &str =
    r#"{"Calls":{"CustCallID":"INC0001","ShortDescription":"Router down"},"CallStates":{"ShortName":"New"}}"#;

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    if !args.listen.is_local() && args.allow.is_empty() {
        output::error(format_args!(
            "{} can be reached from other machines, and nothing limits the callers; add --allow NETWORK, \
             for example --allow 172.16.0.0/12, or leave --listen out",
            args.listen
        ));
        return Ok(Exit::Configuration);
    }
    let runtime = runtime()?;
    let simulator = runtime
        .block_on(Simulator::bind(Options::default()))
        .context("the simulator cannot start")?;
    // In memory, so that no file is left behind however the demo ends.
    let (_open, ca_file) = files::create_in_memory("simulator-ca", simulator.handle().ca_pem())?;
    serve(args, runtime, simulator, &ca_file)
}

fn serve(args: &DemoArgs, runtime: Runtime, simulator: Simulator, ca_file: &Path) -> anyhow::Result<Exit> {
    let cisco = simulator.handle();
    let config = config(args, &cisco, ca_file)?;
    let log = telemetry::init(&config.log)?;
    let daemon = match bind(config) {
        Ok(daemon) => daemon.with_log(log.recent()),
        Err(error) => {
            let bind = error.downcast_ref::<BindError>();
            let problem = bind.map(|error| error.problem("--listen"));
            return start_failed(error, problem.as_slice());
        }
    };
    let _log_thread = log.start(&daemon.metrics().log_lines_dropped);
    cisco.put_samples(3);
    runtime.spawn(simulator.run(std::future::pending()));
    runtime.spawn(greet(daemon.readiness(), banner(&daemon, &cisco)));
    let signals = runtime.block_on(async { Signals::install() })?;
    run_to_end(runtime, daemon, signals, &log)
}

/// Binds; if only the admin port is taken, another free one is used.
fn bind(config: Config) -> anyhow::Result<Daemon> {
    let mut with_free_port = config.clone();
    with_free_port.admin.address = ListenAddress::Localhost(0);
    let clock = Clock::default();
    Daemon::bind(config, &clock).or_else(|_| Daemon::bind(with_free_port, &clock))
}

fn config(args: &DemoArgs, cisco: &Handle, ca_file: &Path) -> Result<Config, ConfigError> {
    // An address needs no lookup: an empty image has no /etc/hosts.
    let url = format!("https://{}", cisco.address());
    let token_url = cisco.token_url().replace(&cisco.url(), &url);
    let mut overrides = vec![
        ("BONDGATE_LISTEN", args.listen.to_string()),
        ("BONDGATE_CA_FILE", ca_file.display().to_string()),
        ("BONDGATE__UPSTREAM__CISCO__URL", url),
        ("BONDGATE__UPSTREAM__CISCO__TOKEN_URL", token_url),
    ];
    if !args.allow.is_empty() {
        // This machine stays allowed.
        let networks = format!("127.0.0.0/8,::1,{}", args.allow.join(","));
        overrides.push(("BONDGATE_ALLOW", networks));
    }
    let overrides = overrides
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let mut config = Config::parse(CONFIG, "demo.toml", overrides)?;
    // No load balancer has to notice the stop, and the inline secret is no secret.
    config.server.lame_duck = Duration::ZERO;
    config.warnings.clear();
    Ok(config)
}

/// Prints what to try once the daemon is ready.
async fn greet(readiness: Readiness, banner: String) {
    while !readiness.check(true, true).0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A closed stdout must not end the daemon.
    let _ = std::io::stdout().write_all(banner.as_bytes());
}

fn banner(daemon: &Daemon, cisco: &Handle) -> String {
    let address = daemon.addresses().first().cloned().unwrap_or_default();
    // An unspecified address cannot be called.
    let address = match address.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        _ => address,
    };
    let curl = match address.strip_prefix("unix:") {
        Some(path) => format!("{CURL} -i --unix-socket {path} http://localhost"),
        None => format!("{CURL} -i http://{address}"),
    };
    let path = "/sb-partner-oauth-proxy-api/rest/v1";
    format!(
        r#"
bondgate is running, with a simulator in place of Cisco. Nothing here reaches Cisco.

Pull a ticket update (three are waiting):
  {curl}{path}/pull/call

Push a ticket; a later pull returns the result:
  {curl}{path}/push/call -H "Content-Type: application/json"{CONTINUED}-d {ticket}

The requests that bondgate sent, and faults to try:
  {CURL} {control}/seen
  {CURL} {control}/

Status and metrics: http://{admin}/
Ctrl-C ends it.

"#,
        ticket = literal(TICKET),
        control = cisco.control_url(),
        admin = daemon.admin_address(),
    )
}
