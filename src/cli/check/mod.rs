//! `bondgate check`: the steps of a start, without starting, and with `--live` those of a call.

mod live;
mod report;
mod service;

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use clap::Args;
use serde_json::Value;

use self::report::{Outcome, Report};
pub(super) use self::service::Service;
use super::admin_client::AdminClient;
use super::{ConfigArgs, Exit, load, output, runtime, systemd_units};
use crate::config::{Config, ConfigError, Fault, ListenAddress};
use crate::daemon::{self, BindError, Findings, preflight};
use crate::platform::processes::is_administrator;
use crate::platform::sandbox::Sandbox;
use crate::platform::socket;
use crate::problems::{Problem, files, machine};
use crate::spool::{self, RequestedQueues};
use crate::tls;

/// Check the configuration and this machine, and name the cause and the fix of everything that a start would fail on
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no error; 3 configuration or machine; 4 network or outbound proxy; 5 TLS or clock; \
6 token; 7 API. With errors of several kinds, the smallest."
)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Also test DNS, outbound proxy, TLS, clock, token and API. Takes no message off a queue
    #[arg(long)]
    live: bool,

    /// Print every step as JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,

    /// Print every value and its source, secrets redacted
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let file = args.config.file();
    let mut report = Report::new(args.json);
    let mut place = file
        .as_deref()
        .map_or("the environment".to_owned(), |file| file.display().to_string());
    let mut loaded = load(file.as_deref());
    let service = Service::find(file.as_deref(), &mut loaded);
    if let Some(found) = service.found_in {
        place = format!("{place}, with the credentials {found},");
    }
    if args.print {
        settings(&loaded).iter().try_for_each(output::line)?;
    }
    let (config, mut findings) = daemon::inspect(loaded);
    let arguments = if args.live { " --live" } else { "" };
    let unchecked = service.correct(&mut findings, file.as_deref(), arguments);
    let Findings { faults, warnings } = findings;
    report.configuration(started, &place, &faults, &warnings)?;
    let Some(mut config) = config else {
        return Ok(report.finish(file.as_deref())?);
    };
    if !service.outdated.is_empty() {
        let outcome = Outcome {
            text: "those that the next start will have".to_owned(),
            problems: service.outdated.iter().map(files::credential_outdated).collect(),
            ..Outcome::default()
        };
        report.step("credentials", None, started, outcome)?;
    }
    let descriptors_started = Instant::now();
    let descriptors = preflight::fit_descriptors(&mut config);
    let descriptors = descriptors.map(|limit| match limit {
        usize::MAX => "no limit".to_owned(),
        limit => format!("this process may open {limit} files"),
    });
    report.step("descriptors", None, descriptors_started, descriptors)?;
    report.step("clock", None, Instant::now(), clock())?;
    check_machine(&config, file.as_deref(), &faults, &service, &mut report)?;
    if args.live {
        let unusable = [faults, unchecked].concat();
        runtime()?.block_on(live::check(&config, &unusable, &mut report))?;
    }
    Ok(report.finish(file.as_deref())?)
}

fn clock() -> Result<String, Problem> {
    let now = SystemTime::now();
    tls::clock_problem(now).map_or_else(|| Ok(tls::date(now)), Err)
}

/// A line for each value with its source, secrets redacted; of a configuration with faults, those that can be read.
pub(super) fn settings(loaded: &Result<Config, ConfigError>) -> Vec<String> {
    let settings = match loaded {
        Ok(config) => config.settings.iter().collect(),
        Err(error) => error.settings(),
    };
    let settings = settings.into_iter();
    let pairs: Vec<_> = settings
        .map(|setting| (format!("{} = {}", setting.key, setting.value), &setting.origin))
        .collect();
    let width = pairs.iter().map(|(pair, _)| pair.len()).max().unwrap_or(0);
    let width = width.min(72);
    let lines = pairs
        .iter()
        .map(|(pair, origin)| format!("{pair:width$}  # {origin}"));
    lines.collect()
}

