//! The command line: one file for each subcommand, the exit codes here.

mod check;
mod demo;
mod probe;
mod run;
mod simulate;
mod spool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, find_file};
use crate::platform::hardening;

const ABOUT: &str = "A local authenticating reverse proxy for Cisco's Smart Bonding API: accepts plain HTTP, keeps a \
fresh OAuth 2.0 token and relays over HTTPS";

const AFTER: &str = "Start here:
  bondgate demo                       daemon and simulated API, without credentials
  bondgate check --config FILE        check the configuration
  bondgate run --config FILE          run the daemon (the default command)

Configured by environment variables alone:
  BONDGATE_PRESET=smart-bonding-stage BONDGATE_CLIENT_ID=… BONDGATE_CLIENT_SECRET_FILE=/path bondgate

Exit codes:
  0  done or drained
  1  runtime failure, forced stop, or messages lost from the memory spool
  2  usage
  3  configuration";

#[derive(Parser)]
#[command(name = "bondgate", version, about = ABOUT, after_help = AFTER, args_conflicts_with_subcommands = true)]
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
    Simulate(Box<simulate::SimulateArgs>),
    Probe(probe::ProbeArgs),
    Spool(spool::SpoolArgs),
}

#[derive(Args, Clone)]
struct ConfigArgs {
    /// The configuration file [default: $BONDGATE_CONFIG, ./bondgate.toml, /etc/bondgate/bondgate.toml, else the
    /// environment alone]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exit codes.
#[derive(Clone, Copy)]
enum Exit {
    Done = 0,
    Failed = 1,
    Configuration = 3,
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
        Command::Simulate(args) => runtime().and_then(|runtime| {
            runtime.block_on(simulate::run(*args))?;
            Ok(Exit::Done)
        }),
        Command::Probe(args) => probe::run(args),
        Command::Spool(args) => spool::run(&args),
    };
    ExitCode::from(result.unwrap_or_else(|error| print_error(&error)) as u8)
}

impl ConfigArgs {
    /// The configuration file, if there is one.
    fn file(self) -> Option<PathBuf> {
        find_file(self.config)
    }
}

/// Prints why a command failed; every fault of a configuration.
fn print_error(error: &anyhow::Error) -> Exit {
    let Some(ConfigError { faults, .. }) = error.downcast_ref() else {
        eprintln!("bondgate: {error:#}");
        return Exit::Failed;
    };
    match &faults[..] {
        [fault] => eprintln!("bondgate: {fault}"),
        faults => eprintln!("bondgate: {} faults in the configuration:\n{error}", faults.len()),
    }
    Exit::Configuration
}

/// Reads the configuration.
fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    // None of our names is anything but UTF-8; a value may be.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    Config::load(file, variables)
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
