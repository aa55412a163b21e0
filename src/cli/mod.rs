//! The command line: one file for each subcommand, the exit codes here.

mod admin_client;
mod check;
mod completions;
mod demo;
mod explain;
mod first_process;
mod init;
mod man;
mod output;
mod probe;
mod run;
mod service;
mod simulate;
mod spool;
mod status;
mod support;
mod systemd_units;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, ConfigError, Fault, find_file};
use crate::platform::hardening;
use crate::problems::Problem;
use crate::telemetry::program;

const ABOUT: &str = "A local authenticating reverse proxy for Cisco's Smart Bonding API: accepts plain HTTP, keeps a \
fresh OAuth 2.0 token and relays over HTTPS";

const AFTER: &str = "Start here:
  bondgate demo                       daemon and simulated API, without credentials
  bondgate init                       write a first configuration, and check it
  bondgate check --config FILE        check the configuration
  bondgate run --config FILE          run the daemon (the default command)
  bondgate status                     show what a running daemon does
  bondgate support                    write one file for a support case, without secrets
  bondgate explain CODE               explain a problem that bondgate reports

Configured by environment variables alone:
  BONDGATE_PRESET=smart-bonding-stage BONDGATE_CLIENT_ID=… BONDGATE_CLIENT_SECRET_FILE=/path bondgate

Exit codes:
  0  done or drained
  1  runtime failure, forced stop, or messages lost with a spool that does not outlive bondgate
  2  usage
  3  configuration, or this machine (check)
  4  network or outbound proxy (check)
  5  TLS or clock (check)
  6  token (check)
  7  API (check)";

#[derive(Parser)]
#[command(name = "bondgate", version = program::description(), about = ABOUT, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run(ConfigArgs),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
    Explain(explain::ExplainArgs),
    Init(init::InitArgs),
    Simulate(Box<simulate::SimulateArgs>),
    Probe(probe::ProbeArgs),
    Status(status::StatusArgs),
    Support(Box<support::SupportArgs>),
    Spool(spool::SpoolArgs),
    Service(service::ServiceArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

#[derive(Args, Clone)]
struct ConfigArgs {
    /// The configuration file [default: $BONDGATE_CONFIG, ./bondgate.toml, /etc/bondgate/bondgate.toml (on Windows
    /// %ProgramData%\bondgate\bondgate.toml), else the environment alone]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exit codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Configuration = 3,
    Network = 4,
    Tls = 5,
    Token = 6,
    Api = 7,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    hardening::protect_memory();
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Run(cli.config)) {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Simulate(args) => runtime().and_then(|runtime| {
            runtime.block_on(simulate::run(*args))?;
            Ok(Exit::Done)
        }),
        Command::Probe(args) => probe::run(args),
        Command::Status(args) => status::run(args),
        Command::Support(args) => support::run(*args),
        Command::Spool(args) => spool::run(&args),
        Command::Service(args) => service::run(args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
    };
    ExitCode::from(result.unwrap_or_else(|error| print_error(&error)) as u8)
}

impl Exit {
    /// The exit code that another process of this program had.
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Configuration,
            4 => Self::Network,
            5 => Self::Tls,
            6 => Self::Token,
            7 => Self::Api,
            _ => Self::Failed,
        }
    }
}

impl ConfigArgs {
    /// The configuration file, if there is one.
    fn file(self) -> Option<PathBuf> {
        find_file(self.config)
    }
}

/// Prints why a command failed; every fault of a configuration.
fn print_error(error: &anyhow::Error) -> Exit {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        output::problem(problem);
        return Exit::Failed;
    }
    let Some(ConfigError { faults, .. }) = error.downcast_ref() else {
        output::error(format_args!("{error:#}"));
        return Exit::Failed;
    };
    print_faults(faults);
    Exit::Configuration
}

/// Prints the faults of a configuration.
fn print_faults(faults: &[Fault]) {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    match &lines[..] {
        [] => {}
        [fault] => output::error(fault),
        faults => output::error(format_args!(
            "{} faults in the configuration:\n{}",
            faults.len(),
            faults.join("\n")
        )),
    }
}

/// Reads the configuration.
fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    Config::load(file, variables())
}

/// The variables of the environment. None of our names is anything but UTF-8; a value may be.
fn variables() -> impl Iterator<Item = (String, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
}

/// The control thread's runtime: it does everything but the workers' work.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