/// Whether a fault concerns a key, or a key below it.
fn is_faulty(faults: &[Fault], key: &str) -> bool {
    faults.iter().any(|fault| {
        let fault = fault.key.to_string();
        let rest = fault.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The steps of a start that need this machine.
fn check_machine(
    config: &Config,
    file: Option<&Path>,
    faults: &[Fault],
    service: &Service,
    report: &mut Report,
) -> io::Result<()> {
    let started = Instant::now();
    report.step("ports", None, started, check_ports(config, file))?;
    let started = Instant::now();
    match (&config.spool.directory, &service.state_directory) {
        _ if is_faulty(faults, "spool.directory") => {
            report.skip("spool", None, "spool.directory has a fault")?;
        }
        (None, None) => report.step("spool", None, started, Ok("in memory".to_owned()))?,
        (None, Some(directory)) if !is_administrator() => {
            let directory = directory.display();
            let reason = format!("{directory} is not checked: systemd creates it for the service's user");
            report.skip("spool", None, &reason)?;
        }
        (Some(directory), _) | (None, Some(directory)) => {
            let mut text = directory.display().to_string();
            if config.spool.directory.is_none() {
                text += ", the service's StateDirectory= ($STATE_DIRECTORY is not set here)";
            }
            if !config.spool.persistent {
                text += ", which does not outlive the pod or container (spool.persistent = false)";
            }
            let mut problems = spool::check(directory);
            problems.extend(spool::check_files(directory));
            let requested = RequestedQueues::of(config.served_upstreams());
            problems.extend(spool::check_queues(directory, &requested));
            let outcome = Outcome {
                text,
                problems,
                ..Outcome::default()
            };
            report.step("spool", None, started, outcome)?;
        }
    }
    if !config.server.sandbox {
        return report.skip("sandbox", None, "server.sandbox is false");
    }
    if !Sandbox::IS_SUPPORTED {
        return report.skip("sandbox", None, "this system has none that bondgate supports");
    }
    let started = Instant::now();
    let (text, mut problems) = preflight::check_sandbox(config, file);
    let follows = |problem: &Problem| {
        let mut causes = faults.iter().map(|fault| fault.problem.entry());
        causes.any(|cause| cause.hides.contains(&problem.code()))
    };
    problems.retain(|problem| !follows(problem));
    let outcome = Outcome {
        text,
        problems,
        ..Outcome::default()
    };
    report.step("sandbox", None, started, outcome)
}

/// Whether each address can be listened on. A running bondgate holds those of the same configuration rightly.
fn check_ports(config: &Config, file: Option<&Path>) -> Outcome {
    let failed = preflight::check_listeners(config);
    let addresses = config.listeners.iter().map(|listener| &listener.address);
    let addresses: Vec<_> = addresses.chain([&config.admin.address]).collect();
    let missing = addresses.iter().filter_map(|address| match address {
        ListenAddress::Systemd(name) if !systemd_units::has_socket(name) => Some(name),
        _ => None,
    });
    let missing: Vec<_> = missing.map(machine::socket_not_inherited).collect();
    let is_held = !missing.is_empty() || failed.iter().any(|(_, _, error)| error.is_in_use());
    let running = is_held.then(|| Running::find(config)).flatten();
    let file = file.map_or("environment".into(), |file| {
        std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
    });
    let is_same = |running: &Running| running.configuration.as_ref() == Some(&file);
    let (mut problems, mut unusable) = (Vec::new(), Vec::new());
    for (setting, address, error) in failed {
        let holder = running.as_ref().filter(|running| running.holds(address));
        if !(error.is_in_use() && holder.is_some_and(is_same)) {
            problems.push(listen_problem(holder, &setting, address, &error));
            unusable.push(address);
        }
    }
    let usable = addresses
        .into_iter()
        .filter(|address| !unusable.contains(address));
    let usable = usable.map(|address| match address {
        ListenAddress::Systemd(_) => format!("{address} (bound by systemd, not checked)"),
        address => address.to_string(),
    });
    let mut text = usable.collect::<Vec<_>>().join(", ");
    match running.filter(is_same) {
        Some(_) if text.is_empty() => {}
        Some(running) => text = format!("{text}, held by {running}"),
        None => problems.extend(missing),
    }
    Outcome {
        text,
        problems,
        ..Outcome::default()
    }
}

/// The problems of a start that cannot listen.
pub(super) fn listen_problems(config: &Config) -> Vec<Problem> {
    let running = Running::find(config);
    let failed = preflight::check_listeners(config).into_iter();
    let problems = failed.map(|(setting, address, error)| {
        let holder = running.as_ref().filter(|running| running.holds(address));
        listen_problem(holder, &setting, address, &error)
    });
    problems.collect()
}

fn listen_problem(
    holder: Option<&Running>,
    setting: &str,
    address: &ListenAddress,
    error: &BindError,
) -> Problem {
    if !error.is_in_use() {
        return error.problem(setting);
    }
    let held = |holder: &dyn Display| machine::port_held_by_bondgate(address, holder, setting);
    match holder {
        Some(demo) if demo.configuration.is_none() => machine::port_taken(address, demo, setting),
        Some(holder) => held(holder),
        None => other_bondgate(address).map_or_else(|| error.problem(setting), |other| held(&other)),
    }
}

/// The bondgate that listens on a port, where the system shows it. Its admin listener is elsewhere.
fn other_bondgate(address: &ListenAddress) -> Option<String> {
    let port = match address {
        ListenAddress::Localhost(port) => *port,
        ListenAddress::Socket(address) => address.port(),
        ListenAddress::Unix(_) | ListenAddress::Systemd(_) => return None,
    };
    socket::listening_program(port).filter(|program| program.starts_with("bondgate ("))
}

/// A bondgate that runs on this machine.
struct Running {
    pid: u64,
    configuration: Option<PathBuf>,
    addresses: Vec<String>,
}

impl Running {
    fn holds(&self, address: &ListenAddress) -> bool {
        self.addresses.contains(&address.to_string())
    }

    /// The one at the configured admin address.
    fn find(config: &Config) -> Option<Self> {
        let response = AdminClient::of(&config.admin).ok()?.get("/status.json").ok()?;
        let status: Value = serde_json::from_str(&response.body).ok()?;
        let listeners = status["listeners"].as_array()?.iter();
        let addresses = listeners.filter_map(|listener| Some(listener["address"].as_str()?.to_owned()));
        Some(Self {
            pid: status["pid"].as_u64()?,
            configuration: status["configuration"].as_str().map(PathBuf::from),
            addresses: addresses.chain([config.admin.address.to_string()]).collect(),
        })
    }
}

impl Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.configuration {
            Some(file) => {
                let file = output::escaped(&file.to_string_lossy());
                write!(f, "the bondgate of {file} (pid {})", self.pid)
            }
            None => write!(f, "a `bondgate demo` (pid {})", self.pid),
        }
    }
}
